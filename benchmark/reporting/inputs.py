"""Everything that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, Key
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.analysis.uncertainty.family import AVERAGE

if TYPE_CHECKING:
    from benchmark.reporting.html.images import Item
    from benchmark.reporting.style import Style


@dataclass(frozen=True)
class ReportInputs:
    """What a report shows.

    Attributes:
        title: heading, usually the suite.
        runs: the records, with `folder`.
        assessment: statistics of the runs.
        gallery: test images with predictions.
        reference: published numbers, or None.
        notes: what a reader must know about the inputs, a sentence each.
    """

    title: str
    runs: Runs
    assessment: Assessment
    gallery: "Sequence[Item]" = ()
    reference: pd.DataFrame | None = None
    notes: Sequence[str] = ()

    @property
    def intervals(self) -> pd.DataFrame:
        """GROUP, benchmark (or "average"), method, low, high: for every figure the same."""
        columns = [*GROUP, "benchmark", "method", "low", "high"]
        whole = self.assessment.board.assign(benchmark=AVERAGE)
        return pd.concat([self.assessment.cells[columns], whole[columns]], ignore_index=True)

    def styles(self) -> "Mapping[str, Style]":
        """Colour and marker of every method, the same in all figures."""
        from benchmark.reporting.style import method_styles

        return method_styles(sorted(self.runs.frame["method"].unique()))


def of_group(table: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The rows of a table that belong to a group."""
    same = [table[name].astype(str) == value for name, value in zip(GROUP, key, strict=True)]
    return table[same[0] & same[1] & same[2]]
