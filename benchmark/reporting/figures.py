"""Pareto figures: mIoU against one cost, a panel a benchmark; without pyplot's global state."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from benchmark.pareto import log_positions, pareto_front
from benchmark.reporting.labels import Box, Scene, Segment, place_labels
from benchmark.reporting.style import (
    FRONT,
    LABEL_SIZE,
    LEADER,
    SIZE,
    Style,
    handle,
    look,
    method_styles,
)
from benchmark.reporting.tables import COLUMNS, Kind, human
from benchmark.statistics import GROUP, MIOU, cells, leaderboard

DPI = 150
MOST_LABELS = 8  # direct labels up to here, a legend beyond


def pareto_figure(
    runs: pd.DataFrame,
    cost_column: str,
    label: str,
    title: str,
    styles: dict[str, Style] | None = None,
) -> Figure:
    """Draws mIoU against a cost: one panel a benchmark and one for the average.

    Points are means over seeds, with 95 % intervals where there are two seeds or more. Methods are
    named beside their points if all names fit, else in a legend below.

    Args:
        runs: records of one backbone, weights and protocol.
        cost_column: lower is better, for example `costs.params.total_trainable`.
        label: of the cost axis.
        title: of the figure.
        styles: of the methods, where several figures must agree; by default from these runs.

    Returns:
        The figure, laid out, to be saved by `save_figure`.

    Raises:
        ValueError: the runs are of several backbones, weights or protocols, or there are none.
    """
    if runs[GROUP].drop_duplicates().shape[0] != 1:
        raise ValueError("a Pareto figure shows one backbone, one kind of weights, one protocol")
    panels = _panels(runs, cost_column)
    styles = styles or method_styles(list(runs["method"]))
    shown = sorted({name for data in panels.values() for name in data["method"]})
    with look():
        if len(shown) <= MOST_LABELS:
            figure = _draw(panels, cost_column, label, title, styles, [])
            if _name_points(figure, panels):
                return figure
        return _draw(panels, cost_column, label, title, styles, shown)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.svg`, the same bytes for the same figure."""
    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    with look():
        figure.savefig(png, dpi=DPI, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]


def _panels(runs: pd.DataFrame, cost: str) -> dict[str, pd.DataFrame]:
    """The points of each panel, as columns method, cost, miou, ci95 (in points)."""
    table, board = cells(runs), leaderboard(runs)
    names = sorted(table["benchmark"].unique())
    parts = {name: table[table["benchmark"] == name] for name in names}
    if len(names) > 1:
        parts[f"average of {len(names)} benchmarks"] = board
    positions = log_positions(pd.concat([part[cost] for part in parts.values()]).dropna())
    zero = float(positions.min()) if len(positions) else 1.0
    panels = {}
    for name, part in parts.items():
        part = part.dropna(subset=[MIOU, cost])
        points = {"miou": 100 * part[MIOU], "ci95": 100 * part["ci95"].fillna(0)}
        where = part[cost].where(part[cost] > 0, zero)
        data = pd.DataFrame({"method": part["method"], "cost": part[cost], "x": where, **points})
        panels[name] = data.sort_values("method").reset_index(drop=True)
    return panels


def _draw(
    panels: dict[str, pd.DataFrame],
    cost: str,
    label: str,
    title: str,
    styles: dict[str, Style],
    legend: Sequence[str],
) -> Figure:
    """The figure without direct labels; its layout is computed and frozen."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    keys = [handle(name, styles[name]) for name in legend]
    keys.append(Line2D([], [], label="Pareto front", **FRONT))
    if any(data["ci95"].any() for data in panels.values()):
        keys.append(Line2D([], [], label="95 % interval over seeds", color="#555555",
                           linestyle="none", marker="|", markersize=9))  # fmt: skip
    width = {1: 6.0, 2: 8.0}.get(columns, 10.5)
    entry = 0.5 + 0.08 * max(len(str(key.get_label())) for key in keys)  # inches, at 9.5 points
    across = min(len(keys), max(1, int(width / entry)))
    foot = 0.38 + 0.205 * math.ceil(len(keys) / across)  # inches for axis label and legend
    height = 0.45 + 2.75 * rows + foot
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(
        "constrained", w_pad=0.06, h_pad=0.06, hspace=0.04, wspace=0.02,
        rect=(0, foot / height, 1, 1 - foot / height),
    )  # fmt: skip
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    for number, (name, data) in enumerate(panels.items()):
        _draw_panel(axes[number], name, data, styles)
        # The panels that lose their lower neighbour to a short last row need its tick labels.
        axes[number].xaxis.set_tick_params(labelbottom=number + columns >= len(panels))
    if len(panels) > 1:
        axes[len(panels) - 1].set_facecolor("#F6F6F3")
    _scale_x(axes[0], pd.concat(panels.values()), cost)
    for axis, data in zip(axes, panels.values(), strict=False):
        axis.add_line(Line2D(*_staircase(data, axis.get_xlim()[1]), **FRONT))
    heading = figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
    side = figure.supylabel("mIoU (points)", fontsize=10.5)
    figure.legend(handles=keys, loc="lower center", ncols=across, frameon=False, fontsize=9.5,
                  handletextpad=0.4, columnspacing=1.4, borderaxespad=0.3)  # fmt: skip
    # Step by step: hinting makes the width of a text not proportional to its size.
    while heading.get_window_extent().width > 0.97 * width * DPI:
        heading.set_fontsize(0.98 * float(heading.get_fontsize()))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    places = [axis.get_position() for axis in axes[: len(panels)]]
    middle = (min(place.x0 for place in places) + max(place.x1 for place in places)) / 2
    figure.text(middle, (foot - 0.06) / height, label, ha="center", va="top", fontsize=10.5)
    side.set_y((min(place.y0 for place in places) + max(place.y1 for place in places)) / 2)
    return figure


def _draw_panel(axis: Any, name: str, data: pd.DataFrame, styles: dict[str, Style]) -> None:
    axis.set_title(name)
    if data.empty:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "no finished run", transform=axis.transAxes, ha="center", color="#777")
        return
    for row in _rows(data):
        style = styles[row.method]
        axis.errorbar(row.x, row.miou, yerr=row.ci95 or None, color=style.colour,
                      elinewidth=1.1, capsize=2.5, fmt="none", zorder=2)  # fmt: skip
        axis.add_line(handle(row.method, style, [row.x], [row.miou]))
    low, high = (data["miou"] - data["ci95"]).min(), (data["miou"] + data["ci95"]).max()
    room = 0.16 * max(high - low, 1.0)
    axis.set_ylim(low - room, high + room)
    axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _scale_x(axis: Any, data: pd.DataFrame, cost: str) -> None:
    """The shared logarithmic axis with ticks that people can read, then the fronts on it."""
    kind: Kind = next((column.kind for column in COLUMNS if column.name == cost), "number")
    low, high = (data["x"].min(), data["x"].max()) if len(data) else (1.0, 10.0)
    room = max((high / low) ** 0.13, 1.08)
    low, high = low / room, high * room
    zeros = data.loc[data["cost"] == 0, "x"]
    ticks = [tick for tick in _ticks(low, high) if zeros.empty or tick > 1.5 * zeros.min()]
    ticks += list(zeros.unique())

    def text(value: float, _: object = None) -> str:
        if len(zeros) and value == zeros.min():
            return "0"
        return (
            human(value, kind).replace(".0 ", " ") if kind in ("count", "bytes") else f"{value:g}"
        )

    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(text))
    axis.xaxis.set_minor_locator(NullLocator())


def _rows(data: pd.DataFrame) -> list[Any]:
    return list(data.itertuples())


def _staircase(data: pd.DataFrame, right: float) -> tuple[list[float], list[float]]:
    """The best score to be had up to each cost, as corners of a line that ends at `right`."""
    front = data[pareto_front(data["cost"], data["miou"])].sort_values("x")
    x = [*front["x"].repeat(2).iloc[1:], right] if len(front) else []
    return x, [*front["miou"].repeat(2)]


def _name_points(figure: Figure, panels: dict[str, pd.DataFrame]) -> bool:
    """Writes each method's name beside its point; False if some name fits nowhere."""
    pixel = DPI / 72
    for axis, data in zip(figure.axes, panels.values(), strict=True):
        at = axis.transData.transform(data[["x", "miou"]].to_numpy(dtype=float))
        ends = [
            axis.transData.transform([(row.x, row.miou - row.ci95), (row.x, row.miou + row.ci95)])
            for row in _rows(data)
        ]
        corners = axis.transData.transform(np.column_stack(_staircase(data, axis.get_xlim()[1])))
        lines: list[Segment] = [
            (tuple(first), tuple(second))
            for first, second in zip(corners.tolist(), corners.tolist()[1:], strict=False)
        ]
        half = 0.55 * SIZE * pixel
        scene = Scene(
            frame=Box(*map(float, axis.get_window_extent().extents)),
            markers=[Box(x - half, y - half, x + half, y + half) for x, y in at.tolist()],
            obstacles=[Box(a - half / 2, b, c + half / 2, d) for (a, b), (c, d) in ends],
            lines=lines,
            pixel=pixel,
        )
        texts = [
            axis.annotate(
                row.method,
                (row.x, row.miou),
                (0, 0),
                textcoords="offset points",
                va="bottom",
                ha="left",
                fontsize=LABEL_SIZE,
                color="#222222",
            )
            for row in _rows(data)
        ]
        extents = [text.get_window_extent() for text in texts]
        labels = place_labels([(box.width, box.height) for box in extents], scene)
        if labels is None:
            return False
        for text, row, point, label in zip(texts, _rows(data), at, labels, strict=True):
            # Offsets in typographic points hold at every resolution, the SVG's too.
            text.set_position(
                ((label.box.x0 - point[0]) / pixel, (label.box.y0 - point[1]) / pixel)
            )
            if label.leader:
                ends_at = axis.transData.inverted().transform(label.leader[1])
                axis.add_line(Line2D([row.x, ends_at[0]], [row.miou, ends_at[1]], **LEADER))
    return True


def _ticks(low: float, high: float) -> list[float]:
    """Three to five round values on a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        inside = [float(f"{value:.6g}") for value in values if low <= value <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 5)]
    even = MaxNLocator(4).tick_values(low, high)
    return [float(value) for value in even if low <= value <= high]
