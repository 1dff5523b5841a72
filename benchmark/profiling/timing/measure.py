"""Measures the methods of a group in turns: training steps and forward passes."""

import contextlib
import datetime
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.machine import device_name
from benchmark.core.spec import RunSpec
from benchmark.engine.build import build_segmenter
from benchmark.engine.latency import BATCHES, Forward, blank
from benchmark.execution.environment import Environment
from benchmark.execution.probe import Rehearsal
from benchmark.models.delta import count_parameters
from benchmark.models.precision import cast_frozen
from benchmark.planning.catalogue import build_method
from benchmark.profiling.speed.loops import Harness, rehearse
from benchmark.profiling.speed.rounds import Loop, take_turns
from benchmark.profiling.timing.machine_load import Watcher
from benchmark.results import provenance
from benchmark.results.timing import Machine, Measured, Timing
from benchmark.results.timing_columns import KINDS

HELD_BYTES = 2**31
"""Bytes of the models that are kept between turns; others are rebuilt for each turn."""

SETTLE = 1
"""Steps of a turn that are not timed; what is made only once is made in the first round."""

_IMAGES = dict(zip(("latency", "latency8"), BATCHES, strict=True))
"""Images of a forward pass, by kind."""


@dataclass
class Shelf:
    """Models by name; as many are kept as fit in memory.

    Those that were built first are kept: all are used in turn, so keeping the latest would never
    help. Of the others, only the latest exists until the next is built.

    Attributes:
        limit: bytes of the models that are kept.
        over: whether some are not kept.
    """

    limit: int = HELD_BYTES
    over: bool = False
    _kept: dict[str, Rehearsal] = field(default_factory=dict)
    _latest: dict[str, Rehearsal] = field(default_factory=dict)
    _bytes: int = 0

    def take(self, name: str, build: Callable[[], Rehearsal]) -> Rehearsal:
        """The model of a name, built where it is not there."""
        for place in (self._kept, self._latest):
            if name in place:
                return place[name]
        self._latest.clear()
        made = build()
        tensors = [*made.segmenter.parameters(), *made.segmenter.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        fits = self._bytes + size <= self.limit
        (self._kept if fits else self._latest)[name] = made
        self._bytes += size if fits else 0
        self.over = self.over or not fits
        return made


@dataclass(frozen=True)
class Candidate:
    """A method whose times are measured.

    Attributes:
        cell: of the method.
        environment: where.
        shelf: holds what was built.
    """

    cell: RunSpec
    environment: Environment
    shelf: Shelf

    def loops(self) -> dict[str, Loop]:
        """By kind what is timed; merged ones only where the method inserts what can be merged."""
        loops: dict[str, Loop] = {"training": self._train}
        loops |= {kind: self._forward(images, False) for kind, images in _IMAGES.items()}
        method = build_method(self.cell.method, self.cell.method_params)
        if method.mergeable:
            where = self.environment
            built = build_segmenter(self.cell, method, where.weights, where.device)
            if count_parameters(*built).inserted:
                merged = {f"{kind}_merged": self._forward(n, True) for kind, n in _IMAGES.items()}
                loops |= merged
        return loops

    def model(self, merged: bool = False) -> Rehearsal:
        """The method on its backbone, at the beginning of its training."""

        def build() -> Rehearsal:
            made = rehearse(self.cell, self.environment)
            if merged:
                made.method.merge(made.segmenter.backbone)
            return made

        return self.shelf.take(f"{self.cell.method_label}{', merged' * merged}", build)

    def _train(self, steps: int, mark: Callable[[], None]) -> None:
        rehearsal = self.model()
        Harness(rehearsal)(steps, mark)
        rehearsal.segmenter.zero_grad()  # lets go of the gradients until the next turn

    def _forward(self, images: int, merged: bool) -> Loop:
        passes = 4 if images == 1 else 1  # a pass of one image is short, and its time scatters

        def loop(steps: int, mark: Callable[[], None]) -> None:
            rehearsal = self.model(merged)
            segmenter, precision = rehearsal.segmenter.eval(), rehearsal.compute.precision
            forward = Forward(segmenter, precision)
            batch = blank(segmenter, self.cell.protocol, images)
            with torch.inference_mode(), cast_frozen(segmenter, precision):
                for _ in range(steps * passes):
                    forward(batch)
                    mark()

        return loop


def measure(
    cells: Sequence[RunSpec],
    environment: Environment,
    *,
    steps: int,
    rounds: int,
    threads: int,
    tell: Callable[[str], None],
) -> tuple[Timing, dict[str, str]]:
    """Measures the methods of a group side by side.

    In every round each method has its turn: training steps and forward passes, warm. So other load
    affects all of them alike.

    Args:
        cells: one a method, of one suite, backbone, kind of weights and protocol, on one benchmark.
        environment: where; its data and weights were looked at by `preflight`.
        steps: timed training steps a turn.
        rounds: measured ones, after one that is not.
        threads: of this process, on a CPU.
        tell: called with what is running.

    Returns:
        The times, and by label why a method, or a part of it, could not be measured.
    """
    first, watcher, start = cells[0], Watcher(), time.perf_counter()
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    problems: dict[str, str] = {}
    shelf = Shelf()
    loops: dict[str, Loop] = {}
    found: dict[str, tuple[str, str]] = {}
    with _threads(threads):
        precision = ""
        for cell in cells:
            candidate = Candidate(cell, environment, shelf)
            tell(f"building: {cell.method_label}")
            for kind, loop in _tried(candidate, problems).items():
                name = f"{cell.method_label}, {kind}"
                loops[name], found[name] = loop, (cell.method_label, kind)
                precision = candidate.model().compute.precision
        if not loops:
            raise UserError(f"no method could be measured: {'; '.join(problems.values())}")
        if not shelf.over:
            # One kind after the other, so that what is compared is measured within moments. Where
            # models are rebuilt, one method after the other: each is built once a round.
            kinds = list(KINDS)
            order = sorted(loops, key=lambda name: kinds.index(found[name][1]))
            loops = {name: loops[name] for name in order}
        times = take_turns(loops, steps, rounds, environment.device, tell, SETTLE)
    seconds: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, (label, kind) in found.items():
        seconds.setdefault(label, {})[kind] = tuple(times[name])
    commit, dirty = provenance.git_state()
    timing = Timing(
        suite=first.suite,
        benchmark=first.benchmark,
        backbone=first.backbone,
        weights=first.weights,
        protocol=first.protocol.model_dump(),
        protocol_hash=first.protocol.hash,
        measured=began,
        duration=round(time.perf_counter() - start, 1),
        rounds=rounds,
        steps=steps,
        machine=Machine(
            device=device_name(str(environment.device)),
            threads=threads,
            precision=precision,
            platform=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            packages=provenance.package_versions(),
            git_commit=commit,
            git_dirty=dirty,
        ),
        load=watcher.load(),
        methods={
            cell.method_label: Measured(
                method=cell.method,
                method_params=cell.method_params,
                seconds=seconds[cell.method_label],
            )
            for cell in cells
            if cell.method_label in seconds
        },
    )
    return timing, problems


def _tried(candidate: Candidate, problems: dict[str, str]) -> dict[str, Loop]:
    """The loops of a method that complete a step; why others do not goes to `problems`."""
    label, works = candidate.cell.method_label, {}
    try:
        for kind, loop in candidate.loops().items():
            loop(1, lambda: None)
            works[kind] = loop
    except UserError:
        raise
    except Exception as error:  # one method must not stop the others
        problems[label] = on_one_line(error)
    return works


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)
