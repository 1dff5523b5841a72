"""The records of a report, and the tables that are made of them, each worked out once."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.analysis import cost_tables, curves, efficiency, leaderboard
from benchmark.analysis.groups import GroupName, group_names
from benchmark.results import asked


class Progress(NamedTuple):
    """How many runs are finished, of those that were asked for or have begun.

    Runs that their method does not support are in neither number.
    """

    finished: int
    wanted: int


class Runs:
    """A table of records with what follows from it. Nobody changes a table that it gives away.

    Attributes:
        frame: one row a record, as `load_results` returns it.
        root: the results folder that the column `folder` is relative to.
    """

    def __init__(self, frame: pd.DataFrame, root: Path = Path("results")) -> None:
        self.frame = frame
        self.root = root

    def __reduce__(self) -> tuple[type["Runs"], tuple[pd.DataFrame, Path]]:
        # Equal runs are pickled alike, without the tables that were cached.
        return Runs, (self.frame, self.root)

    @cached_property
    def groups(self) -> dict[leaderboard.Key, "Runs"]:
        """The runs that are ranked together, by backbone, weights and protocol; see `names`."""
        parts = dict(leaderboard.split_groups(self.frame))
        return {key: Runs(parts[key], self.root) for key in self.names}

    @cached_property
    def names(self) -> dict[leaderboard.Key, GroupName]:
        """What each group is called, the fullest first; see `group_names`."""
        return group_names(self.frame)

    def over(self, benchmarks: Collection[str]) -> "Runs":
        """The runs on some of the benchmarks."""
        return Runs(self.frame[self.frame["benchmark"].isin(benchmarks)], self.root)

    @cached_property
    def current(self) -> pd.DataFrame:
        """See `leaderboard.current`."""
        return leaderboard.current(self.frame)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """See `leaderboard.cells`."""
        return leaderboard.cells(self.current)

    @cached_property
    def progress(self) -> Progress:
        """How much of the grid is finished; see `benchmark.results.asked`."""
        if len(self.groups) > 1:
            parts = [own.progress for own in self.groups.values()]
            return Progress(sum(p.finished for p in parts), sum(p.wanted for p in parts))
        suites = self.frame["suite"].unique() if "suite" in self.frame else ()
        files = [asked.read(self.root, suite) for suite in suites]
        noted = [file.get(key, {}) for file in files for key in self.groups]
        wanted = {run_id: cell for cells in noted for run_id, cell in cells.items()}
        rows = self.current[["run_id", "benchmark", "method", "seed", "status"]]
        cells = zip(rows["benchmark"], rows["method"], rows["seed"], strict=True)
        again = set(wanted.values())
        # Left out: former runs of cells that will run again, since their set was described anew.
        elsewhere = np.array([cell not in again for cell in cells], dtype=bool)
        rows = rows[rows["run_id"].isin(wanted).to_numpy() | elsewhere]
        number = len(set(rows["run_id"]) | wanted.keys()) + (0 if wanted else self._gaps())
        counts = rows["status"].value_counts()
        return Progress(int(counts.get("done", 0)), number - int(counts.get("unsupported", 0)))

    @property
    def not_run(self) -> int:
        """How many runs of the grid have not ended in any way."""
        unfinished = int((self.failures["status"] != "unsupported").sum())
        return max(0, self.progress.wanted - self.progress.finished - unfinished)

    def _gaps(self) -> int:
        """Runs that are missing for every method to have been on every benchmark."""
        methods = self.frame["method"].nunique()
        seen = self.frame.groupby("benchmark").agg({"method": "nunique", "seed": "nunique"})
        return int(((methods - seen["method"]) * seen["seed"]).sum())

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """See `leaderboard.leaderboard`."""
        return leaderboard.leaderboard(self.current, self.cells)

    @cached_property
    def per_benchmark(self) -> pd.DataFrame:
        """MIoU of methods x benchmarks, see `leaderboard.per_benchmark`."""
        return leaderboard.per_benchmark(self.cells, self.leaderboard)

    @cached_property
    def dice_per_benchmark(self) -> pd.DataFrame:
        """MDice, see `leaderboard.dice_per_benchmark`."""
        return leaderboard.dice_per_benchmark(self.cells, self.leaderboard)

    @cached_property
    def statuses(self) -> pd.DataFrame:
        """The reasons of the gaps of `per_benchmark`."""
        return leaderboard.per_benchmark(self.cells, self.leaderboard, "status")

    @cached_property
    def failures(self) -> pd.DataFrame:
        """See `leaderboard.failures`."""
        return leaderboard.failures(self.current)

    def per_class(self, benchmark: str) -> pd.DataFrame:
        """See `leaderboard.per_class`."""
        return leaderboard.per_class(self.current, benchmark)

    @cached_property
    def cost_table(self) -> pd.DataFrame:
        """See `cost_tables.cost_table`."""
        return cost_tables.cost_table(self.current)

    @cached_property
    def label_efficiency(self) -> pd.DataFrame:
        """See `efficiency.label_efficiency`."""
        return efficiency.label_efficiency(self.frame)

    @cached_property
    def corruption_scores(self) -> pd.DataFrame:
        """See `efficiency.corruption_scores`."""
        return efficiency.corruption_scores(self.current, self.root)

    @cached_property
    def training_curves(self) -> pd.DataFrame:
        """See `curves.training_curves`."""
        return curves.training_curves(self.frame, self.root)

    @cached_property
    def validation_curves(self) -> pd.DataFrame:
        """The same of mIoU on validation."""
        return curves.training_curves(self.frame, self.root, curves.VALIDATION)
