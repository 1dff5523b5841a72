"""Estimates what the remaining cells will take from earlier runs.

Runs in, numbers out: nothing is read from disk or measured here. The estimate is the median of the
runs that share most with a cell (`SPEED`, `OTHERS`, `SIZE`). Where their crop or batch differs,
time and memory are taken to grow with the pixels.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmark.core.spec import Protocol, RunSpec
from benchmark.results.index import Entry

Keys = tuple[str, ...]

SPEED: tuple[Keys, ...] = (
    ("method", "backbone", "crop", "device"),
    ("method", "backbone", "device"),
    ("method", "backbone"),
    ("backbone", "device"),
    ("backbone",),
)
"""What runs must share with a cell to estimate its speed and memory, the best basis first."""

OTHERS: tuple[Keys, ...] = (
    ("method", "backbone", "benchmark", "device"),
    ("backbone", "benchmark", "device"),
    ("backbone", "benchmark"),
    ("backbone", "device"),
    ("backbone",),
)
"""The same for the phases besides training: evaluation depends on the benchmark most."""

SIZE: tuple[Keys, ...] = (
    ("method", "backbone", "benchmark"),
    ("method", "backbone"),
    ("backbone",),
)
"""The same for what a run leaves on disk."""

STORED = SIZE[:1]
"""The same for the size of its delta: a decoder of other classes has another one."""


START_SECONDS = 10.0
"""What `run` takes besides its cells on two idle cores: starting processes, checks, tables."""


class Expected(NamedTuple):
    """What one cell will take; None where no run gives an estimate."""

    seconds: float | None
    memory_bytes: int | None
    disk_bytes: int | None
    stored_bytes: int | None
    rough: bool = False  # the seconds are those of another machine


@dataclass(frozen=True)
class Forecast:
    """What cells will take together.

    Attributes:
        cells: their number.
        without_basis: how many of them have no estimate of their time; they are in no sum.
        rough: how many have one from another machine only.
        device_seconds: of all others.
        disk_bytes: that those which are known will add.
        memory_bytes: the largest peak of a cell; 0 where none is known.
    """

    cells: int
    without_basis: int
    rough: int
    device_seconds: float
    disk_bytes: int
    memory_bytes: int


class _Grouped:
    """The runs that have a value, looked up by what they share with a cell."""

    def __init__(
        self, runs: Iterable[Entry], levels: Sequence[Keys], has: Callable[[Entry], object]
    ) -> None:
        self._levels: list[tuple[Keys, dict[tuple[object, ...], list[Entry]]]] = []
        known = [run for run in runs if has(run) is not None]
        for keys in levels:
            groups: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
            for run in known:
                groups[tuple(getattr(run, key) for key in keys)].append(run)
            self._levels.append((keys, dict(groups)))

    def like(self, wanted: dict[str, object]) -> list[Entry]:
        """The runs of the first level that has any."""
        for keys, groups in self._levels:
            found = groups.get(tuple(wanted[key] for key in keys))
            if found:
                return found
        return []


class Forecaster:
    """Estimates what a cell will take from earlier runs.

    Args:
        runs: of any status; those that lack a number do not count for it, nor do unfinished ones
            for memory and disk.
        device: what the cells will run on, as records name it.
        otherwise: asked for what these runs do not tell; rough.
    """

    def __init__(
        self, runs: Sequence[Entry], device: str, otherwise: "Forecaster | None" = None
    ) -> None:
        self._device, self._otherwise = device, otherwise
        self._speed = _Grouped(runs, SPEED, lambda run: run.images_per_second)
        # Other runs ended before they needed, or left, what a finished one does.
        done = [run for run in runs if run.status == "done"]
        self._memory = _Grouped(done, SPEED, lambda run: run.memory_bytes)
        self._others = _Grouped(runs, OTHERS, lambda run: run.other_seconds)
        self._disk = _Grouped(done, SIZE, lambda run: run.disk_bytes)
        self._stored = _Grouped(done, STORED, lambda run: run.stored_bytes)
        self._known: dict[tuple[object, ...], Expected] = {}

    def expected(self, cell: RunSpec) -> Expected:
        """What one cell will take."""
        protocol = cell.protocol
        wanted: dict[str, object] = {
            "method": cell.method_label,
            "backbone": cell.backbone,
            "benchmark": cell.benchmark,
            "crop": protocol.crop,
            "device": self._device,
        }
        key = (*wanted.values(), protocol.batch_size, protocol.steps)
        if key not in self._known:
            found = self._expect(wanted, protocol)
            if self._otherwise is not None:
                found = _completed(found, self._otherwise.expected(cell))
            self._known[key] = found
        return self._known[key]

    def _expect(self, wanted: dict[str, object], protocol: Protocol) -> Expected:
        images, pixels = protocol.batch_size, protocol.crop**2
        # Pixels a second: a crop of twice the side takes four times as long.
        rates = [
            run.images_per_second * ((run.crop or protocol.crop) ** 2 / pixels)
            for run in self._speed.like(wanted)
            if run.images_per_second
        ]
        # Weights do not shrink with the crop, so the estimate never goes below what was measured.
        peaks = [
            run.memory_bytes * max(1.0, images * pixels / _batch_pixels(run, protocol))
            for run in self._memory.like(wanted)
            if run.memory_bytes is not None
        ]
        others = [run.other_seconds or 0.0 for run in self._others.like(wanted)]
        sizes = [run.disk_bytes or 0 for run in self._disk.like(wanted)]
        stored = [run.stored_bytes or 0 for run in self._stored.like(wanted)]
        seconds = protocol.steps * images / median(rates) if rates else None
        if seconds is not None and others:
            seconds += median(others)
        return Expected(
            seconds,
            round(median(peaks)) if peaks else None,
            round(median(sizes)) if sizes else None,
            round(median(stored)) if stored else None,
        )


def _completed(found: Expected, other: Expected) -> Expected:
    """What is known, and where something is not, that of another machine."""
    return Expected(
        other.seconds if found.seconds is None else found.seconds,
        other.memory_bytes if found.memory_bytes is None else found.memory_bytes,
        other.disk_bytes if found.disk_bytes is None else found.disk_bytes,
        other.stored_bytes if found.stored_bytes is None else found.stored_bytes,
        rough=found.seconds is None and other.seconds is not None,
    )


def _batch_pixels(run: Entry, protocol: Protocol) -> int:
    """Pixels of the batches that a run was trained on; those of the cell where it does not say."""
    return (run.batch_size or protocol.batch_size) * (run.crop or protocol.crop) ** 2


def forecast(cells: Sequence[RunSpec], forecaster: Forecaster) -> Forecast:
    """What cells will take together."""
    expected = [forecaster.expected(cell) for cell in cells]
    return Forecast(
        cells=len(cells),
        without_basis=sum(one.seconds is None for one in expected),
        rough=sum(one.rough for one in expected),
        device_seconds=sum(one.seconds or 0.0 for one in expected),
        disk_bytes=sum(one.disk_bytes or 0 for one in expected),
        memory_bytes=max((one.memory_bytes or 0 for one in expected), default=0),
    )


def side_by_side(cells: Sequence[RunSpec], forecaster: Forecaster, jobs: int) -> float:
    """Seconds of a whole command where several cells run at a time, in the order of the plan.

    Nothing else is taken to use the machine, so this is the least that it will take.

    Args:
        cells: those without an estimate take no time.
        forecaster: says how long each takes.
        jobs: cells at a time.
    """
    free = [0.0] * jobs
    for cell in cells:
        heapq.heapreplace(free, free[0] + (forecaster.expected(cell).seconds or 0.0))
    return START_SECONDS + max(free)


def too_large(
    cells: Sequence[RunSpec], forecaster: Forecaster, available_bytes: int
) -> list[tuple[RunSpec, int]]:
    """The cells that will not fit into memory, each with the bytes that it will need."""
    found = []
    for cell in cells:
        need = forecaster.expected(cell).memory_bytes
        if need is not None and need > available_bytes:
            found.append((cell, need))
    return found
