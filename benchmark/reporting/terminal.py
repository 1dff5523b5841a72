"""The report in a terminal: leaderboard and mIoU per benchmark."""

from typing import TYPE_CHECKING

import pandas as pd

from benchmark.reporting.board import ranked
from benchmark.reporting.sheets import benchmark_table, class_table
from benchmark.reporting.tables import COLUMNS, to_rich
from benchmark.statistics import failures, split_groups
from benchmark.uncertainty import Assessment

if TYPE_CHECKING:
    from rich.console import Console

_TERMINAL = (
    "rank",
    "method",
    "metrics.miou",
    "low",
    "high",
    "complete",
    "seeds",
    "costs.params.total_trainable",
    "costs.stored.bytes",
    "costs.train.seconds",
    "costs.infer.latency_ms_p50",
    "costs.train.peak_memory_bytes",
)


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
        columns = [column for column in COLUMNS if column.name in _TERMINAL]
        columns.sort(key=lambda column: _TERMINAL.index(column.name))
        console.print(to_rich(board, columns, f"Leaderboard: {name}"))
        covers = " and ".join(sorted(set(board["covers"]) - {"nothing"})) or "nothing"
        console.print(
            f"95 % intervals cover {covers}; methods that the data cannot tell apart share a rank.",
            style="dim",
            highlight=False,
        )
        console.print()
        table, shown = benchmark_table(part)
        console.print(to_rich(table, shown, "mIoU per benchmark"), "")
        for benchmark in sorted(part["benchmark"].unique()) if classes else ():
            console.print(to_rich(*class_table(part, benchmark), f"IoU per class: {benchmark}"), "")
    missing = len(failures(runs))
    if missing:
        console.print(f"{missing} runs did not finish; the report says why.", highlight=False)
