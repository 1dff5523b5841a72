"""What an executor costs: time a cell that does nothing, and efficiency with cells that wait.

    python -m benchmark.profiling.executors.overhead --executor ray --cells 2000
    python -m benchmark.profiling.executors.overhead --executor ray --seconds 5 --workers 8

The overhead is the median time between the ends of two cells that do nothing, once the first has
ended, times the workers. The efficiency is the work of all cells over that of all workers, from the
first start to the last end, without the time in which workers start.
"""

import argparse
import json
import math
import resource
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmark.core.interrupt import StopSignal
from benchmark.execution.executors.base import Executor
from benchmark.execution.executors.needs import Needs
from benchmark.execution.executors.worker import Setup
from benchmark.execution.tasks import Listener, Silent, Task

if TYPE_CHECKING:
    from benchmark.execution.environment import Environment


@dataclass(frozen=True, eq=False)
class Pause:
    """A cell that waits.

    Attributes:
        key: names it.
        seconds: how long.
        needs: what it asks of a machine.
    """

    key: str
    seconds: float = 0.0
    needs: Needs = Needs(minutes=0.0)  # noqa: RUF009

    @property
    def folder(self) -> str:
        """It leaves nothing."""
        return self.key

    def __call__(self, environment: "Environment", listener: Listener) -> tuple[float, float]:
        """When it began and ended, by the clock of its machine."""
        began = time.time()
        time.sleep(self.seconds)
        return began, time.time()


def measure(executor: Executor, cells: Sequence[Pause], workers: int) -> dict[str, float]:
    """Runs cells, and says what they took.

    Args:
        executor: that runs them.
        cells: all of the same length.
        workers: that the executor has.

    Returns:
        `overhead_ms`: see the module, NaN for cells that wait; `mean_overhead_ms`: with the time
        in which later jobs and workers start; `seconds`: from the first start to the last end;
        `efficiency`; `memory_mb`: most memory of this process.
    """
    times = []
    tasks: deque[Task] = deque(cells)
    for _, outcome in executor.run(tasks, Silent()):
        times.append(outcome)
    began, ended = min(t[0] for t in times), max(t[1] for t in times)
    work = sum(cell.seconds for cell in cells)
    ends = sorted(t[1] for t in times)
    gaps = [b - a for a, b in pairwise(ends)]
    return {
        "cells": len(times),
        "seconds": ended - began,
        "overhead_ms": 1000 * workers * median(gaps) if not work else math.nan,
        "mean_overhead_ms": 1000 * (workers * (ended - began) - work) / len(times),
        "efficiency": work / (workers * (ended - began)),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--executor", choices=("local", "ray", "slurm"), default="local")
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--address", help="of a Ray cluster; none = one of this machine")
    parser.add_argument("--slurm", default="time=60", help="options of sbatch")
    parser.add_argument("--minutes", type=float, default=0.1, help="as forecast, for packing")
    options = parser.parse_args()
    needs, watch = Needs(minutes=options.minutes), StopSignal()
    cells = [Pause(f"pause{n}", options.seconds, needs) for n in range(options.cells)]
    setup = Setup(("cpu",), 1, None, (), None, None, None, (), "never")
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".overhead-") as name:
        found = _with(options, setup, Path(name), watch, cells)
    print(json.dumps({"executor": options.executor, "workers": options.workers} | found))


def _with(
    options: Any, setup: Setup, results: Path, watch: StopSignal, cells: Sequence[Pause]
) -> dict[str, float]:
    if options.executor == "local":
        from benchmark.execution.executors.local import Pool

        with Pool(setup, options.workers, watch) as pool:
            return measure(pool, cells, options.workers)
    if options.executor == "ray":
        from benchmark.execution.executors.ray import Ray

        if options.address is None:
            import ray

            ray.init("local", num_cpus=options.workers, log_to_driver=False, namespace="petseg")
        return measure(Ray(setup, results, watch, options.address), cells, options.workers)
    from benchmark.execution.executors.slurm import Slurm
    from benchmark.execution.executors.slurm_jobs import read_options

    return measure(
        Slurm(setup, results, watch, read_options(options.slurm)), cells, options.workers
    )


if __name__ == "__main__":
    main()
