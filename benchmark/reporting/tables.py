"""Tables for people: one description of the columns, four ways to write them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.markup import escape
from rich.table import Table

from benchmark.analysis.costs import COSTS, compared_costs
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.core.format import MISSING, Kind, human

FEWEST_LETTERS = 9
"""Width of a name in any terminal; otherwise rich silently drops a column."""


@dataclass(frozen=True)
class Column:
    """How one column of a DataFrame is shown.

    Attributes:
        name: of the column in the DataFrame.
        header: what people read.
        kind: the unit of the numbers; `points` are fractions shown as percent points.
        best: which end is set in bold; None for neither.
        to: column of the other end, where it shows a range.
    """

    name: str
    header: str
    kind: Kind = "text"
    best: Literal["max", "min"] | None = None
    to: str = ""


COLUMNS = (
    Column("rank", "Rank", "integer", to="rank_to"),
    Column("method", "Method"),
    Column("metrics.miou", "mIoU", "points", "max"),
    Column("low", "95 % from", "points"),
    Column("high", "to", "points"),
    Column("complete", "Done"),
    Column("seeds", "Seeds", "integer"),
    *(
        Column(cost.column, cost.heading, cost.kind, "min" if cost.main else None)
        for cost in COSTS
        if cost.compared
    ),
    Column("ppt", "PPT", "number", "max"),
)
"""The columns of the leaderboard."""


def ranked(runs: Runs, board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard, with ranks and intervals.

    Args:
        runs: the records.
        board: of an assessment, `board` or `shared`, of these runs or of more.

    Returns:
        As `leaderboard.leaderboard`, with `rank` and `rank_to` of the assessment, the ends `low`
        and `high` of its 95 % interval (fractions) and what that `covers`.
    """
    keys = [*GROUP, "method"]
    found = board[[*keys, "rank", "rank_to", "low", "high", "covers"]]
    table = runs.leaderboard.merge(found, on=keys, how="left")
    others = ["complete", "seeds", *compared_costs(), "ppt", "covers"]
    return table[[*GROUP, "rank", "rank_to", "method", MIOU, "low", "high", *others]]


def to_markdown(frame: pd.DataFrame, columns: Sequence[Column], group: Sequence[str] = ()) -> str:
    """A GitHub table with the best of each column in bold, ending in a newline.

    Args:
        frame: the numbers.
        columns: what to show, in order.
        group: rows that differ in these columns of the frame do not compete for bold.
    """
    body = _texts(frame, columns, group, _markdown, lambda text: f"**{text}**")
    head = [_markdown(column.header) for column in columns]
    rule = [":--" if column.kind == "text" else "--:" for column in columns]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])


def to_latex(frame: pd.DataFrame, columns: Sequence[Column], group: Sequence[str] = ()) -> str:
    """A booktabs tabular with the best of each column in bold; arguments as in `to_markdown`."""
    body = _texts(frame, columns, group, _latex, lambda text: f"\\textbf{{{text}}}")
    head = [_latex(column.header) for column in columns]
    align = "".join("l" if column.kind == "text" else "r" for column in columns)
    lines = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", f"{' & '.join(head)} \\\\", "\\midrule"]
    lines += [f"{' & '.join(row)} \\\\" for row in body]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def to_csv(frame: pd.DataFrame) -> str:
    """The numbers as they are, under the record's own column names."""
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def to_rich(frame: pd.DataFrame, columns: Sequence[Column], title: str) -> Table:
    """A terminal table; arguments as in `to_markdown`."""
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
    for column in columns:
        text = column.kind == "text"
        cells = [column.header, *_cells(frame, column)]
        longest = max(map(len, cells))
        # Names fold and numbers never do: half a number misleads, half a name does not.
        table.add_column(
            escape(column.header),
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
            min_width=min(longest, FEWEST_LETTERS) if text else longest,
        )
    for row in _texts(frame, columns, (), escape, lambda text: f"[bold]{text}[/bold]"):
        table.add_row(*row)
    return table


def write_table(
    frame: pd.DataFrame, columns: Sequence[Column], stem: Path, group: Sequence[str] = ()
) -> list[Path]:
    """Writes `<stem>.csv`, `<stem>.md` and `<stem>.tex`.

    Args:
        frame: the numbers; the CSV holds all of its columns.
        columns: what the Markdown and LaTeX tables show.
        stem: path without a suffix; its folder exists.
        group: rows that differ in these columns do not compete for bold.

    Returns:
        The three paths.
    """
    texts = {
        "csv": to_csv(frame),
        "md": to_markdown(frame, columns, group),
        "tex": to_latex(frame, columns, group),
    }
    # Not with_suffix: a benchmark's name may hold a dot.
    paths = {suffix: stem.with_name(f"{stem.name}.{suffix}") for suffix in texts}
    for suffix, path in paths.items():
        path.write_text(texts[suffix], encoding="utf-8", newline="\n")
    return list(paths.values())


def _texts(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    group: Sequence[str],
    quote: Callable[[str], str],
    bold: Callable[[str], str],
) -> list[list[str]]:
    """The cells of the body, row by row."""
    by_column = []
    for column in columns:
        texts = [quote(text) for text in _cells(frame, column)]
        marks = _best(frame, column, group)
        by_column.append(
            [bold(text) if mark else text for text, mark in zip(texts, marks, strict=True)]
        )
    return [list(row) for row in zip(*by_column, strict=True)]


def _cells(frame: pd.DataFrame, column: Column) -> list[str]:
    """The texts of a column."""
    texts = [_cell(value, column.kind) for value in frame[column.name]]
    if not column.to:
        return texts
    ends = [_cell(value, column.kind) for value in frame[column.to]]
    return [text if text == end else f"{text}–{end}" for text, end in zip(texts, ends, strict=True)]


def _cell(value: Any, kind: Kind) -> str:
    # A column of numbers may hold a word ("failed") where there is no number.
    return human(None if value is pd.NA else value, "text" if isinstance(value, str) else kind)


def _best(frame: pd.DataFrame, column: Column, group: Sequence[str]) -> list[bool]:
    """Which cells print the best value of their group; none where there is no competition."""
    if column.best is None:
        return [False] * len(frame)
    numbers = pd.to_numeric(frame[column.name], errors="coerce")
    keys = [frame[name] for name in group] or [pd.Series(0, index=frame.index)]
    groups = numbers.groupby(keys)
    best = groups.transform(column.best)
    rivals = groups.transform("count")
    return [
        rival > 1 and human(number, column.kind) == human(top, column.kind) != MISSING
        for number, top, rival in zip(numbers, best, rivals, strict=True)
    ]


def _markdown(text: str) -> str:
    for sign in "\\|*<`":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def _latex(text: str) -> str:
    signs = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "#": r"\#",
    }
    signs |= {sign: "\\" + sign for sign in "&%$_{}"}
    # A row that starts with [ would be read as the optional argument of the \\ before it.
    signs |= {"[": "{[}", "]": "{]}"}
    return " ".join("".join(signs.get(letter, letter) for letter in text).split())
