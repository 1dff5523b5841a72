"""Peak memory of a training, each in a process of its own: a used one hides what it kept."""

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

from benchmark.costs import PeakMemory
from benchmark.environment import prepare
from benchmark.spec import RunSpec
from benchmark.speed.loops import Bare, Harness

STEPS = 4
"""Enough for the states of the optimiser and the largest step."""


@dataclass(frozen=True)
class Work:
    """What is measured; everything here travels to another process.

    Attributes:
        cell: that is trained.
        bare: by the shortest loop with the usual loss, else as a run is.
        data: data root.
        weights: folders with weight files.
        device: where.
    """

    cell: RunSpec
    bare: bool
    data: Path | None
    weights: tuple[Path, ...]
    device: str


def peak(work: Work) -> int:
    """Bytes at most, the model included, by `costs.PeakMemory`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (work,))


def _measure(work: Work) -> int:
    environment = prepare(work.data, work.weights, work.device, 0)
    loop: Bare | Harness
    if work.bare:
        loop = Bare.of(work.cell, environment, usual=True)
    else:
        loop = Harness.of(work.cell, environment)
    memory = PeakMemory()
    with memory.measure(loop.rehearsal.segmenter):
        loop(STEPS, lambda: None)
    return memory.bytes
