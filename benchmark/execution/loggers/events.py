"""The events that loggers get, and the listener that passes them on without delaying the runs."""

import queue
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
        self._points: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
        self._told: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def cell_started(self, spec: RunSpec) -> None:
        """Forgets an attempt whose process died."""
        self._listener.cell_started(spec)
        self._points.pop(spec.run_id, None)

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Collects a point of the curve."""
        self._listener.step(spec, step, loss, images_per_second)
        if spec.run_id not in self._points:
            self._begin(spec, step)
        points = self._points[spec.run_id]
        points.append((step, {"loss": loss, "images_per_second": images_per_second}))
        if len(points) >= POINTS or time.monotonic() - self._told[spec.run_id] > SECONDS:
            self._flush(spec.run_id)

    def cell_finished(self, record: Record) -> None:
        """Hands on the rest of the curves, scores, costs and pictures."""
        self._listener.cell_finished(record)
        if record.run_id not in self._points:
            if record.metrics is None:
                return  # it never began
            self._begin(spec_of(record), int(record.protocol["steps"]))
        self._flush(record.run_id)
        if record.metrics is not None:
            folder = self._results / spec_of(record).folder
            steps, scores = read_curve(folder, VALIDATION) or ((), ())
            points = [(int(s), {VALIDATION: float(v)}) for s, v in zip(steps, scores, strict=True)]
            self._tell("curve", record.run_id, points)
            self._tell("pictures", record.run_id, samples(folder, record.benchmark, self._data))
        self._tell("finish", record.run_id, record, numbers_of(record))
        del self._points[record.run_id]

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

    def _begin(self, spec: RunSpec, step: int) -> None:
        self._points[spec.run_id], self._told[spec.run_id] = [], time.monotonic()
        name = f"{spec.benchmark} / {spec.backbone} / {spec.method_label} / seed {spec.seed}"
        own = spec.model_dump(mode="json", exclude={"tuning", "method_label", "benchmark_version"})
        settings = {key: own[key] for key in own if key not in ("protocol", "method_params")}
        for part, short in (("method_params", spec.method), ("protocol", "protocol")):
            settings |= {f"{short}.{field}": value for field, value in own[part].items()}
        self._tell("start", LoggedRun(spec.run_id, spec.suite, name, settings, step))

    def _flush(self, run_id: str) -> None:
        self._tell("curve", run_id, self._points[run_id])
        self._points[run_id], self._told[run_id] = [], time.monotonic()

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
