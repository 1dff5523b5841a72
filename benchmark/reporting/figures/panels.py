"""The sheet that figures share: panels in rows, one title, axis labels and legend below."""

import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmark.analysis.efficiency import AVERAGE
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.reporting.style import LABEL_SIZE

DPI = 150
_NOTE_SIZE = 8.0  # of the note below the legend, in typographic points
_KEYS = [*GROUP, "benchmark", "method"]


@dataclass(frozen=True)
class Words:
    """The texts of a sheet around the panels.

    Attributes:
        title: of the figure.
        x: label of the horizontal axes.
        y: label of the vertical axes.
        note: what a reader must know about the data, below the legend.
    """

    title: str
    x: str
    y: str
    note: str = ""


def draw_panels(
    names: Sequence[str],
    draw: Callable[[Any, str], None],
    words: Words,
    keys: Sequence[Any] = (),
    tint: str | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draws one panel a name; call it inside `look()`.

    Args:
        names: titles of the panels, which share their horizontal axis.
        draw: draws one panel, given its axes and its name.
        words: title, labels and note.
        keys: handles of the legend.
        tint: name of the panel with a darker background, because it sums up the others.
        size: width of the figure and height of a panel, inches; by default by their number.

    Returns:
        The figure, its layout computed and frozen: what is placed in pixels stays in place.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not names:
        raise ValueError(f"there is nothing to draw in the figure {words.title!r}")
    columns = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    rows = math.ceil(len(names) / columns)
    width, tall = size or ({1: 6.0, 2: 8.0}.get(columns, 10.5), 2.75)
    # Inches, at 9.5 points; a legend of many short names still gets even columns.
    entry = 0.5 + 0.08 * max((len(str(key.get_label())) for key in keys), default=1)
    across = max(1, min(len(keys), int(width / entry)))
    lines = textwrap.wrap(words.note, int(width * 72 / (0.56 * _NOTE_SIZE)))
    under = 0.16 * len(lines) + (0.08 if lines else 0)
    foot = 0.38 + 0.205 * math.ceil(len(keys) / across) + under
    height = 0.45 + tall * rows + foot
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(
        "constrained",
        w_pad=0.06,
        h_pad=0.06,
        hspace=0.04,
        wspace=0.02,
        rect=(0, foot / height, 1, 1 - foot / height),
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for axis in axes[len(names) :]:
        axis.remove()
    for number, (axis, name) in enumerate(zip(axes, names, strict=False)):
        # Fixed places: matplotlib would measure all tick labels again and again to find the same.
        axis.set_title(name, y=1.0)
        axis.xaxis.set_label_coords(0.5, 0)
        axis.yaxis.set_label_coords(0, 0.5)
        draw(axis, name)
        # The panels that lose their lower neighbour to a short last row need its tick labels.
        axis.xaxis.set_tick_params(labelbottom=number + columns >= len(names))
        if name == tint:
            axis.set_facecolor("#F6F6F3")
    side = figure.supylabel(words.y, fontsize=10.5)
    if keys:
        figure.legend(
            handles=list(keys),
            loc="lower center",
            ncols=across,
            frameon=False,
            fontsize=9.5,
            handletextpad=0.4,
            columnspacing=1.4,
            borderaxespad=0.3,
            bbox_to_anchor=(0.5, under / height),
        )
    put_title(figure, words.title)
    lay_out(figure)
    places = [axis.get_position() for axis in axes[: len(names)]]
    middle = (min(place.x0 for place in places) + max(place.x1 for place in places)) / 2
    figure.text(middle, (foot - 0.06) / height, words.x, ha="center", va="top", fontsize=10.5)
    side.set_y((min(place.y0 for place in places) + max(place.y1 for place in places)) / 2)
    if lines:
        figure.text(
            0.012,
            0.07 / height,
            "\n".join(lines),
            va="bottom",
            color="#555555",
            fontsize=_NOTE_SIZE,
            linespacing=1.25,
        )
    return figure


def lay_out(figure: Figure) -> None:
    """Computes the constrained layout and freezes it, without a drawing of the whole figure."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def put_title(figure: Figure, title: str) -> None:
    """Writes the title at the left, as small as it must be to fit."""
    heading = figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
    # Step by step: hinting makes the width of a text not proportional to its size.
    while heading.get_window_extent().width > 0.97 * figure.bbox.width:
        heading.set_fontsize(0.98 * float(heading.get_fontsize()))


def bounds(table: pd.DataFrame, intervals: pd.DataFrame | None = None) -> pd.DataFrame:
    """Adds the ends of the 95 % interval of each mIoU.

    Args:
        table: GROUP, `benchmark`, `method`, `metrics.miou` and `ci95` (half width over seeds, NaN
            with one seed).
        intervals: GROUP, `benchmark` (or "average"), `method`, `low` and `high` in fractions, to
            take in place of `ci95` where they are known.

    Returns:
        The table with `low` and `high` in fractions; equal to the mIoU where nothing is known.
    """
    half = table["ci95"].astype(float).fillna(0)
    low, high = table[MIOU] - half, table[MIOU] + half
    if intervals is None:
        return table.assign(low=low, high=high)
    found = table[_KEYS].merge(intervals[[*_KEYS, "low", "high"]], on=_KEYS, how="left")
    found.index = table.index
    return table.assign(low=found["low"].fillna(low), high=found["high"].fillna(high))


def over_same(
    intervals: pd.DataFrame | None, runs: pd.DataFrame, averaged: Collection[str]
) -> pd.DataFrame | None:
    """Intervals without those of averages over other benchmarks than a figure averages over.

    Args:
        intervals: as `bounds` takes them; those of averages are over all benchmarks of a group.
        runs: one row a record.
        averaged: the benchmarks that the figure averages over.
    """
    if intervals is None:
        return None
    sets = runs.groupby(GROUP)["benchmark"].agg(set)
    other = {key for key, names in sets.items() if names != set(averaged)}
    keys = intervals[GROUP].itertuples(index=False, name=None)
    elsewhere = pd.Series([key in other for key in keys], intervals.index, dtype=bool)
    return intervals[~(elsewhere & (intervals["benchmark"] == AVERAGE))]


def whiskers(row: Any, centre: str, low: str, high: str) -> list[list[float]] | None:
    """Lengths of an error bar to both sides, for `errorbar`; None where it has none."""
    value, least, most = (float(getattr(row, name)) for name in (centre, low, high))
    # An interval that was made otherwise than the mean may leave it out by a hair.
    below, above = max(value - least, 0.0), max(most - value, 0.0)
    return [[below], [above]] if below or above else None


def even_ticks(axis: Any) -> None:
    """About six round ticks on a vertical axis of points."""
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def end_labels(axis: Any, lines: Sequence[Any]) -> list[Any]:
    """Writes each line's label at its right end, before the layout is made; see `spread`."""
    return [
        axis.annotate(
            str(line.get_label()),
            (1.0, line.get_ydata()[-1]),
            (14, 0),
            annotation_clip=False,
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=LABEL_SIZE,
            color=line.get_color(),
            arrowprops={
                "arrowstyle": "-",
                "color": "#B0B0B0",
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )
        for line in lines
    ]


def spread(axis: Any, texts: Sequence[Any], gap: float = LABEL_SIZE + 2) -> None:
    """Moves the labels of `end_labels` apart, at least `gap` typographic points, in their order."""
    pixel = DPI / 72
    at = np.array([axis.transData.transform((1, text.xy[1]))[1] for text in texts]) / pixel
    frame = axis.get_window_extent()
    placed = apart(at, gap, frame.y0 / pixel, frame.y1 / pixel)
    for text, old, new in zip(texts, at, placed, strict=True):
        text.set_position((14, new - old))


def apart(at: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """The nearest places to `at` that keep their order and a gap (least squares).

    Pools neighbours that are too close and centres each pool on its members (pool adjacent
    violators, Barlow et al. 1972); then the whole is moved inside [low, high] if it fits there.

    Args:
        at: (n,) wanted places.
        gap: least distance of two places.
        low: no place is below, if all fit.
        high: no place is above, if all fit.

    Returns:
        (n,) places.
    """
    order = np.argsort(at, kind="stable")
    steps = gap * np.arange(len(at))
    pools: list[list[float]] = []
    for value in at[order] - steps:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = np.array([np.mean(pool) for pool in pools for _ in pool])
    top = max(high - (steps[-1] if len(at) else 0), low)
    placed = np.empty(len(at))
    placed[order] = np.clip(level, low, top) + steps
    return placed
