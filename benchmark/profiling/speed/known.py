"""What it brings that the output of frozen stages is known, and whether anything else changes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmark.core.cache_folder import FOLDER
from benchmark.core.ratio import Times
from benchmark.core.spec import Protocol, RunSpec
from benchmark.execution.environment import Environment
from benchmark.profiling.speed.loops import Harness
from benchmark.profiling.speed.rounds import take_turns

KNOWN, COMPUTED = "known", "computed"
VIEWS = 4


def with_and_without(
    cell: RunSpec, environment: Environment, steps: int, rounds: int
) -> tuple[Times, int, bool]:
    """Times a cell with fixed views, with its frozen stages known and computed each time.

    The first turn, which is not looked at, makes known what the others need.

    Returns:
        The times of `KNOWN` and `COMPUTED`, the number of stages that are known, and whether both
        trainings ended with the same parameters, bit for bit.
    """
    protocol = Protocol.model_validate(cell.protocol.model_dump() | {"views": VIEWS})
    cell = cell.model_copy(update={"protocol": protocol})
    with tempfile.TemporaryDirectory() as folder:
        with _cache(folder):
            known = Harness.of(cell, environment)
        with _cache("none"):
            computed = Harness.of(cell, environment)
        loops = {KNOWN: known, COMPUTED: computed}
        with _cache(folder):
            times = take_turns(loops, steps, rounds, environment.device)
    states = [loop.rehearsal.segmenter.state_dict().values() for loop in loops.values()]
    same = all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    return times, known.rehearsal.known_stages, same


@contextmanager
def _cache(folder: str) -> Iterator[None]:
    """Another cache inside the block."""
    former = os.environ.get(FOLDER)
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        if former is not None:
            os.environ[FOLDER] = former
