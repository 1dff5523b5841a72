"""What a cell needs of the machine that runs it, by forecast, and cells packed into jobs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from benchmark.core.spec import RunSpec
from benchmark.planning.forecast import Forecaster

LEAST_MINUTES = 10.0
"""Of a job of a batch system, where there are cells enough: starting one takes a while."""
SPARE = 1.5
"""Times the memory of earlier runs that is asked for."""
PROCESS_BYTES = 2**30
"""On top of it: Python, torch, crops."""
SHARES = 4
"""Cells that share a GPU at most; more would wait for each other."""


@dataclass(frozen=True)
class Needs:
    """What a cell needs.

    Attributes:
        cores: it trains with as many threads.
        memory_bytes: of the host; None = not known.
        gpus: 0, 1, or a part of one.
        minutes: it will take; None = no earlier run tells.
    """

    cores: int = 1
    memory_bytes: int | None = None
    gpus: float = 0.0
    minutes: float | None = None


class Needing(Protocol):
    """Something with needs."""

    @property
    def needs(self) -> Needs:
        """What it needs."""


Item = TypeVar("Item", bound=Needing)


def needs_of(
    cell: RunSpec, forecaster: Forecaster, device: str, cores: int, gpu_bytes: int | None = None
) -> Needs:
    """The needs of a cell.

    Args:
        cell: what is run.
        forecaster: of earlier runs.
        device: cpu or cuda.
        cores: of each cell.
        gpu_bytes: memory of a GPU, which cells then share if they fit; None = a GPU each.
    """
    expected = forecaster.expected(cell)
    minutes = None if expected.seconds is None else expected.seconds / 60
    memory = None if expected.memory_bytes is None else int(SPARE * expected.memory_bytes)
    if device == "cpu":
        return Needs(cores, None if memory is None else PROCESS_BYTES + memory, 0.0, minutes)
    gpus = 1.0
    if gpu_bytes is not None and memory is not None:
        gpus = 1 / max(1, min(SHARES, gpu_bytes // (PROCESS_BYTES + memory)))
    return Needs(cores, None, gpus, minutes)


def pack(items: Sequence[Item], least: float = LEAST_MINUTES) -> list[list[Item]]:
    """Puts items of equal resources together until they take long enough to be a job.

    What nobody knows the time of is a job of its own.

    Args:
        items: with their needs.
        least: minutes of a job.
    """
    packs: list[list[Item]] = []
    open_: dict[tuple[int, float], list[Item]] = {}
    for item in items:
        needs = item.needs
        if needs.minutes is None:
            packs.append([item])
            continue
        kind = needs.cores, needs.gpus
        if kind not in open_:
            open_[kind] = []
            packs.append(open_[kind])
        open_[kind].append(item)
        if minutes_of(open_[kind]) >= least:
            del open_[kind]
    return packs


def minutes_of(items: Sequence[Item]) -> float:
    """What items take one after another; those that nobody knows count as nothing."""
    return math.fsum(item.needs.minutes or 0.0 for item in items)


def memory_of(items: Sequence[Item]) -> int | None:
    """The most bytes of host memory that one of them needs; None where none is known."""
    return max((i.needs.memory_bytes for i in items if i.needs.memory_bytes), default=None)
