"""Label efficiency: mIoU against the share of the training images."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.efficiency import AVERAGE, CURVES, curve_names
from benchmark.analysis.groups import slug
from benchmark.analysis.leaderboard import MIOU
from benchmark.reporting.figures.panels import (
    Words,
    bounds,
    draw_panels,
    even_ticks,
    over_same,
    whiskers,
)
from benchmark.reporting.figures.picture import Picture
from benchmark.reporting.figures.scales import clear, log_scale, roomy
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.style import Style, look, method_styles, trace

ORDER = 8
_SECTION = "Fewer training images"


def pictures_across(inputs: ReportInputs) -> Iterator[Picture]:
    """Label efficiency, each over the protocols that differ in the fraction alone."""
    table = inputs.runs.label_efficiency
    names = curve_names(inputs.runs.frame, table)
    for key, part in table.groupby(CURVES, sort=True):
        name = names[tuple(map(str, key))]
        title = f"{_SECTION}: {name}"
        averaged = set(part["benchmark"]) - {AVERAGE}
        intervals = over_same(inputs.intervals, inputs.runs.frame, averaged)
        draw = partial(fraction_figure, part, title, dict(inputs.styles()), intervals)
        stem = f"fractions_{slug(name)}" if len(names) > 1 else "fractions"
        words = f"mIoU against the share of training images, {name}"
        yield Picture(_SECTION, words, stem, draw)


def fraction_figure(
    table: pd.DataFrame,
    title: str,
    styles: dict[str, Style] | None = None,
    intervals: pd.DataFrame | None = None,
) -> Figure:
    """Draws a line a method over the fractions, with 95 % intervals.

    Args:
        table: of one backbone, weights and family, as `label_efficiency` returns it.
        title: of the figure.
        styles: of the methods; by default from the table.
        intervals: GROUP, benchmark (or "average"), method, low, high in fractions; by default t
            intervals over seeds.

    Returns:
        The figure, a panel a benchmark and one for the average.

    Raises:
        ValueError: the table is of several backbones, weights or families, or empty.
    """
    if table[["backbone", "weights", "family"]].drop_duplicates().shape[0] != 1:
        raise ValueError("fractions are shown of one backbone, one kind of weights, one family")
    data = bounds(table, intervals).sort_values("fraction")
    styles = styles or method_styles(list(data["method"]))
    fractions = sorted(data["fraction"].unique())
    benchmarks = sorted(set(data["benchmark"]) - {AVERAGE})
    panels = {name: name for name in benchmarks}
    if AVERAGE in set(data["benchmark"]):
        panels[AVERAGE] = AVERAGE

    def draw(axis: Any, name: str) -> None:
        own = data[data["benchmark"] == panels[name]]
        for method, line in own.groupby("method", sort=True):
            style = styles[str(method)]
            for row in line.assign(
                at=100 * line[MIOU], low=100 * line["low"], high=100 * line["high"]
            ).itertuples():
                axis.errorbar(
                    row.fraction,
                    row.at,
                    yerr=whiskers(row, "at", "low", "high"),
                    color=style.colour,
                    elinewidth=1,
                    capsize=2,
                    fmt="none",
                )
            axis.add_line(
                trace(
                    str(method),
                    style,
                    line["fraction"].to_numpy(),
                    100 * line[MIOU].to_numpy(dtype=float),
                )
            )
        log_scale(axis, "x", roomy(min(fractions), max(fractions)), "number", clear(fractions))
        axis.autoscale_view(scalex=False)
        even_ticks(axis)

    error = ", with 95 % intervals" if (data["low"] < data["high"]).any() else ""
    note = f"Means over seeds{error}. The protocols are otherwise equal, steps included."
    if AVERAGE in panels:
        note += " The average is over the benchmarks that have every fraction."
    words = Words(title, "Share of the training images", "mIoU (points)", note)
    tint = next((panel for panel, name in panels.items() if name == AVERAGE), None)
    with look():
        keys = [trace(name, styles[name]) for name in sorted(data["method"].unique())]
        return draw_panels(list(panels), draw, words, keys, tint)
