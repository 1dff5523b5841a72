"""Lines of the page: training curves, label efficiency, corruptions, ablations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmark.analysis.ablation import INSERTED, ablation, families
from benchmark.analysis.leaderboard import GROUP, Key
from benchmark.reporting.html.evidence import Index
from benchmark.reporting.html.payload import Kind, Series, numbers

MOST_POINTS = 200
"""Of one training curve."""
_ALL_POINTS = 120_000  # of all training curves together, about 2 MB

TRAINING, FRACTION, CORRUPTION, ABLATION = "training", "fraction", "corruption", "ablation"

KINDS: tuple[Kind, ...] = (
    Kind(
        name=TRAINING,
        label="Training loss",
        x="Step",
        y="Loss",
        log=False,
        note="Smoothed over neighbouring steps and averaged over seeds.",
    ),
    Kind(
        name=FRACTION,
        label="Fewer training images",
        x="Share of the training images",
        y="mIoU",
        log=True,
        note="The points of a line differ only in the share of training images.",
    ),
    Kind(
        name=CORRUPTION,
        label="Corrupted images",
        x="Severity (0: clean)",
        y="mIoU",
        log=False,
        note="Mean over the corruptions of a group that were measured for every method.",
    ),
    Kind(
        name=ABLATION,
        label="Settings of a method",
        x="Value",
        y="mIoU",
        log=True,
        note="One line per benchmark, for the benchmarks that all settings finished.",
    ),
)


_ABLATED = (
    *GROUP,
    "benchmark",
    "method",
    "seed",
    "status",
    "provenance.started",
    "metrics.miou",
    "costs.",
)
"""Starts of the names of the columns that settings are compared by."""


@dataclass(frozen=True)
class Line:
    """Scores of one method along an axis.

    Attributes:
        panel: what is drawn together, such as "ViT on camvid".
        method: its label.
        x: the share of the images, or the severity.
        y: mIoU, fractions.
        low: of the interval, or empty.
        high: of the interval, or empty.
        group: (backbone, weights, protocol_hash); None where the line joins several protocols.
    """

    panel: str
    method: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    group: Key | None = None


@dataclass(frozen=True)
class Curves:
    """All lines that need more than the records.

    Attributes:
        training: (step, loss) by group, benchmark and method.
        fractions: mIoU against the share of the training images.
        corruptions: mIoU against the severity.
    """

    training: Mapping[tuple[Key, str, str], Sequence[tuple[float, float]]] = field(
        default_factory=dict
    )
    fractions: Sequence[Line] = ()
    corruptions: Sequence[Line] = ()


def thin(
    points: Sequence[tuple[float, float]], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """Means of neighbours, so that at most `most` points are left.

    Args:
        points: (x, y) in order; those that are not finite are left out.
        most: how many may be left, at least 1.

    Returns:
        The points, or the means of equally long stretches of them (the last may be shorter).
    """
    known = np.array(points, dtype=float).reshape(-1, 2)
    known = known[np.isfinite(known).all(axis=1)]
    width = max(1, math.ceil(len(known) / most))
    starts = np.arange(0, len(known), width)
    if not len(starts):
        return []
    sizes = np.diff(np.append(starts, len(known)))
    means = np.add.reduceat(known, starts, axis=0) / sizes[:, None]
    return [(float(x), float(y)) for x, y in means]


def series(runs: pd.DataFrame, curves: Curves, index: Index) -> list[Series]:
    """All lines, as the page draws them; mIoU stays a fraction."""
    return [
        *_training(curves, index),
        *_lines(FRACTION, curves.fractions, index),
        *_lines(CORRUPTION, curves.corruptions, index),
        *_ablations(runs, index),
    ]


def _training(curves: Curves, index: Index) -> Iterable[Series]:
    most = max(20, min(MOST_POINTS, _ALL_POINTS // max(1, len(curves.training))))
    for (key, benchmark, method), points in sorted(curves.training.items()):
        shown = thin(points, most)
        if shown:
            yield _one(
                TRAINING,
                index.group(key),
                benchmark,
                method,
                index.method(method),
                [x for x, _ in shown],
                [y for _, y in shown],
            )


def _lines(kind: str, lines: Sequence[Line], index: Index) -> Iterable[Series]:
    for line in lines:
        group = -1 if line.group is None else index.group(line.group)
        yield _one(
            kind,
            group,
            line.panel,
            line.method,
            index.method(line.method),
            line.x,
            line.y,
            line.low,
            line.high,
        )


def _ablations(runs: pd.DataFrame, index: Index) -> Iterable[Series]:
    """A line a benchmark against the one field that differs, or against inserted parameters."""
    # Copying all columns of the records for each setting takes longer than everything else.
    slim = runs[[name for name in runs.columns if name.startswith(_ABLATED)]]
    for name in families(runs):
        table = ablation(slim, name)
        edge = list(table.columns).index(INSERTED)
        fields = [c for c in table.columns[:edge] if c not in (*GROUP, "method")]
        single = len(fields) == 1 and bool(
            pd.to_numeric(table[fields[0]], errors="coerce").notna().all()
        )
        x = fields[0] if single else INSERTED
        for key, part in table.groupby(GROUP):
            part = part.assign(_x=pd.to_numeric(part[x])).sort_values("_x")
            scores = part[table.columns[edge + 1 :]].dropna(axis=1)
            panel = f"{name}: {'inserted parameters' if x == INSERTED else x}"
            for benchmark in scores.columns:
                yield _one(
                    ABLATION,
                    index.group(tuple(map(str, key))),
                    panel,
                    str(benchmark),
                    -1,
                    part["_x"].tolist(),
                    scores[benchmark].tolist(),
                )


def _one(
    kind: str,
    group: int,
    panel: str,
    name: str,
    method: int,
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> Series:
    x, y, low, high = ([value or 0 for value in numbers(part)] for part in (x, y, low, high))
    return Series(
        kind=kind, group=group, panel=panel, name=name, method=method, x=x, y=y, low=low, high=high
    )
