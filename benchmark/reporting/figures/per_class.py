"""The IoU of each class as a heat map: methods by classes of one benchmark."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark.analysis.groups import slug
from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.runs import Runs
from benchmark.reporting.figures.panels import DPI, lay_out, put_title
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.style import look

ORDER = 3
_SECTION = "Classes"


MOST_NUMBERS = 30  # classes up to which each cell holds its number
_WIDTH = (6.0, 14.0)  # inches, least and most
_COLUMN, _ROW = 0.36, 0.27  # inches of a cell that holds a number
_DARK = 46  # points below which white is the better read on the colour map
_PITCH = 0.15  # inches that a class's name takes


def pictures(view: GroupView) -> Iterator[Picture]:
    """The classes of each benchmark that a run finished."""
    runs = view.runs
    for name in sorted(runs.frame.loc[runs.frame["status"] == "done", "benchmark"].unique()):
        words = f"IoU per class of {name}"
        draw = partial(class_figure, runs, name, words + view.of)
        yield Picture(_SECTION, words, f"classes_{slug(name)}{view.suffix}", draw)


def class_figure(runs: Runs, benchmark: str, title: str) -> Figure:
    """Draws class IoU in points, the best method on top; classes without labels are left out.

    Args:
        runs: records of one backbone, weights and protocol.
        benchmark: its name.
        title: of the figure.

    Returns:
        The figure. With more than `MOST_NUMBERS` classes it shows colours alone and names every
        n-th class.

    Raises:
        ValueError: the runs are of several backbones, weights or protocols, or none of them
            finished the benchmark.
    """
    if runs.frame[GROUP].drop_duplicates().shape[0] != 1:
        raise ValueError("a class figure shows one backbone, one kind of weights, one protocol")
    table = runs.per_class(benchmark).set_index("method").drop(columns=GROUP)
    if table.empty:
        raise ValueError(f"no run finished {benchmark}")
    with look():
        return _draw(100 * table.astype(float), title)


def _draw(table: pd.DataFrame, title: str) -> Figure:
    import seaborn

    methods, classes = table.shape
    numbers = classes <= MOST_NUMBERS
    names = 0.35 + 0.075 * max(map(len, map(str, table.index)))  # inches
    longest = 0.08 * max(map(len, map(str, table.columns)))
    most = _WIDTH[1] - names - 1.2
    inner = min(max(_COLUMN * classes if numbers else 0.075 * classes, 3.0), most)
    width = max(_WIDTH[0], names + inner + 1.2)
    height = 0.5 + max(_ROW * methods, 0.7) + (0.6 if longest < inner / classes else 0.3 + longest)
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    axis: Any = figure.subplots()
    every = 1 if numbers else math.ceil(_PITCH / (inner / classes))
    seaborn.heatmap(
        table,
        ax=axis,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=numbers,
        fmt=".0f",
        annot_kws={"fontsize": 7.5},
        linewidths=0.6 if numbers else 0,
        linecolor="white",
        xticklabels=every,
        yticklabels=1,
        cbar_kws={"label": "IoU (points)", "aspect": max(10, 4.5 * height), "pad": 0.02},
    )
    axis.grid(False)
    for text in axis.texts:
        text.set_color("white" if float(text.get_text()) < _DARK else "#1A1A1A")
    axis.tick_params(length=0 if numbers else 2.5)
    axis.tick_params(axis="y", length=0)
    axis.set(xlabel="" if every == 1 else f"every {_ordinal(every)} class is named", ylabel="")
    axis.set_xticklabels(
        axis.get_xticklabels(), fontsize=8, rotation=0 if longest < inner / classes else 90
    )
    axis.set_yticklabels(axis.get_yticklabels(), rotation=0, fontsize=8.5)
    put_title(figure, title)
    lay_out(figure)
    return figure


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
