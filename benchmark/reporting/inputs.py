"""Everything that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, split_groups
from benchmark.analysis.uncertainty import Assessment
from benchmark.analysis.uncertainty.family import AVERAGE

if TYPE_CHECKING:
    from benchmark.reporting.html.images import Item
    from benchmark.reporting.style import Style

Key = tuple[str, str, str]
"""Backbone, weights, protocol_hash: what is ranked together."""


@dataclass(frozen=True)
class ReportInputs:
    """What a report shows.

    Attributes:
        title: heading, usually the suite.
        runs: one row a record, with `folder`.
        root: the results folder; the runs' folders are below it.
        assessment: statistics of the runs.
        gallery: test images with predictions.
        reference: published numbers, or None.
        notes: what a reader must know about the inputs, a sentence each.
    """

    title: str
    runs: pd.DataFrame
    root: Path
    assessment: Assessment
    gallery: "Sequence[Item]" = ()
    reference: pd.DataFrame | None = None
    notes: Sequence[str] = ()

    @property
    def groups(self) -> list[tuple[Key, pd.DataFrame]]:
        """Runs that are ranked together, by their key."""
        return split_groups(self.runs)

    def runs_of(self, key: Key) -> pd.DataFrame:
        """The runs of one of the groups."""
        return dict(self.groups)[key]

    @property
    def intervals(self) -> pd.DataFrame:
        """GROUP, benchmark (or "average"), method, low, high: for every figure the same."""
        columns = [*GROUP, "benchmark", "method", "low", "high"]
        whole = self.assessment.board.assign(benchmark=AVERAGE)
        return pd.concat([self.assessment.cells[columns], whole[columns]], ignore_index=True)

    def styles(self) -> "Mapping[str, Style]":
        """Colour and marker of every method, the same in all figures."""
        from benchmark.reporting.style import method_styles

        return method_styles(sorted(self.runs["method"].unique()))


def of_group(table: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The rows of a table that belong to a group."""
    same = [table[name].astype(str) == value for name, value in zip(GROUP, key, strict=True)]
    return table[same[0] & same[1] & same[2]]
