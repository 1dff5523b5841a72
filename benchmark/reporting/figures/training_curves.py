"""Curves against steps, a panel a benchmark, a line a method: loss, and mIoU on validation."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.curves import LOSS, VALIDATION, smoothed
from benchmark.analysis.leaderboard import GROUP
from benchmark.reporting.figures.panels import Words, draw_panels
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.figures.scales import log_scale, log_ticks
from benchmark.reporting.style import Style, look, method_styles, trace

ORDER = 4
_SECTION = "Training"


_MARKS = 7  # of a line
_FEW = 8  # methods; lines of more are thin


def pictures(view: GroupView) -> Iterator[Picture]:
    """The loss, and mIoU on validation, where curves are known."""
    curves = view.own(view.inputs.runs.training_curves)
    if len(curves):
        draw = partial(curves_figure, curves, f"Training loss{view.of}", view.styles)
        yield Picture(_SECTION, "Training loss against step", f"training{view.suffix}", draw)
    validation = view.own(view.inputs.runs.validation_curves)
    if len(validation):
        title = f"mIoU on validation{view.of}"
        draw = partial(curves_figure, validation, title, view.styles, VALIDATION)
        yield Picture(_SECTION, "mIoU on validation against step", f"validation{view.suffix}", draw)


def curves_figure(
    curves: pd.DataFrame,
    title: str,
    styles: dict[str, Style] | None = None,
    quantity: str = LOSS,
) -> Figure:
    """Draws curves: lines are means over seeds, bands reach from seed to seed.

    Losses are smoothed, and drawn on a logarithmic axis.

    Args:
        curves: of one backbone, weights and protocol, as `training_curves` returns them.
        title: of the figure.
        styles: of the methods; by default from the curves.
        quantity: `LOSS` or `VALIDATION`.

    Returns:
        The figure; its note says over how many steps the loss was smoothed.

    Raises:
        ValueError: the curves are of several backbones, weights or protocols, or there are none.
    """
    if curves[GROUP].drop_duplicates().shape[0] > 1:
        raise ValueError("curves are shown of one backbone, one kind of weights, one protocol")
    table, window = smoothed(curves, 0.1 if quantity == LOSS else 0, quantity)
    if quantity == VALIDATION:
        table[[quantity, "low", "high"]] *= 100
    styles = styles or method_styles(list(table["method"]))
    shown = sorted(table["method"].unique())
    band = "; bands: smallest to largest seed" if (table["low"] < table["high"]).any() else ""
    moving = f"Moving mean over {window} steps, mean" if window > 1 else "Mean"
    label = "Training loss" if quantity == LOSS else "mIoU on validation"
    words = Words(title, "Step", label, f"{moving} over seeds{band}.")

    def draw(axis: Any, name: str) -> None:
        own = table[table["benchmark"] == name]
        for method, line in own.groupby("method", sort=True):
            style, every = styles[str(method)], max(1, len(line) // _MARKS)
            steps = line["step"].to_numpy()
            if (line["low"] < line["high"]).any():
                axis.fill_between(
                    steps, line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0
                )
            artist = trace(str(method), style, steps, line[quantity].to_numpy(), every)
            artist.set_linewidth(1.3 if len(shown) <= _FEW else 0.8)
            axis.add_line(artist)
        low, high = own["low"].min(), own["high"].max()
        axis.autoscale_view()
        if low > 0 and quantity == LOSS:
            ends = (low / 1.1, high * 1.1)
            log_scale(axis, "y", ends, "number", log_ticks(*ends))

    with look():
        keys = [trace(name, styles[name]) for name in shown]
        return draw_panels(sorted(table["benchmark"].unique()), draw, words, keys)
