"""What a figure of a report is, and what a module of this package makes its figures from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.leaderboard import Key
from benchmark.analysis.runs import Runs
from benchmark.reporting.inputs import ReportInputs, of_group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.reporting.style import Style


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        section: heading under which it is shown.
        title: what it shows, for those who cannot see it.
        stem: name of its files.
        draw: makes it.
    """

    section: str
    title: str
    stem: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True)
class GroupView:
    """One group of a report: runs of one backbone, weights and protocol.

    Attributes:
        inputs: of the report.
        key: of the group.
    """

    inputs: ReportInputs
    key: Key

    @property
    def suffix(self) -> str:
        """Ends the names of files, where there are several groups."""
        names = self.inputs.runs.names
        return f"_{names[self.key].slug}" if len(names) > 1 else ""

    @property
    def of(self) -> str:
        """Ends the titles: what the runs have in common."""
        return f": {self.inputs.runs.names[self.key].full}"

    @property
    def runs(self) -> Runs:
        """The records of the group."""
        return self.inputs.runs.groups[self.key]

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """The rows of `ReportInputs.intervals`."""
        return self.own(self.inputs.intervals)

    @cached_property
    def styles(self) -> "dict[str, Style]":
        """Colour and marker of every method, the same in all groups."""
        return dict(self.inputs.styles())

    def own(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that belong to the group."""
        return of_group(table, self.key)
