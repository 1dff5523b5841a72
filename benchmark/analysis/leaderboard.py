"""From runs to tables: a DataFrame in, a DataFrame out; `Runs` holds them.

Everything starts from `cells`: one row per method and benchmark, averaged over seeds. Only runs of
one backbone, with the same weights, under the same protocol (`GROUP`) are ever compared.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from benchmark.analysis.costs import TRAINED, cost_columns, with_numbers

GROUP = ["backbone", "weights", "protocol_hash"]
"""Runs that differ in one of these columns are never ranked together."""

Key = tuple[str, str, str]
"""A group: backbone, weights, protocol_hash."""

MIOU = "metrics.miou"
DICE = "metrics.mdice"
_CLASS = "metrics.class_iou."
_CELL = [*GROUP, "benchmark", "method"]


def ppt(miou: Any, parameters: Any) -> Any:
    """Performance per trainable parameter, for comparison with published tables only.

    Args:
        miou: mIoU in [0, 1]; a number, an array or a Series.
        parameters: trainable backbone parameters (inserted and tuned, no decoder).

    Returns:
        `miou * exp(-log10(parameters / 1e7 + 1))`, of the type of the arguments.
    """
    return miou * np.exp(-np.log10(parameters / 1e7 + 1))


def t_interval(values: Iterable[float]) -> float:
    """Half width of the 95 % t interval of a mean; NaN for fewer than two values."""
    sample = pd.Series(list(values), dtype=float)
    return float(_t_intervals(sample.groupby(np.zeros(len(sample)))).get(0, np.nan))


def _t_intervals(groups: Any) -> pd.Series:
    """`t_interval` of each group of a grouped Series."""
    count = groups.size().astype(float)
    quantile = stdtrit((count - 1).where(count > 1), 0.975)
    return pd.Series(quantile * groups.std(ddof=1) / np.sqrt(count), dtype=float)


def means(rows: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Means of groups of rows; none (NaN) where a row of the group lacks the value.

    What some runs lack, since they are older, could not be compared with what all have.
    """
    groups = rows.groupby(list(keys))[list(columns)]
    return groups.mean().where(groups.count().eq(groups.size(), axis=0))


def split_groups(runs: pd.DataFrame) -> list[tuple[Key, pd.DataFrame]]:
    """Each ((backbone, weights, protocol_hash), rows) in sorted order."""
    groups = []
    for key, rows in runs.groupby(GROUP, sort=True):
        backbone, weights, protocol = map(str, key)
        groups.append(((backbone, weights, protocol), rows))
    return groups


def cells(current: pd.DataFrame) -> pd.DataFrame:
    """One row per (backbone, weights, protocol_hash, benchmark, method), averaged over seeds.

    A cell with a failed seed has no values: the mean over the seeds that survived would flatter a
    method that sometimes diverges.

    Args:
        current: what `current` returned.

    Returns:
        The key columns, `status` ("done", else what to print in place of the number), `seeds` (that
        finished), `metrics.miou`, `ci95` (half width over seeds), `metrics.mdice` (NaN where the
        benchmark does not report it), the costs and `ppt`.
    """
    # A record has many more columns, which the means would copy again and again.
    frame = current[[*_CELL, "seed", "status", MIOU, DICE, *cost_columns()]]
    good = frame[frame["status"] == "done"].copy()
    good["ppt"] = ppt(good[MIOU], good[TRAINED])
    table = _statuses(frame).to_frame()
    finished = good.groupby(_CELL)
    table["seeds"] = finished.size().reindex(table.index, fill_value=0).astype(int)
    table[MIOU] = finished[MIOU].mean()
    table["ci95"] = _t_intervals(finished[MIOU])
    others = [DICE, *cost_columns(), "ppt"]
    table[others] = means(good, _CELL, others).reindex(table.index)
    table.loc[table["status"] != "done", [MIOU, "ci95", *others]] = np.nan
    return table.reset_index()


def leaderboard(current: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Orders the methods of each (backbone, weights, protocol_hash) by their mean over benchmarks.

    A method that did not finish every benchmark of its group comes after the others, with its
    count and without means, which would be over other benchmarks. Ranks are those of
    `benchmark.analysis.uncertainty`.

    Args:
        current: what `current` returned.
        cells: what `cells` made of it.

    Returns:
        One row per group and method, best first, equal means by name: `metrics.miou`, `ci95` (half
        width of the 95 % interval over seeds; NaN below two seeds or where the seeds differ between
        benchmarks), `complete` ("4/5"), `seeds`, mean costs, `ppt`.
    """
    intervals = _intervals_over_seeds(current)
    everywhere = cells.groupby(GROUP)["benchmark"].nunique()
    others = [*cost_columns(), "ppt"]
    rows: list[dict[str, Any]] = []
    for labels, part in cells.groupby([*GROUP, "method"]):
        key = tuple(map(str, labels))
        done = part[part["status"] == "done"]
        total = int(everywhere[key[:-1]])
        complete = len(done) == total
        row: dict[str, Any] = dict(zip([*GROUP, "method"], key, strict=True))
        row["complete"] = f"{len(done)}/{total}"
        row["seeds"] = int(done["seeds"].min()) if len(done) else 0
        row |= {
            name: done[name].mean(skipna=False) if complete else np.nan for name in [MIOU, *others]
        }
        row["ci95"] = intervals.get(key, np.nan) if complete else np.nan
        rows.append(row)
    names = [*GROUP, "method", MIOU, "ci95", "complete", "seeds", *others]
    board = pd.DataFrame(rows, columns=names)
    return best_first(board)


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table by group, then by falling mIoU; equal ones by method."""
    order = [*GROUP, MIOU, "method"]
    return table.sort_values(order, ascending=[True] * 3 + [False, True]).reset_index(drop=True)


def per_benchmark(cells: pd.DataFrame, board: pd.DataFrame, values: str = MIOU) -> pd.DataFrame:
    """Method x benchmark, in the order of the leaderboard.

    Args:
        cells: what `cells` returned.
        board: what `leaderboard` made of them.
        values: column of `cells` to show: the mIoU, or "status" for the reason of a gap.

    Returns:
        The group's columns, `method`, one column a benchmark, and for numbers `average` (NaN
        where a benchmark is missing).
    """
    keys = [*GROUP, "method"]
    benchmarks = sorted(cells["benchmark"].unique())
    theirs = {key: sorted(part["benchmark"].unique()) for key, part in split_groups(cells)}
    wide = cells.pivot(index=keys, columns="benchmark", values=values)
    wide = wide.reset_index().rename_axis(columns=None)
    if values != "status":
        wide["average"] = [
            row[theirs[tuple(row[name] for name in GROUP)]].astype(float).mean(skipna=False)
            for _, row in wide.iterrows()
        ]
        benchmarks = [*benchmarks, "average"]
    return board[keys].merge(wide[[*keys, *benchmarks]], on=keys, how="left")


def dice_per_benchmark(cells: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """MDice as `per_benchmark` has mIoU, without an average, on the benchmarks that report it."""
    reporting = cells[cells.groupby("benchmark")[DICE].transform("count") > 0]
    if reporting.empty:
        return board[[*GROUP, "method"]]
    return per_benchmark(reporting, board, DICE).drop(columns="average")


def shared_benchmarks(cells: pd.DataFrame) -> list[str]:
    """The benchmarks that every method with a result finished, of the cells of one group."""
    done = cells[cells["status"] == "done"]
    counts = done.groupby("benchmark")["method"].nunique()
    return sorted(map(str, counts[counts == done["method"].nunique()].index))


def per_class(current: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """IoU of each class of a benchmark, averaged over seeds.

    Args:
        current: what `current` returned.
        benchmark: its name.

    Returns:
        The group's columns, `method` and one column a class that the labels contain; the best
        mean comes first within a group.
    """
    keys = [*GROUP, "method"]
    frame = current[(current["benchmark"] == benchmark) & (current["status"] == "done")]
    names = [
        name for name in frame.columns if name.startswith(_CLASS) and frame[name].notna().any()
    ]
    means = frame.groupby(keys)[[MIOU, *names]].mean().reset_index()
    means = best_first(means).drop(columns=MIOU)
    return means.rename(columns={name: name.removeprefix(_CLASS) for name in names})


def failures(current: pd.DataFrame) -> pd.DataFrame:
    """Runs that did not finish, with the reason; a later success of the same cell removes one."""
    columns = ["suite", "benchmark", *GROUP, "method", "seed", "status", "reason", "command"]
    frame = current[current["status"] != "done"].reindex(columns=columns)
    return frame.sort_values([*GROUP, "benchmark", "method", "seed"]).reset_index(drop=True)


def current(runs: pd.DataFrame) -> pd.DataFrame:
    """One run per cell and seed: a finished one before a failed one, then the latest.

    A run that was interrupted has not failed: beside finished seeds it counts as not run yet.
    """
    needed = [*_CELL, "seed", "status", "provenance.started", MIOU]
    missing = [name for name in needed if name not in runs.columns]
    numbers = [MIOU, DICE, *(name for name in runs.columns if name.startswith(_CLASS))]
    table = runs.reindex(columns=[*runs.columns, *missing]).reset_index(drop=True)
    frame = with_numbers(table, numbers)
    finished = (frame["status"] == "done").rename("finished")
    order = pd.concat([finished, frame["provenance.started"]], axis=1)
    frame = frame.loc[order.sort_values(["finished", "provenance.started"], kind="stable").index]
    frame = frame.drop_duplicates([*_CELL, "seed"], keep="last")
    done = (frame["status"] == "done").groupby([frame[name] for name in _CELL]).transform("any")
    frame = frame[~(done & (frame["status"] == "interrupted"))]
    return frame.sort_values([*_CELL, "seed"]).reset_index(drop=True)


def _statuses(frame: pd.DataFrame) -> pd.Series:
    """What to print for each cell: done, failed, unsupported, or how many of the seeds failed."""
    bad = frame[frame["status"] != "done"]
    table = frame.groupby(_CELL).size().rename("all").to_frame()
    table["bad"] = bad.groupby(_CELL).size()
    table["word"] = bad.groupby(_CELL)["status"].first()
    some = table["bad"].notna() & (table["bad"] < table["all"])
    words = table["word"].where(table["bad"].notna(), "done").astype(object)
    counts = table["bad"].fillna(0).astype(int).astype(str) + " of " + table["all"].astype(str)
    words = words.where(~some, words + " (" + counts + " seeds)")
    return words.rename("status")


def _intervals_over_seeds(frame: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """Half widths of the means over benchmarks, where every benchmark has the same seeds."""
    keys = [*GROUP, "method"]
    good = frame[frame["status"] == "done"]
    benchmarks = good.groupby(keys)["benchmark"].nunique().rename("benchmarks")
    seeds = good.groupby([*keys, "seed"])[MIOU].agg(["mean", "size"]).reset_index()
    seeds = seeds.merge(benchmarks.reset_index(), on=keys)
    seeds["whole"] = seeds["size"] == seeds["benchmarks"]
    same = seeds.groupby(keys)["whole"].transform("all")
    found = _t_intervals(seeds[same].groupby(keys)["mean"])
    return dict(zip(found.index.tolist(), found.tolist(), strict=True))
