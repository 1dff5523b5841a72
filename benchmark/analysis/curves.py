"""Curves of stored runs, from `curve.jsonl` beside the record: loss, and mIoU on validation."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.core.errors import printable

CURVE = "curve.jsonl"
LOSS, VALIDATION = "loss", "val_miou"
"""Quantities of a curve: of every step, and of those after which validation was evaluated."""
KEYS = [*GROUP, "benchmark", "method", "seed"]


def folders_of(runs: pd.DataFrame, root: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yields (GROUP, benchmark, method and seed; folder) of each run whose folder is known.

    Args:
        runs: one row a record, with `folder` relative to `root` ("" if unknown).
        root: what the runs were loaded from.
    """
    if "folder" not in runs.columns:
        return
    known = runs[runs["folder"].fillna("") != ""]
    for row in known[[*KEYS, "folder"]].to_dict("records"):
        yield {name: row[name] for name in KEYS}, root / str(row["folder"])


def training_curves(runs: pd.DataFrame, root: Path, quantity: str = LOSS) -> pd.DataFrame:
    """The curves of all finished runs.

    Args:
        runs: one row a record, with `folder`.
        root: what the runs were loaded from.
        quantity: `LOSS` or `VALIDATION`.

    Returns:
        GROUP, `benchmark`, `method`, `seed`, `step` and the quantity; empty where no curve is
        known.
    """
    keys, steps, losses = [], [], []
    for key, folder in folders_of(runs[runs["status"] == "done"], root):
        points = read_curve(folder, quantity)
        if points is not None and len(points[0]):
            keys.append(key)
            steps.append(points[0])
            losses.append(points[1])
    if not keys:
        return pd.DataFrame(columns=[*KEYS, "step", quantity])
    # Put together once: a table a run would take ten times as long for thousands of runs.
    rows = np.repeat(np.arange(len(keys)), [len(part) for part in steps])
    table = pd.DataFrame(keys).iloc[rows].reset_index(drop=True)
    return table.assign(**{"step": np.concatenate(steps), quantity: np.concatenate(losses)})


def read_curve(folder: Path, quantity: str = LOSS) -> tuple[np.ndarray, np.ndarray] | None:
    """The curve of one run.

    Args:
        folder: of the run.
        quantity: `LOSS` or `VALIDATION`.

    Returns:
        Steps (from 1) that have it, ascending, and the quantity of each; None where there is no
        curve, or, with a warning, where it is damaged.
    """
    path = folder / CURVE
    try:
        # One list of all lines: thousands of curves are read at once.
        points = json.loads(f"[{','.join(path.read_text(encoding='utf-8').splitlines())}]")
        if quantity == VALIDATION:
            points = [point for point in points if VALIDATION in point]
        steps = np.array([point["step"] for point in points], dtype=np.int64)
        values = np.array([point[quantity] for point in points], dtype=float)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        warnings.warn(printable(f"{path} is left out: it is damaged"), stacklevel=3)
        return None
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def smooth(loss: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean; at the ends, over the part of the window that is inside.

    Args:
        loss: (n,) one value a step.
        window: odd number of steps.

    Returns:
        (n,) the means. A value that is not finite makes the rest of its window so.
    """
    ones = np.ones(window)
    middle = slice(window // 2, window // 2 + len(loss))
    counts = np.convolve(np.ones(len(loss)), ones)[middle]
    return np.asarray(np.convolve(loss, ones)[middle] / counts)


def smoothed(
    curves: pd.DataFrame, share: float = 0.1, quantity: str = LOSS
) -> tuple[pd.DataFrame, int]:
    """Curves that people can compare: smoothed, then averaged over seeds.

    Args:
        curves: as `training_curves` returns them.
        share: of the steps of the longest curve that the moving mean covers.
        quantity: `LOSS` or `VALIDATION`.

    Returns:
        GROUP, `benchmark`, `method`, `step`, the quantity (mean over seeds), `low` and `high`
        (smallest and largest seed), and the window in steps. Where seeds stopped at different
        steps, the curve ends with the first of them, because a mean over fewer seeds would jump.
    """
    window = int(share * curves["step"].max()) // 2 * 2 + 1 if len(curves) else 1
    rows = []
    for key, part in curves.groupby(KEYS[:-1], sort=True):
        table = part.pivot_table(quantity, "step", "seed", aggfunc="last", dropna=False)
        losses = table.to_numpy(dtype=float, copy=True)  # (steps, seeds)
        for column in losses.T:
            ran = ~np.isnan(column)
            column[ran] = smooth(column[ran], window)
        whole = np.isfinite(losses).all(axis=1)
        losses = losses[whole]
        names = dict(zip(KEYS[:-1], map(str, key), strict=True))
        mean, low, high = losses.mean(axis=1), losses.min(axis=1), losses.max(axis=1)
        lines = {quantity: mean, "low": low, "high": high}
        rows.append(pd.DataFrame({"step": table.index[whole], **lines}).assign(**names))
    columns = [*KEYS[:-1], "step", quantity, "low", "high"]
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return frame[columns], window
