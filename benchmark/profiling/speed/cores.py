"""What all cores do together: in one training, and in trainings side by side as a grid has them."""

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmark.core import machine
from benchmark.core.ratio import Times
from benchmark.core.spec import RunSpec
from benchmark.execution.environment import Environment
from benchmark.execution.executors.base import Lost, died
from benchmark.execution.executors.local import Pool
from benchmark.execution.executors.worker import Setup
from benchmark.execution.tasks import Listener, Silent, Task
from benchmark.planning import plugins
from benchmark.profiling.speed.loops import Bare, Harness
from benchmark.profiling.speed.rounds import Loop, seconds_of_a_step
from benchmark.profiling.speed.trainer import HuggingFace

ONE, GRID, BUSY, LIBRARY = "one training", "grid", "grid, busy neighbour", "Trainer + peft"
LIMIT = "input gradient, grid"
"""What a grid would reach if it only computed the gradient with respect to the images."""

_LOOPS: dict[tuple[str, bool], Loop] = {}
"""By run id: what a turn has built in this process, for the next one to continue with."""


@dataclass(frozen=True, eq=False)
class Turn:
    """Trains a cell for some steps; the result is the median of their seconds.

    Attributes:
        cell: what to train.
        steps: how many.
        to_images: by the shortest loop, with the gradient of the images.
    """

    cell: RunSpec
    steps: int
    to_images: bool = False

    def __call__(self, environment: Environment, listener: Listener) -> float:
        """See `benchmark.execution.tasks.Task`."""
        key = self.cell.run_id, self.to_images
        if key not in _LOOPS:
            shortest = Bare.of(self.cell, environment, to_images=True) if self.to_images else None
            _LOOPS[key] = shortest or Harness.of(self.cell, environment)
        loop = _LOOPS[key]
        return seconds_of_a_step(loop, self.steps, environment.device)


def compare(
    cell: RunSpec,
    library: RunSpec,
    untouched: RunSpec,
    environment: Environment,
    steps: int,
    rounds: int,
    told: Callable[[str], None],
) -> tuple[Times, int]:
    """Takes turns with all cores: a training, the Trainer, grids, a grid beside a busy process.

    Args:
        cell: of the harness.
        library: the same as the Trainer trains it.
        untouched: a cell that trains the decoder alone.
        environment: where; its threads are those of the single trainings.
        steps: timed ones, a turn.
        rounds: looked at, after one that is not.
        told: called with what is running.

    Returns:
        Seconds an image by the names above, round by round, and the number of processes of the
        grid.
    """
    jobs = machine.cores()
    compute = environment.compute_of(cell)
    setup = Setup(
        (str(environment.device),),
        1,
        environment.data,
        tuple(environment.weights),
        environment.workers,
        None,
        None,
        tuple(plugins.loaded()),
        "never",
        compute,
    )
    single: dict[str, Loop] = {
        ONE: Harness.of(cell, environment),
        LIBRARY: HuggingFace.of(library, environment),
    }
    times: Times = {name: [] for name in (ONE, LIBRARY, GRID, BUSY, LIMIT)}
    batch = cell.protocol.batch_size
    with Pool(setup, jobs, environment.watch) as pool:

        def side_by_side(cell: RunSpec, to_images: bool = False) -> float:
            turns: deque[Task] = deque(Turn(cell, steps, to_images) for _ in range(jobs))
            found = list(pool.run(turns, Silent()))
            for _, seconds in found:
                if isinstance(seconds, Lost):
                    raise RuntimeError(died(seconds))
            return 1 / sum(batch / seconds for _, seconds in found)

        for number in range(rounds + 1):
            round_: dict[str, float] = {}
            for name, loop in single.items():
                told(f"round {number} of {rounds}: {name} on all cores")
                round_[name] = seconds_of_a_step(loop, steps, environment.device) / batch
            told(f"round {number} of {rounds}: {jobs} trainings side by side")
            round_[GRID] = side_by_side(cell)
            told(f"round {number} of {rounds}: {jobs} input gradients side by side")
            round_[LIMIT] = side_by_side(untouched, to_images=True)
            told(f"round {number} of {rounds}: the same beside a busy process")
            with busy_process():
                round_[BUSY] = side_by_side(cell)
            if number:
                for name, seconds in round_.items():
                    times[name].append(seconds)
    return times, jobs


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process keeps a core busy inside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
