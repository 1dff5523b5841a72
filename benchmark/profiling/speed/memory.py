"""Memory of a training step: of a run, and of the shortest loop over the same modules."""

import contextlib
from collections.abc import Callable
from itertools import repeat

from benchmark.core.record import TrainMemory
from benchmark.core.spec import RunSpec
from benchmark.engine.memory import STEPS, step_memory
from benchmark.execution.environment import Environment
from benchmark.profiling.speed.loops import Bare, rehearse


def of_run(cell: RunSpec, environment: Environment) -> TrainMemory:
    """What a step of the harness holds."""
    return rehearse(cell, environment).memory()


def of_bare_loop(cell: RunSpec, environment: Environment) -> TrainMemory:
    """What a step of `Bare` with the usual loss holds."""
    loop = Bare.of(cell, environment, usual=True)
    with contextlib.closing(loop.rehearsal.batches()) as batches:
        same = repeat(next(batches), STEPS)

    def steps(mark: Callable[[], None]) -> None:
        loop.over(same, mark)

    return step_memory(loop.rehearsal.segmenter, steps)
