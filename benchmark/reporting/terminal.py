"""The report in a terminal: leaderboard and mIoU per benchmark."""

from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.costs import COSTS
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.core.format import interval_text
from benchmark.reporting.table_catalogue import benchmark_table, class_table
from benchmark.reporting.tables import Column, ranked, to_rich
from benchmark.reporting.timing_notes import explained, timed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MAIN = [
    Column(cost.column, cost.short, cost.kind, "min")
    for cost in COSTS
    if cost.compared and cost.main
]
_COLUMNS = (
    Column("rank", "Rank", "integer"),
    Column("method", "Method"),
    Column("metrics.miou", "mIoU", "points", "max"),
    Column("interval", "95 %"),
    *_MAIN[:2],
    Column("seeds", "Seeds", "integer"),
    Column("complete", "Done"),
    *_MAIN[2:],
)
"""The first ones are shown in every terminal, the last ones where they have room."""

_ALWAYS = 6


def print_report(
    runs: Runs, assessment: Assessment, console: "Console", classes: bool = False
) -> None:
    """Prints leaderboard and mIoU per benchmark of each backbone, weights and protocol.

    Args:
        runs: the records.
        assessment: of these runs.
        console: where to; 100 columns are enough for five benchmarks.
        classes: also print the IoU of each class of each benchmark.
    """
    if runs.frame.empty:
        console.print("no results")
        return
    for key, part in runs.groups.items():
        *names, settings = key
        name = f"{', '.join(names)}, settings {settings}"
        board = ranked(part, assessment.board)
        ends = zip(board["low"], board["high"], strict=True)
        board["interval"] = [interval_text(low, high) for low, high in ends]
        console.print(_fitting(board, f"Leaderboard: {name}", console))
        covers = " and ".join(sorted(set(board["covers"]) - {"nothing"}))
        console.print(
            f"95 % intervals cover variation between {covers}; methods that do not differ "
            "significantly share a rank."
            if covers
            else "No 95 % intervals: there is one seed, and no counts of images.",
            style="dim",
            highlight=False,
        )
        if timed(part.frame):
            console.print(explained(part.frame), style="dim", highlight=False, markup=False)
        console.print()
        table, shown = benchmark_table(part)
        console.print(to_rich(table, shown, "mIoU per benchmark"), "")
        for benchmark in sorted(part.frame["benchmark"].unique()) if classes else ():
            console.print(to_rich(*class_table(part, benchmark), f"IoU per class: {benchmark}"), "")
    missing = len(runs.failures)
    if missing:
        number = "1 run" if missing == 1 else f"{missing} runs"
        console.print(f"{number} did not finish; the report says why.", highlight=False)


def _fitting(board: pd.DataFrame, title: str, console: "Console") -> "Table":
    """The leaderboard with as many columns as the terminal has room for."""
    number = len(_COLUMNS)
    table = to_rich(board, _COLUMNS, title)
    unbounded = console.options.update(max_width=10_000)
    while number > _ALWAYS and console.measure(table, options=unbounded).minimum > console.width:
        number -= 1
        table = to_rich(board, _COLUMNS[:number], title)
    return table
