"""What a grid takes on 1 to 1,000 workers, by simulation.

    python -m benchmark.profiling.executors.simulate --results results/published

Cells have the lengths of recorded runs, drawn with replacement and scaled to a mean of an hour.
They are taken by whichever worker is free, as engines do: the longest first, as they are handed
over, or in any order, as where there is no forecast. A worker fails at random; its cell goes on
from its last checkpoint on another, and the worker is back after a while. Between cells a worker
loses the overhead of its engine.
"""

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.core.format import time_text

WORKERS = (1, 3, 10, 30, 100, 300, 1000)
CHECKPOINT = 60.0
"""Seconds between checkpoints."""
BACK = 300.0
"""Seconds until a failed worker is back."""
HOUR = 3600.0


@dataclass(frozen=True)
class Outcome:
    """What a grid took.

    Attributes:
        seconds: until the last cell ended.
        efficiency: the work of all cells over the time of all workers until then.
        failures: of workers while they were at a cell.
    """

    seconds: float
    efficiency: float
    failures: int


def simulate(
    lengths: Sequence[float], workers: int, rate: float, overhead: float, seed: int = 0
) -> Outcome:
    """One grid.

    Args:
        lengths: seconds of the cells, in the order in which they are taken.
        workers: how many there are.
        rate: failures of a worker an hour.
        overhead: seconds that each start of a cell costs.
        seed: of the failures.
    """
    random = np.random.default_rng([seed, workers])
    free = [(0.0, number) for number in range(workers)]
    todo = list(enumerate(lengths))
    failed: list[tuple[float, int, float]] = []  # when, which, what is left
    last, failures = 0.0, 0
    while todo or failed:
        at, worker = heapq.heappop(free)
        while failed and (failed[0][0] <= at or not todo):
            since, order, left = heapq.heappop(failed)
            heapq.heappush(todo, (order, left))
            at = max(at, since)
        order, left = heapq.heappop(todo)
        begin = at + overhead
        lasts = random.exponential(HOUR / rate) if rate else np.inf
        if lasts >= left:
            last = max(last, begin + left)
            heapq.heappush(free, (begin + left, worker))
            continue
        failures += 1
        saved = CHECKPOINT * (lasts // CHECKPOINT)
        heapq.heappush(failed, (begin + lasts, order, left - saved))
        heapq.heappush(free, (begin + lasts + BACK, worker))
    return Outcome(last, sum(lengths) / (workers * last), failures)


def lengths_of(results: Path, count: int, mean: float, seed: int = 0) -> list[float]:
    """Seconds of cells, drawn from those of recorded runs.

    Args:
        results: folder of the records.
        count: how many are drawn.
        mean: that they are scaled to, in seconds.
        seed: of the draws.
    """
    from benchmark.results.load import load_results

    table = load_results(results, None)
    phases = [name for name in table.columns if name.startswith("timings.")]
    known = table[phases].dropna().sum(axis=1).to_numpy(float)
    drawn = np.random.default_rng(seed).choice(known, count)
    return list(drawn * (mean / drawn.mean()))


def main() -> None:
    """Prints the table of the documentation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results/published"))
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--mean", type=float, default=HOUR, help="seconds of a cell")
    parser.add_argument("--rate", type=float, default=0.01, help="failures of a worker an hour")
    parser.add_argument("--overhead", type=float, default=10.0, help="seconds a start of a cell")
    options = parser.parse_args()
    lengths = lengths_of(options.results, options.cells, options.mean)
    print("| Workers | Last cell ends after | Efficiency | In any order | Failures |")
    print("| --: | --: | --: | --: | --: |")
    for workers in WORKERS:
        cells = sorted(lengths, reverse=True)
        found = simulate(cells, workers, options.rate, options.overhead)
        other = simulate(lengths, workers, options.rate, options.overhead)
        print(
            f"| {workers:,} | {time_text(found.seconds)} | {100 * found.efficiency:.0f} % "
            f"| {100 * other.efficiency:.0f} % | {found.failures} |"
        )
    longest = max(lengths)
    print(f"\n{options.cells:,} cells of {min(lengths):.0f} to {longest:.0f} s")


if __name__ == "__main__":
    main()
