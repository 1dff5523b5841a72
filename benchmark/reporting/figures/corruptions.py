"""Robustness: mIoU against the severity of corruptions, a panel a group of them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.efficiency import ALL, COMPARED, corruption_curves
from benchmark.reporting.figures.panels import Words, draw_panels, even_ticks
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.style import Style, look, method_styles, trace

ORDER = 7
_SECTION = "Corrupted images"


def pictures(view: GroupView) -> Iterator[Picture]:
    """MIoU on corrupted images, for each version of the corruptions."""
    scores = view.own(view.inputs.runs.corruption_scores)
    for _, part in scores.groupby(COMPARED, sort=True):
        version = part["corruptions_version"].iloc[0]
        draw = partial(corruption_figure, part, f"Corrupted images{view.of}", view.styles)
        stem = f"corruptions_v{version}{view.suffix}"
        yield Picture(_SECTION, "mIoU against severity", stem, draw)


def corruption_figure(
    scores: pd.DataFrame, title: str, styles: dict[str, Style] | None = None
) -> Figure:
    """Draws a line a method from clean images (severity 0) to the worst.

    Args:
        scores: of one backbone, weights, protocol and version of the corruptions, as
            `corruption_scores` returns them.
        title: of the figure.
        styles: of the methods; by default from the scores.

    Returns:
        The figure, a panel a group of corruptions and, with several groups, one for all.

    Raises:
        ValueError: the scores are of several of these, or there are none.
    """
    if scores[COMPARED].drop_duplicates().shape[0] != 1:
        raise ValueError("corruptions are shown of one backbone, weights, protocol and version")
    curves = corruption_curves(scores)
    styles = styles or method_styles(list(curves["method"]))
    groups = sorted(set(curves["group"]) - {ALL})
    panels = {name: name for name in groups}
    if len(groups) > 1:
        panels["all corruptions"] = ALL
    severities = sorted(map(int, curves["severity"].unique()))

    low, high = 100 * curves["miou"].min(), 100 * curves["miou"].max()
    room = 0.08 * max(high - low, 1.0)
    ends = (low - room, high + room)  # of every panel, because all start at the same clean mIoU

    def draw(axis: Any, name: str) -> None:
        own = curves[curves["group"] == panels[name]].sort_values("severity")
        for method, line in own.groupby("method", sort=True):
            x, y = line["severity"].to_numpy(dtype=float), 100 * line["miou"].to_numpy(dtype=float)
            axis.add_line(trace(str(method), styles[str(method)], x, y))
        axis.set_xlim(-0.3, max(severities) + 0.3)
        axis.set_xticks(severities, ["clean" if s == 0 else str(s) for s in severities])
        axis.set_ylim(ends)
        even_ticks(axis)

    count = scores["benchmark"].nunique()
    note = (
        f"Mean over {count} benchmark{'' if count == 1 else 's'}, for the corruptions and "
        "severities that were measured for every run."
    )
    words = Words(title, "Severity", "mIoU (points)", note)
    tint = next((panel for panel, name in panels.items() if name == ALL), None)
    with look():
        keys = [trace(name, styles[name]) for name in sorted(curves["method"].unique())]
        return draw_panels(list(panels), draw, words, keys, tint)
