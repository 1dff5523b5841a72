"""Score against number of trials, a panel a backbone, a line a method."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from benchmark.reporting.figures.panels import Words, draw_panels
from benchmark.reporting.style import look, method_styles, trace


def regret_figure(table: pd.DataFrame, over: str) -> Figure:
    """Draws what `benchmark.analysis.regret.regret` returned.

    Args:
        table: of one or several backbones.
        over: the benchmarks that the scores are means over.

    Raises:
        ValueError: there is nothing to draw.
    """
    styles = method_styles(list(table["method"]))
    note = f"On {over}. Mean over all orders of the trials; bands: 10 to 90 % of the orders."
    words = Words("Validation mIoU after N trials", "Trials", "Best mIoU so far (points)", note)
    ticks = sorted(table["trials"].unique())

    def draw(axis: Any, name: str) -> None:
        for method, line in table[table["backbone"] == name].groupby("method", sort=True):
            style, trials = styles[str(method)], line["trials"].to_numpy()
            low, high = 100 * line["low"].to_numpy(), 100 * line["high"].to_numpy()
            axis.fill_between(trials, low, high, color=style.colour, alpha=0.12, linewidth=0)
            axis.add_line(trace(str(method), style, trials, 100 * line["score"].to_numpy(), 1))
        axis.autoscale_view()
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())

    with look():
        keys = [trace(name, styles[name]) for name in sorted(styles)]
        return draw_panels(sorted(table["backbone"].unique()), draw, words, keys)
