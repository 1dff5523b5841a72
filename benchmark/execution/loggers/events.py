"""The events that loggers get, and the listener that passes them on without delaying the runs."""

import queue
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmark.analysis.curves import VALIDATION, read_curve
from benchmark.core.errors import on_one_line, printable
from benchmark.core.record import Record
from benchmark.core.spec import RunSpec
from benchmark.execution.loggers.samples import samples
from benchmark.execution.tasks import Listener
from benchmark.results.load import numbers_of
from benchmark.results.validate import spec_of

POINTS, SECONDS = 200, 2.0
"""Points of a curve, and time, after which they are handed on together."""

PATIENCE_SECONDS = 30.0
"""For a logger to finish after the last run."""

Points = Sequence[tuple[int, Mapping[str, float]]]
"""Steps, from 1, each with values by name."""


@dataclass(frozen=True)
class LoggedRun:
    """A run as a logger shows it.

    Attributes:
        id: of the run; a run that is resumed has the same.
        suite: its suite.
        name: which run it is, for people.
        settings: what was asked for, by dotted names.
        first_step: of the steps that follow; above 1 where the run was resumed.
    """

    id: str
    suite: str
    name: str
    settings: Mapping[str, str | int | float | bool]
    first_step: int


class Logger(Protocol):
    """A program that receives events. All calls come from one thread; any may raise."""

    def start(self, run: LoggedRun) -> None:
        """A run begins or resumes."""

    def curve(self, run_id: str, points: Points) -> None:
        """Points of its curves: loss, images_per_second, val_miou."""

    def pictures(self, run_id: str, pictures: Mapping[str, np.ndarray]) -> None:
        """By image: (H, W, 3) uint8, image, label and prediction side by side."""

    def finish(self, run_id: str, record: Record, numbers: Mapping[str, float]) -> None:
        """A run has ended, as its record says; `numbers` are its metrics and costs."""

    def close(self) -> None:
        """Nothing follows."""


@dataclass
class _Followed:
    """A run that is under way.

    Attributes:
        told: when its points were handed on, in seconds.
        points: those since then.
        validated: steps of the points of its validation curve that there were.
    """

    told: float
    points: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    validated: set[int] = field(default_factory=set)


class Logged:
    """A listener that hands on all events, and tells loggers about runs.

    Each logger runs in its own thread: a slow one delays nothing, and one that fails is
    dropped with one warning.

    Args:
        listener: gets every event.
        loggers: by name.
        results: folder of the results.
        data: data root of benchmarks that read files.
    """

    def __init__(
        self, listener: Listener, loggers: Mapping[str, Logger], results: Path, data: Path | None
    ) -> None:
        self._listener, self._results, self._data = listener, results, data
        self._threads = [_Thread(name, logger) for name, logger in loggers.items()]
        self._runs: dict[str, _Followed] = {}
        self._resumed: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def cell_started(self, spec: RunSpec) -> None:
        """Forgets an attempt whose process died."""
        self._listener.cell_started(spec)
        self._runs.pop(spec.run_id, None)
        self._resumed.pop(spec.run_id, None)

    def resumed(self, spec: RunSpec, step: int) -> None:
        """Remembers that what was before was told by another command."""
        self._listener.resumed(spec, step)
        self._resumed[spec.run_id] = step

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Collects a point of the curve."""
        self._listener.step(spec, step, loss, images_per_second)
        run = self._followed(spec, step)
        run.points.append((step, {"loss": loss, "images_per_second": images_per_second}))
        if len(run.points) >= POINTS or time.monotonic() - run.told > SECONDS:
            self._flush(spec.run_id)

    def validated(self, spec: RunSpec, step: int, miou: float) -> None:
        """Hands on a point of the validation curve, and what was collected before it."""
        self._listener.validated(spec, step, miou)
        run = self._followed(spec, max(step, self._resumed.get(spec.run_id, 0) + 1))
        run.points.append((step, {VALIDATION: miou}))
        run.validated.add(step)
        self._flush(spec.run_id)

    def cell_finished(self, record: Record) -> None:
        """Hands on the rest of the curves, scores, costs and pictures."""
        self._listener.cell_finished(record)
        if record.run_id not in self._runs and record.metrics is None:
            return  # it never began
        run = self._followed(spec_of(record), int(record.protocol["steps"]))
        self._flush(record.run_id)
        if record.metrics is not None:
            folder = self._results / spec_of(record).folder
            steps, scores = read_curve(folder, VALIDATION) or ((), ())
            since = self._resumed.get(record.run_id, 0)
            # Of a run that was trained elsewhere, nothing came while it trained.
            run.points = [
                (int(step), {VALIDATION: float(score)})
                for step, score in zip(steps, scores, strict=True)
                if step > since and step not in run.validated
            ]
            self._flush(record.run_id)
            self._tell("pictures", record.run_id, samples(folder, record.benchmark, self._data))
        self._tell("finish", record.run_id, record, numbers_of(record))
        del self._runs[record.run_id]

    def close(self) -> None:
        """Waits for the loggers, but not for ever."""
        end = time.monotonic() + PATIENCE_SECONDS
        for thread in self._threads:
            thread.events.put(None)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                left = thread.events.qsize()
                _warn(f"--log {thread.name} took too long and was left; {left} events are missing")

    def _followed(self, spec: RunSpec, step: int) -> "_Followed":
        """A run that loggers know; one that is new begins with a step."""
        if spec.run_id in self._runs:
            return self._runs[spec.run_id]
        name = f"{spec.benchmark} / {spec.backbone} / {spec.method_label} / seed {spec.seed}"
        own = spec.model_dump(mode="json", exclude={"tuning", "method_label", "benchmark_version"})
        settings = {key: own[key] for key in own if key not in ("protocol", "method_params")}
        for part, short in (("method_params", spec.method), ("protocol", "protocol")):
            settings |= {f"{short}.{field}": value for field, value in own[part].items()}
        self._tell("start", LoggedRun(spec.run_id, spec.suite, name, settings, step))
        return self._runs.setdefault(spec.run_id, _Followed(time.monotonic()))

    def _flush(self, run_id: str) -> None:
        run = self._runs[run_id]
        if run.points:
            self._tell("curve", run_id, run.points)
        run.points, run.told = [], time.monotonic()

    def _tell(self, event: str, *content: Any) -> None:
        for thread in self._threads:
            thread.events.put((event, content))


class _Thread(threading.Thread):
    """Tells one logger, until it fails."""

    def __init__(self, name: str, logger: Logger) -> None:
        super().__init__(name=name, daemon=True)
        self.events: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._logger = logger
        self.start()

    def run(self) -> None:
        """Hands events on in their order."""
        try:
            while (event := self.events.get()) is not None:
                name, content = event
                getattr(self._logger, name)(*content)
            self._logger.close()
        except Exception as error:  # whatever a server or a package raises
            _warn(f"--log {self.name} stopped, the runs go on: {on_one_line(error)[:300]}")


def _warn(text: str) -> None:
    warnings.warn(printable(text), stacklevel=3)


@contextmanager
def logged(
    listener: Listener, loggers: Mapping[str, Logger], results: Path, data: Path | None
) -> Iterator[Listener]:
    """A listener that tells loggers inside the block; see `Logged`."""
    if not loggers:
        yield listener
        return
    made = Logged(listener, loggers, results, data)
    try:
        yield made
    finally:
        made.close()
