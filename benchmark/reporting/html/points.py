"""Scores and costs of every method, on each benchmark and on average, with their intervals."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.analysis.leaderboard import COSTS as SUMMED
from benchmark.analysis.leaderboard import GROUP, MIOU, cells, leaderboard, means, split_groups
from benchmark.reporting.html.payload import AVERAGE, SHARED, Cost, Field
from benchmark.results.timing_columns import LATENCY, TRAINING, column, references

if TYPE_CHECKING:
    from benchmark.reporting.html.evidence import Evidence

TRAINED = "costs.params.trained_backbone"
"""Inserted and tuned together: what the field calls the trainable parameters of a method."""

_MAIN = {"costs.stored.bytes", "costs.params.total_trainable", "costs.train.memory.peak_bytes"}
_MAIN |= {TRAINING, LATENCY}
"""Shown in the leaderboard before all costs are asked for."""

_TIMES = {
    "training": ("Time of a training step", "Training"),
    "latency": ("Latency of one image", "Latency"),
    "latency8": ("Latency of eight images", "Latency, 8"),
    "latency_merged": ("Latency of one image, merged", "Merged"),
    "latency8_merged": ("Latency of eight images, merged", "Merged, 8"),
}

COSTS: tuple[Cost, ...] = tuple(
    Cost(
        column=f"costs.{column}",
        label=label,
        short=short,
        kind=kind,
        main=f"costs.{column}" in _MAIN,
    )
    for column, label, short, kind in (
        ("stored.bytes", "Stored for one more task", "Stored", "bytes"),
        ("stored.bytes_fp16", "Stored in half precision", "Stored, fp16", "bytes"),
        ("params.total_trainable", "Trainable, decoder included", "Trainable", "count"),
        ("params.trained_backbone", "Trainable in the backbone", "In backbone", "count"),
        ("params.inserted", "Inserted parameters", "Inserted", "count"),
        ("params.tuned_backbone", "Tuned backbone parameters", "Tuned", "count"),
        ("params.decoder", "Decoder parameters", "Decoder", "count"),
        ("train.memory.peak_bytes", "Training memory, peak", "Memory", "bytes"),
        ("infer.flops", "FLOPs of one image", "FLOPs", "count"),
        ("infer.memory.peak_bytes", "Inference memory, peak", "Infer memory", "bytes"),
    )
) + tuple(
    Cost(
        column=column(kind, reference),
        label=f"{label} / {reference}",
        short=f"{short} / {reference}",
        kind="ratio",
        main=column(kind, reference) in _MAIN,
    )
    for reference in references()
    for kind, (label, short) in _TIMES.items()
)

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
        Field(column=c["column"], label=c["label"], kind=c["kind"])
        for c in COSTS
        if c["column"].startswith("costs.")
    ),
    # Times of a single run, under the load at that time: shown, but not compared.
    Field(column="costs.train.seconds", label="Training time", kind="seconds"),
    Field(column="costs.infer.latency_ms_p50", label="Latency of one image", kind="ms"),
    Field(column="costs.train.images_per_second", label="Training, images/s", kind="rate"),
    Field(column="costs.infer.images_per_second", label="Inference, images/s", kind="rate"),
)

_CELL = [*GROUP, "benchmark", "method"]


def with_trained(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the parameters that are trained in the backbone, and every column present."""
    known = [field["column"] for field in FIELDS] + [cost["column"] for cost in COSTS]
    numbers = [*dict.fromkeys(known), "costs.params.backbone"]
    missing = [name for name in numbers if name not in runs.columns]
    frame = runs.reindex(columns=[*runs.columns, *missing])
    frame[numbers] = frame[numbers].astype(float)
    frame[TRAINED] = frame["costs.params.inserted"] + frame["costs.params.tuned_backbone"]
    return frame


def score_points(runs: pd.DataFrame, evidence: "Evidence | None") -> pd.DataFrame:
    """Every point of every diagram, and every row of every leaderboard.

    Args:
        runs: as `with_trained` returns them.
        evidence: intervals and ranks; without it intervals are t intervals over seeds.

    Returns:
        GROUP, `scope` (a benchmark's name, or AVERAGE or SHARED), `method`, `rank`, `metrics.miou`,
        `low`, `high` (fractions), `complete`, `status`, `seeds`, `covers`, `iqm` and the costs.
    """
    costs = _cell_costs(runs)
    # Records have two hundred columns, which the statistics would copy again and again.
    needed = [*_CELL, "seed", "status", "provenance.started", MIOU, *SUMMED]
    slim = runs.reindex(columns=needed)
    table = cells(slim).drop(columns=[c["column"] for c in COSTS], errors="ignore")
    table = table.merge(costs, on=_CELL, how="left").rename(columns={"benchmark": "scope"})
    table.loc[table["status"] != "done", costs.columns.difference(_CELL)] = np.nan
    table["complete"] = ""
    shown = table[MIOU].mul(100).round(1)
    by = [table[name] for name in [*GROUP, "scope"]]
    table["rank"] = shown.groupby(by).rank(method="min", ascending=False)
    parts = [_averages(slim, table, AVERAGE), table]
    for key, rows in split_groups(table):
        shared = finished_by_all(rows)
        if 1 < len(shared) < rows["scope"].nunique():
            few = slim[slim["benchmark"].isin(shared) & (slim[GROUP] == list(key)).all(axis=1)]
            parts.append(_averages(few, rows[rows["scope"].isin(shared)], SHARED))
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


def _cell_costs(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean costs of the finished runs of each cell; of runs of one seed the latest counts."""
    done = runs[runs["status"] == "done"]
    if "provenance.started" in done:
        done = done.sort_values("provenance.started", kind="stable")
    done = done.drop_duplicates([*_CELL, "seed"], keep="last")
    return means(done, _CELL, [c["column"] for c in COSTS]).reset_index()


def _averages(runs: pd.DataFrame, table: pd.DataFrame, scope: int) -> pd.DataFrame:
    """Rows of the leaderboard over the benchmarks of `runs`, with all costs."""
    board = leaderboard(runs)[[*GROUP, "method", "rank", MIOU, "ci95", "complete", "seeds"]]
    keys = [*GROUP, "method"]
    own = table[table["method"].isin(board["method"])]
    costs = means(own, keys, [c["column"] for c in COSTS]).reset_index()
    board = board.merge(costs, on=keys, how="left")
    ranked = board["rank"].notna()
    board.loc[~ranked, [c["column"] for c in COSTS]] = np.nan
    board["status"] = np.where(ranked, "done", "incomplete")
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
