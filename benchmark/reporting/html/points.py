"""Scores and costs of every method, on each benchmark and on average, with their intervals."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.analysis.costs import COSTS, cost_columns, with_numbers
from benchmark.analysis.leaderboard import GROUP, MIOU, cells, leaderboard, split_groups
from benchmark.reporting.html.payload import AVERAGE, SHARED, Axis, Field

if TYPE_CHECKING:
    from benchmark.reporting.html.evidence import Evidence

AXES: tuple[Axis, ...] = tuple(
    Axis(column=cost.column, label=cost.title, short=cost.heading, kind=cost.kind, main=cost.main)
    for cost in COSTS
    if not cost.of_backbone
)
"""The costs that mIoU is drawn against."""

FIELDS: tuple[Field, ...] = (
    *(
        Field(column=f"metrics.{column}", label=label, kind=kind)
        for column, label, kind in (
            ("miou", "mIoU", "points"),
            ("image_miou", "mIoU per image", "points"),
            ("boundary_miou", "Boundary mIoU", "points"),
            ("pixel_accuracy", "Pixel accuracy", "points"),
            ("mean_accuracy", "Mean accuracy", "points"),
            ("fw_iou", "Frequency-weighted IoU", "points"),
            ("ece", "Calibration error", "points"),
            ("nll", "Negative log-likelihood", "number"),
        )
    ),
    *(
        Field(column=cost.column, label=cost.title, kind=cost.kind)
        for cost in COSTS
        if not (cost.of_backbone or cost.reference)
    ),
    # Times of a single run, under the load at that time: shown, but not compared.
    Field(column="costs.train.seconds", label="Training time", kind="seconds"),
    Field(column="costs.infer.latency_ms_p50", label="Latency of one image", kind="ms"),
    Field(column="costs.train.images_per_second", label="Training, images/s", kind="rate"),
    Field(column="costs.infer.images_per_second", label="Inference, images/s", kind="rate"),
)

_CELL = [*GROUP, "benchmark", "method"]


def with_fields(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with every column that the page may show; NaN where a run has it not."""
    return with_numbers(runs, [field["column"] for field in FIELDS])


def score_points(runs: pd.DataFrame, evidence: "Evidence | None") -> pd.DataFrame:
    """Every point of every diagram, and every row of every leaderboard.

    Args:
        runs: as `with_fields` returns them.
        evidence: intervals and ranks; without it intervals are t intervals over seeds.

    Returns:
        GROUP, `scope` (a benchmark's name, or AVERAGE or SHARED), `method`, `rank`, `metrics.miou`,
        `low`, `high` (fractions), `complete`, `status`, `seeds`, `covers`, `iqm` and the costs.
    """
    # Records have two hundred columns, which the statistics would copy again and again.
    needed = [*_CELL, "seed", "status", "provenance.started", MIOU, *cost_columns()]
    slim = runs.reindex(columns=needed)
    table = cells(slim).rename(columns={"benchmark": "scope"})
    table["complete"] = ""
    shown = table[MIOU].mul(100).round(1)
    by = [table[name] for name in [*GROUP, "scope"]]
    table["rank"] = shown.groupby(by).rank(method="min", ascending=False)
    parts = [_averages(slim, AVERAGE), table]
    for key, rows in split_groups(table):
        shared = finished_by_all(rows)
        if 1 < len(shared) < rows["scope"].nunique():
            few = slim[slim["benchmark"].isin(shared) & (slim[GROUP] == list(key)).all(axis=1)]
            parts.append(_averages(few, SHARED))
    points = pd.concat(parts, ignore_index=True)
    points["low"], points["high"] = points[MIOU] - points["ci95"], points[MIOU] + points["ci95"]
    points["covers"] = np.where(points["low"].notna(), "seeds", "")
    points["iqm"] = np.nan
    return points if evidence is None else _with_evidence(points, evidence)


def finished_by_all(rows: pd.DataFrame) -> list[str]:
    """The benchmarks that every method with a result finished.

    Args:
        rows: of one group: `scope` (a benchmark), `method`, `status`.
    """
    done = rows[rows["status"] == "done"]
    counts = done.groupby("scope")["method"].nunique()
    return sorted(map(str, counts[counts == done["method"].nunique()].index))


def _averages(runs: pd.DataFrame, scope: int) -> pd.DataFrame:
    """Rows of the leaderboard over the benchmarks of `runs`."""
    board = leaderboard(runs)
    board["status"] = np.where(board["rank"].notna(), "done", "incomplete")
    board["rank"] = board["rank"].astype(float)
    return board.assign(scope=scope)


def _with_evidence(points: pd.DataFrame, evidence: "Evidence") -> pd.DataFrame:
    """Intervals of the bootstrap and ranks with ties in the place of the simple ones."""
    keys = [*GROUP, "scope", "method"]
    board = evidence.board.assign(scope=AVERAGE)
    rows = evidence.cells.rename(columns={"benchmark": "scope"}).assign(rank=np.nan)
    names = [*keys, "low", "high", "rank", "covers"]
    known = pd.concat([board[names], rows[names]], ignore_index=True)
    merged = points.merge(known, on=keys, how="left", suffixes=("", "_known"))
    for name in ("low", "high", "rank"):
        better = merged[f"{name}_known"].astype(float)
        merged[name] = better.where(better.notna() & merged[MIOU].notna(), merged[name])
    known_low = merged["low_known"].notna()
    merged["covers"] = merged["covers_known"].where(known_low, merged["covers"])
    merged = merged.drop(columns=[name for name in merged if str(name).endswith("_known")])
    iqm = evidence.iqm[[*GROUP, "method", "iqm"]].assign(scope=AVERAGE)
    return merged.drop(columns="iqm").merge(iqm, on=keys, how="left")
