"""Bytes on disk against the number of tasks that share one backbone."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.analysis.cost_tables import WHOLE, storage
from benchmark.analysis.leaderboard import GROUP
from benchmark.reporting.figures.panels import Words, draw_panels, end_labels, spread
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.figures.scales import log_scale
from benchmark.reporting.style import Style, look, method_styles, trace

ORDER = 5
_SECTION = "Storage for many tasks"


_TICKS = (1, 2, 5, 10, 20, 50, 100)


def pictures(view: GroupView) -> Iterator[Picture]:
    """Bytes of up to 100 tasks."""
    table = storage(view.runs.cost_table, range(1, 101))
    if len(table):
        draw = partial(storage_figure, table, f"Storage for many tasks{view.of}", view.styles)
        words = "Bytes on disk against the number of tasks"
        yield Picture(_SECTION, words, f"storage{view.suffix}", draw)


def storage_figure(
    table: pd.DataFrame, title: str, styles: dict[str, Style] | None = None
) -> Figure:
    """Draws backbone + T x what a task adds, a line a method, each named at its right end.

    Args:
        table: of one backbone, weights and protocol, as `storage(costs, range(1, 101))` returns it.
        title: of the figure.
        styles: of the methods; by default from the table.

    Returns:
        The figure. Separate copies of the whole model are a dashed line.

    Raises:
        ValueError: the table is of several backbones, weights or protocols, or empty.
    """
    if table[GROUP].drop_duplicates().shape[0] != 1:
        raise ValueError("storage is shown of one backbone, one kind of weights, one protocol")
    styles = styles or method_styles([name for name in table["method"] if name != WHOLE])
    methods = list(table["method"].unique())
    note = (
        "One backbone in fp32 (4 bytes per parameter) and a delta file per task, decoder included. "
        "Dashed: a full model per task."
    )
    words = Words(title, "Tasks", "Bytes on disk", note)
    lines, texts = [], []

    def draw(axis: Any, _: str) -> None:
        for method in methods:
            own = table[table["method"] == method].sort_values("tasks")
            x, y = own["tasks"].to_numpy(dtype=float), own["bytes"].to_numpy(dtype=float)
            if method == WHOLE:
                line = Line2D(x, y, color="#555555", linestyle="--", linewidth=1.3, label=method)
            else:
                line = trace(method, styles[method], x, y, max(1, len(x) // 4))
            lines.append(axis.add_line(line))
        most = max(table["tasks"])
        log_scale(
            axis,
            "x",
            (min(table["tasks"]), max(most, 2)),
            "number",
            [tick for tick in _TICKS if tick <= most],
        )
        ends = (table["bytes"].min() / 1.25, table["bytes"].max() * 1.25)
        log_scale(axis, "y", ends, "bytes")
        texts.extend(end_labels(axis, lines))

    with look():
        name = f"{table['backbone'].iloc[0]}"
        figure = draw_panels([name], draw, words, size=(8.0, max(3.6, 0.155 * len(methods) + 0.5)))
        spread(figure.axes[0], texts)
        return figure
