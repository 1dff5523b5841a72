"""The report in a terminal: leaderboard and mIoU per benchmark."""

from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.leaderboard import failures, split_groups
from benchmark.analysis.uncertainty import Assessment
from benchmark.reporting.format import interval_text
from benchmark.reporting.table_catalogue import benchmark_table, class_table
from benchmark.reporting.tables import Column, ranked, to_rich
from benchmark.reporting.timing_notes import explained, timed
from benchmark.results.timing_columns import LATENCY, TRAINING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLUMNS = (
    Column("rank", "Rank", "integer"),
    Column("method", "Method"),
    Column("metrics.miou", "mIoU", "points", "max"),
    Column("interval", "95 %"),
    Column("costs.params.total_trainable", "Trainable", "count", "min"),
    Column("costs.stored.bytes", "Stored", "bytes", "min"),
    Column("seeds", "Seeds", "integer"),
    Column("complete", "Done"),
    Column(TRAINING, "Training", "ratio", "min"),
    Column("costs.train.memory.peak_bytes", "Memory", "bytes", "min"),
    Column(LATENCY, "Latency", "ratio", "min"),
)
"""The first ones are shown in every terminal, the last ones where they have room."""

_ALWAYS = 6


def print_report(
    runs: pd.DataFrame, assessment: Assessment, console: "Console", classes: bool = False
) -> None:
    """Prints leaderboard and mIoU per benchmark of each backbone, weights and protocol.

    Args:
        runs: one row a record.
        assessment: of these runs.
        console: where to; 100 columns are enough for five benchmarks.
        classes: also print the IoU of each class of each benchmark.
    """
    if runs.empty:
        console.print("no results")
        return
    for key, part in split_groups(runs):
        name = ", ".join(key)
        board = ranked(part, assessment)
        ends = zip(board["low"], board["high"], strict=True)
        board["interval"] = [interval_text(low, high) for low, high in ends]
        console.print(_fitting(board, f"Leaderboard: {name}", console))
        covers = " and ".join(sorted(set(board["covers"]) - {"nothing"})) or "nothing"
        console.print(
            f"95 % intervals cover {covers}; methods that do not differ significantly share ranks.",
            style="dim",
            highlight=False,
        )
        if timed(part):
            console.print(explained(part), style="dim", highlight=False, markup=False)
        console.print()
        table, shown = benchmark_table(part)
        console.print(to_rich(table, shown, "mIoU per benchmark"), "")
        for benchmark in sorted(part["benchmark"].unique()) if classes else ():
            console.print(to_rich(*class_table(part, benchmark), f"IoU per class: {benchmark}"), "")
    missing = len(failures(runs))
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
