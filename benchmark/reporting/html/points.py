"""Scores and costs of every method, on each benchmark and on average, with their intervals."""

import numpy as np
import pandas as pd

from benchmark.analysis.costs import COSTS, with_numbers
from benchmark.analysis.leaderboard import GROUP, MIOU, best_first, shared_benchmarks
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.reporting.html.payload import AVERAGE, SHARED, Axis, Field

AXES: tuple[Axis, ...] = tuple(
    Axis(column=cost.column, label=cost.title, short=cost.heading, kind=cost.kind, main=cost.main)
    for cost in COSTS
    if not cost.of_backbone
)
"""The costs that mIoU is drawn against."""

FIELDS: tuple[Field, ...] = (
    *(
        Field(column=f"metrics.{column}", label=label, kind=kind, time=False)
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
        Field(column=cost.column, label=cost.title, kind=cost.kind, time=False)
        for cost in COSTS
        if not (cost.of_backbone or cost.reference)
    ),
    # Times of a single run, under the load at that time: shown, but not compared.
    *(
        Field(column=f"costs.{column}", label=label, kind=kind, time=True)
        for column, label, kind in (
            ("train.seconds", "Training time", "seconds"),
            ("infer.latency_ms_p50", "Latency of one image", "ms"),
            ("train.images_per_second", "Training, images/s", "rate"),
            ("infer.images_per_second", "Inference, images/s", "rate"),
        )
    ),
)


def with_fields(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with every column that the page may show; NaN where a run has it not."""
    return with_numbers(runs, [field["column"] for field in FIELDS])


def score_points(runs: Runs, found: Assessment) -> pd.DataFrame:
    """Every point of every diagram, and every row of every leaderboard.

    Args:
        runs: the records.
        found: their intervals and ranks.

    Returns:
        GROUP, `scope` (a benchmark's name, or AVERAGE or SHARED), `method`, `rank`, `rank_to`,
        `metrics.miou`, `low`, `high` (fractions), `complete`, `status`, `seeds`, `covers`,
        `iqm` and the costs.
    """
    iqm = found.iqm[[*GROUP, "method", "iqm"]]
    average = _averages(runs, found.board).merge(iqm, on=[*GROUP, "method"], how="left")
    cells = best_first(runs.cells).merge(
        found.cells[[*GROUP, "benchmark", "method", *_FOUND]],
        on=[*GROUP, "benchmark", "method"],
        how="left",
    )
    parts = [average.assign(scope=AVERAGE), cells.rename(columns={"benchmark": "scope"})]
    for key, own in runs.groups.items():
        names = shared_benchmarks(own.cells)
        shared = found.shared[(found.shared[GROUP] == list(key)).all(axis=1)]
        # Over a single one it would be the leaderboard of this benchmark again.
        if len(shared) and len(names) > 1:
            parts.append(_averages(own.over(names), shared).assign(scope=SHARED))
    points = pd.concat(parts, ignore_index=True)
    points["complete"] = points["complete"].fillna("")
    return points.astype({"rank": float, "rank_to": float, "iqm": float})


_FOUND = ["rank", "rank_to", "low", "high", "covers"]


def _averages(runs: Runs, board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with the ranks and intervals of an assessment, and all costs."""
    keys = [*GROUP, "method"]
    table = runs.leaderboard.merge(board[[*keys, *_FOUND]], on=keys, how="left")
    return table.assign(status=np.where(table[MIOU].notna(), "done", "incomplete"))
