"""Every table of a report: which numbers, under which headings, in which file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from benchmark.analysis.ablation import ablation, differences, families
from benchmark.analysis.cost_tables import storage
from benchmark.analysis.costs import INSERTED, component_costs
from benchmark.analysis.efficiency import COMPARED, corruption_table
from benchmark.analysis.groups import slug
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty.family import AVERAGE
from benchmark.core.format import Kind
from benchmark.reporting import timing_notes
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.tables import COLUMNS, Column, ranked
from benchmark.results.timing_columns import RATIOS

WHICH = Column("group.name", "Group")
"""Names the group of a row, where a report has several."""

TIMED = Column("group.timed", "Timed with")
"""Says with what the times of a row were measured, where this differs between groups."""

FAILURES = (
    Column("benchmark", "Benchmark"),
    Column("method", "Method"),
    Column("seed", "Seed", "integer"),
    Column("status", "Status"),
    Column("reason", "Reason"),
    Column("command", "Run again with"),
)

PAIRS = (
    Column("benchmark", "Benchmark"),
    Column("method_a", "A"),
    Column("method_b", "B"),
    Column("difference", "A - B", "points"),
    Column("low", "from", "points"),
    Column("high", "to", "points"),
    Column("p_holm", "p (Holm)", "number"),
    Column("significant", "Significant"),
)

DIFFERENCES = (
    Column("benchmark", "Benchmark"),
    Column("method", "Setting"),
    Column("difference", "Setting - defaults", "points"),
    *PAIRS[4:],
)

RANKS = (
    Column("method", "Method"),
    Column("average_rank", "Average rank", "number", "min"),
    Column("cells", "Benchmarks", "integer"),
    Column("critical_difference", "Critical difference", "number"),
)

AGGREGATES = (
    Column("method", "Method"),
    Column("iqm", "IQM", "points", "max"),
    Column("low", "from", "points"),
    Column("high", "to", "points"),
    Column("cells", "Runs", "integer"),
)

STORAGE = (
    Column("method", "Method"),
    Column("tasks", "Tasks", "integer"),
    Column("bytes", "On disk", "bytes"),
    Column("backbone_bytes", "of which shared", "bytes"),
    Column("task_bytes", "a task", "bytes"),
)

CORRUPTIONS = (
    Column("method", "Method"),
    Column("benchmarks", "Benchmarks", "integer"),
    Column("pairs", "Corruptions x severities", "integer"),
    Column("clean", "Clean", "points", "max"),
    Column("mean", "Corrupted", "points", "max"),
    Column("relative_drop", "Lost (%)", "points", "min"),
)


@dataclass(frozen=True)
class ReportTable:
    """One table.

    Attributes:
        stem: name of its files.
        frame: the numbers; the CSV holds all of its columns.
        columns: what people are shown.
    """

    stem: str
    frame: pd.DataFrame
    columns: Sequence[Column]


def report_tables(inputs: ReportInputs) -> Iterator[ReportTable]:
    """The tables that have something to show, and that of failures in any case.

    Where there are several groups, every table names the group of its rows (but for those that
    compare two groups).
    """
    runs, found = inputs.runs, inputs.assessment
    of = partial(_with_groups, runs)
    yield of("leaderboard", ranked(runs, found.board), COLUMNS)
    table, columns = benchmark_table(runs)
    yield of("per_benchmark", table, columns)
    table, columns = dice_table(runs)
    if len(columns) > 1:
        yield of("per_benchmark_dice", table, columns)
    for name in sorted(runs.frame["benchmark"].unique()):
        table, columns = class_table(runs, name)
        yield of(f"per_class_{name}", table, columns)
    for name, (table, columns) in studies(runs).items():
        yield of(f"ablation_{slug(name)}", table, columns)
        against = differences(found.pairs, name)
        if len(against):
            yield of(f"ablation_{slug(name)}_differences", against, DIFFERENCES)
    scores = runs.label_efficiency
    parts: list[tuple[str, pd.DataFrame, Sequence[Column]]] = [
        ("pairs", without_lone_averages(runs, found.pairs), PAIRS),
        ("ranks", found.ranks, RANKS),
        ("iqm", found.iqm, AGGREGATES),
        ("cost_ledger", runs.cost_table, _cost_columns()),
        ("storage", storage(runs.cost_table), STORAGE),
        ("fronts", without_lone_averages(runs, found.fronts), _plain(found.fronts)),
        ("hypervolumes", found.hypervolumes, _plain(found.hypervolumes)),
        ("improvement", found.improvement, _plain(found.improvement)),
        ("agreement", found.agreement, _plain(found.agreement)),
        ("label_efficiency", scores, _plain(scores)),
        ("corruptions", _corruptions(inputs), CORRUPTIONS),
    ]
    for stem, table, shown in parts:
        if not table.empty:
            yield of(stem, table, shown)
    yield of("failures", runs.failures, FAILURES)


def _with_groups(
    runs: Runs, stem: str, table: pd.DataFrame, columns: Sequence[Column]
) -> ReportTable:
    """The table with the names of several groups, the fullest first.

    Where groups were timed under different conditions, each row says under which.
    """
    names = list(runs.names)
    keys = list(zip(*(table[name].astype(str) for name in GROUP), strict=True))
    # Rows of a comparison of two groups belong to neither.
    if len(names) < 2 or not set(keys) <= set(names):
        return ReportTable(stem, table, columns)
    table = table.copy()
    table.insert(0, WHICH.name, [runs.names[key].label for key in keys])
    columns = [WHICH, *columns]
    timed = {key: timing_notes.conditions(own.frame) for key, own in runs.groups.items()}
    if len({text for text in timed.values() if text}) > 1 and set(RATIOS) & set(table.columns):
        table[TIMED.name] = [timed[key] for key in keys]
        columns.append(TIMED)
    order = sorted(range(len(keys)), key=lambda row: names.index(keys[row]))
    return ReportTable(stem, table.iloc[order].reset_index(drop=True), columns)


def without_lone_averages(runs: Runs, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table but for averages of groups with a single benchmark, which it has, too."""
    if table.empty:
        return table
    single = {key for key, own in runs.groups.items() if own.frame["benchmark"].nunique() == 1}
    keys = zip(*(table[name].astype(str) for name in GROUP), strict=True)
    alone = pd.Series([key in single for key in keys], index=table.index)
    return table[~(alone & (table["benchmark"] == AVERAGE))]


def class_table(runs: Runs, benchmark: str) -> tuple[pd.DataFrame, list[Column]]:
    """IoU per class of a benchmark, and its columns."""
    table = runs.per_class(benchmark)
    known = [label for label in table.columns if label not in (*GROUP, "method")]
    return table, [Column("method", "Method"), *(Column(c, c, "points", "max") for c in known)]


def benchmark_table(runs: Runs) -> tuple[pd.DataFrame, list[Column]]:
    """MIoU per benchmark, with "failed" or "unsupported" where that is why there is none."""
    numbers, words = runs.per_benchmark, runs.statuses
    names = [name for name in numbers.columns if name not in (*GROUP, "method")]
    table = numbers.astype({name: object for name in names})
    for name in words.columns.intersection(names):
        known = words[name].notna() & (words[name] != "done")
        table[name] = table[name].where(~known, words[name])
    if len(names) == 2:
        names.remove("average")
        table = table.drop(columns="average")
    columns = [Column("method", "Method")]
    return table, columns + [Column(name, name, "points", "max") for name in names]


def dice_table(runs: Runs) -> tuple[pd.DataFrame, list[Column]]:
    """MDice on the benchmarks that report it; no column but `method` where none does."""
    table = runs.dice_per_benchmark
    names = [name for name in table.columns if name not in (*GROUP, "method")]
    columns = [Column("method", "Method")]
    return table, columns + [Column(name, name, "points", "max") for name in names]


def studies(runs: Runs) -> dict[str, tuple[pd.DataFrame, list[Column]]]:
    """By method, its settings side by side, where it was run with several."""
    tables = {name: _study(runs, name) for name in families(runs.frame)}
    return {name: pair for name, pair in tables.items() if not pair[0].empty}


def _study(runs: Runs, name: str) -> tuple[pd.DataFrame, list[Column]]:
    table = ablation(runs.frame, name)
    edge = list(table.columns).index(INSERTED)
    fields = [c for c in table.columns[:edge] if c not in (*GROUP, "method")]
    columns = [Column("method", "Setting"), *(Column(f, f) for f in fields)]
    columns.append(Column(INSERTED, "Inserted", "count"))
    return table, columns + [Column(c, c, "points", "max") for c in table.columns[edge + 1 :]]


def _corruptions(inputs: ReportInputs) -> pd.DataFrame:
    scores = inputs.runs.corruption_scores
    return corruption_table(scores) if len(scores) else pd.DataFrame(columns=[*COMPARED, "method"])


def _cost_columns() -> list[Column]:
    columns = [Column("method", "Method"), Column("complete", "Done")]
    for cost in component_costs():
        words = cost.column.removeprefix("costs.").removeprefix("timing.").split(".")
        if cost.reference:
            words.insert(-1, "/")
        columns.append(Column(cost.column, " ".join(words).replace("_", " "), cost.kind))
    return columns


def _plain(table: pd.DataFrame) -> list[Column]:
    """Columns under their own names, numbers as they are."""
    columns = []
    for name in map(str, table.columns):
        if name in (*GROUP, "family"):
            continue
        number = pd.api.types.is_float_dtype(table[name])
        kind: Kind = "points" if name == MIOU else "number" if number else "text"
        columns.append(Column(name, name.replace("_", " "), kind))
    return columns
