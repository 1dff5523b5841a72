"""The report in a terminal: leaderboard and mIoU per benchmark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.costs import COSTS
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.core.format import interval_text
from benchmark.reporting.answers import headed, not_run
from benchmark.reporting.seed_notes import about_seeds
from benchmark.reporting.table_catalogue import benchmark_table, class_table, dice_table
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
    Column("rank", "Rank", "integer", to="rank_to"),
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
_AGAIN = ", continued"


def print_report(
    runs: Runs,
    assessment: Assessment,
    console: "Console",
    classes: bool = False,
    reasons: str = "the report says why",
) -> None:
    """Prints leaderboard and mIoU per benchmark of each backbone, weights and protocol.

    Args:
        runs: the records.
        assessment: of these runs.
        console: where to; 100 columns are enough for five benchmarks.
        classes: also print the IoU of each class of each benchmark.
        reasons: where to read why runs did not finish.
    """
    if runs.frame.empty:
        console.print("no results")
        return
    for key, part in runs.groups.items():
        if not (part.frame["status"] == "done").any():
            continue
        name = runs.names[key].label
        board = ranked(part, assessment.board)
        ends = zip(board["low"], board["high"], strict=True)
        board["interval"] = [interval_text(low, high) for low, high in ends]
        console.print(_fitting(board, f"Leaderboard: {name}", console))
        covered = set(board["covers"]) - {"nothing"}
        parts = {part for one in covered for part in one.split(" and ")}
        covers = " and ".join(sorted(parts, reverse=True))
        if len(covered) > 1:
            covers += " (for some methods one of these alone)"
        notes = [
            about_seeds(part.cells),
            f"95 % intervals cover variation between {covers}; a rank such as 2–4 gives the "
            "places that the tests leave open."
            if covers
            else "No 95 % intervals: there is one seed, and no counts of images.",
            explained(part) if timed(part.frame) else "",
        ]
        for note in filter(None, notes):
            console.print(note, style="dim", highlight=False, markup=False)
        console.print()
        if part.frame["benchmark"].nunique() > 1:  # else the leaderboard has it
            _print_wide(console, *benchmark_table(part), "mIoU per benchmark")
        dice, reporting = dice_table(part)
        if len(reporting) > 1:
            _print_wide(console, dice, reporting, "mDice per benchmark")
        for benchmark in sorted(part.frame["benchmark"].unique()) if classes else ():
            _print_wide(console, *class_table(part, benchmark), f"IoU per class: {benchmark}")
    missing = len(runs.failures)
    if missing:
        number = "1 run" if missing == 1 else f"{missing} runs"
        waiting = not_run(runs)
        text = f"{number} did not finish; {reasons}."
        console.print(f"{text} {waiting}".rstrip(), highlight=False)


def print_answers(
    runs: Runs, assessment: Assessment, console: "Console", caveats: Sequence[str] = ()
) -> None:
    """Prints which method to take, and what to know along with it, for each group.

    Args:
        runs: the records.
        assessment: of these runs.
        console: where to.
        caveats: of all groups.
    """
    for title, answer in headed(runs, assessment):
        heading = f"Answer: {title}"
        console.print(heading, style="italic", highlight=False, markup=False, soft_wrap=True)
        for finding in answer.findings:
            console.print(f"  {finding}", highlight=False, markup=False, soft_wrap=True)
        for text in answer.caveats:
            _warn(console, f"  {text}")
    for text in caveats:
        _warn(console, text)


def _warn(console: "Console", text: str) -> None:
    console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _print_wide(console: "Console", table: pd.DataFrame, columns: list[Column], title: str) -> None:
    """Prints a table of any number of columns, the first one again where it must be continued."""
    lead, rest = columns[0], columns[1:]
    while True:
        number = max(1, len(rest))
        while number > 1 and not _fits(console, to_rich(table, [lead, *rest[:number]], title)):
            number -= 1
        shown = to_rich(table, [lead, *rest[:number]], title)
        # On a line of its own: above a narrow table it would be folded.
        heading, shown.title = shown.title or "", None
        console.print(heading, style="table.title", soft_wrap=True, highlight=False)
        console.print(shown, "")
        rest = rest[number:]
        if not rest:
            return
        title = f"{title.removesuffix(_AGAIN)}{_AGAIN}"


def _fits(console: "Console", table: "Table") -> bool:
    unbounded = console.options.update(max_width=10_000)
    return console.measure(table, options=unbounded).minimum <= console.width


def _fitting(board: pd.DataFrame, title: str, console: "Console") -> "Table":
    """The leaderboard with as many columns as the terminal has room for."""
    number = len(_COLUMNS)
    table = to_rich(board, _COLUMNS, title)
    while number > _ALWAYS and not _fits(console, table):
        number -= 1
        table = to_rich(board, _COLUMNS[:number], title)
    return table
