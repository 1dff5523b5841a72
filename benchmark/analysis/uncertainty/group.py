"""The samples of one group, and what several tables need of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.analysis.costs import cost_columns
from benchmark.analysis.leaderboard import MIOU, means, shared_benchmarks
from benchmark.analysis.uncertainty.bootstrap import Resampled
from benchmark.analysis.uncertainty.estimate import Estimate, mean, method_mean
from benchmark.analysis.uncertainty.replicates import deviations, with_tails
from benchmark.analysis.uncertainty.samples import Group

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroupSample:
    """Runs of one backbone, weights and protocol.

    Attributes:
        key: backbone, weights, protocol hash.
        table: its rows of `benchmark.analysis.leaderboard.cells`, failed ones included.
        samples: its blocks, resampled, by benchmark; a benchmark that no method finished has none.
    """

    key: Group
    table: pd.DataFrame
    samples: dict[str, Resampled]
    _moved: dict[tuple[str | None, ...], Floats] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def estimates(self) -> dict[tuple[str, str], Estimate]:
        """Of every finished cell, by benchmark and method."""
        return {
            (benchmark, name): method_mean(sample, row)
            for benchmark, sample in self.samples.items()
            for row, name in enumerate(sample.block.methods)
        }

    @cached_property
    def benchmarks(self) -> list[str]:
        """All that the group has runs of, sorted."""
        return sorted(map(str, self.table["benchmark"].unique()))

    @cached_property
    def complete(self) -> list[str]:
        """Methods that finished every benchmark, the best mean first, equal means by name."""
        names = sorted(map(str, self.table["method"].unique()))
        done = [
            name for name in names if all((one, name) in self.estimates for one in self.benchmarks)
        ]
        return sorted(done, key=lambda name: -self.average(name).value)

    @cached_property
    def shared(self) -> "GroupSample | None":
        """The group over what every method with a result finished, where this is not all."""
        names = shared_benchmarks(self.table)
        if not names or len(names) == len(self.benchmarks):
            return None
        table = self.table[self.table["benchmark"].isin(names)]
        return GroupSample(self.key, table, {name: self.samples[name] for name in names})

    def average(self, method: str) -> Estimate:
        """A complete method's mean over the benchmarks."""
        return mean([self.estimates[one, method] for one in self.benchmarks])

    def scores(self, benchmark: str, method: str) -> Floats:
        """MIoU (S,) of the seeds of a finished cell."""
        block = self.samples[benchmark].block
        scores = block.miou[block.methods.index(method)]
        return scores[np.isfinite(scores)]

    def moved(self, benchmarks: Sequence[str], methods: Sequence[str]) -> Floats:
        """How far the replicates move means over benchmarks: (M, B), with Student's tails."""
        key = (*benchmarks, None, *methods)
        if key not in self._moved:
            shifts = [self._deviations(one, methods) for one in benchmarks]
            means = [mean([self.estimates[one, name] for one in benchmarks]) for name in methods]
            shift = np.mean(shifts, axis=0)
            self._moved[key] = with_tails(shift, means, [*self.key, *benchmarks])
        return self._moved[key]

    def costs(self, benchmarks: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
        """Mean costs over benchmarks, a row a method, in their order."""
        rows = self.table[self.table["benchmark"].isin(benchmarks)]
        return means(rows, ["method"], cost_columns()).loc[list(methods)]

    def miou(self) -> pd.DataFrame:
        """Method x benchmark; NaN where a cell is not finished."""
        return self.table.pivot(index="method", columns="benchmark", values=MIOU)

    def _deviations(self, benchmark: str, methods: Sequence[str]) -> Floats:
        sample = self.samples[benchmark]
        moved = self._moved.setdefault((benchmark,), deviations(sample))
        return moved[[sample.block.methods.index(name) for name in methods]]
