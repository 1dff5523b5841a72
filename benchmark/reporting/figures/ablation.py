"""Ablation curves: what one numeric field of a method is worth, and what it costs."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmark.analysis.ablation import INSERTED, ablation, families
from benchmark.analysis.efficiency import AVERAGE
from benchmark.analysis.groups import slug
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.core.format import human_limit
from benchmark.reporting.figures.panels import (
    Words,
    bounds,
    draw_panels,
    even_ticks,
    over_same,
    whiskers,
)
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.figures.scales import clear, log_scale, roomy
from benchmark.reporting.style import COLOURS, Style, look, trace

ORDER = 6
_SECTION = "Settings of a method"


_LEAST_SPAN = 2.0  # points that an axis shows, so that noise does not look like an effect
_LOG_FROM = 8  # times the smallest value that the largest is
_BLACK, _BLUE = Style("#000000", "o"), Style(COLOURS[0], "o")
_SIZE = "inserted parameters"


def pictures(view: GroupView) -> Iterator[Picture]:
    """Each numeric field of methods that were run with several settings."""
    runs = view.runs.frame
    for name in families(runs):
        for field in numeric_fields(ablation(runs, name)):
            words = f"mIoU of {name} against its {field}"
            draw = partial(ablation_figure, runs, name, field, words + view.of, view.intervals)
            stem = f"settings_{slug(name)}_{slug(field)}{view.suffix}"
            yield Picture(_SECTION, words, stem, draw)


def numeric_fields(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The fields of a study that make a curve.

    Args:
        table: of one group, as `ablation` returns it.

    Returns:
        By field, the settings with at least two values of it that agree in all other fields: the
        largest such set, of equally large ones that with the best average; sorted by the field.
    """
    fields = list(table.columns[len(GROUP) + 1 : list(table.columns).index(INSERTED)])
    curves = {}
    for field in fields:
        numeric = table[field].map(lambda x: isinstance(x, (int, float)) and not pd.isna(x))
        numeric &= ~table[field].map(lambda x: isinstance(x, bool))
        others = [name for name in fields if name != field]
        keys = [table[name].map(repr) for name in others] or [pd.Series(0, index=table.index)]
        parts = [part for _, part in table[numeric].groupby([key[numeric] for key in keys])]
        best = max(
            parts, key=lambda part: (part[field].nunique(), part[AVERAGE].max()), default=None
        )
        if best is not None and best[field].nunique() == len(best) > 1:
            curves[field] = best.assign(**{field: best[field].astype(float)}).sort_values(field)
    return curves


def ablation_figure(
    runs: pd.DataFrame,
    name: str,
    field: str,
    title: str,
    intervals: pd.DataFrame | None = None,
) -> Figure:
    """Draws mIoU and inserted parameters against the values of a field.

    Args:
        runs: records of one backbone, weights and protocol.
        name: of the method, one of `benchmark.analysis.ablation.families`.
        field: one of `numeric_fields(ablation(runs, name))`.
        title: of the figure.
        intervals: GROUP, benchmark (or "average"), method, low, high in fractions; by default t
            intervals over seeds.

    Returns:
        The figure: a panel a benchmark that all settings finished, one for their average, and one
        for the inserted parameters.

    Raises:
        ValueError: the runs are of several backbones, weights or protocols, or the field makes no
            curve.
    """
    if runs[GROUP].drop_duplicates().shape[0] != 1:
        raise ValueError("an ablation shows one backbone, one kind of weights, one protocol")
    table = ablation(runs, name)
    curve = numeric_fields(table).get(field)
    if curve is None:
        raise ValueError(f"{field} of {name} has no two values to compare")
    benchmarks = list(table.columns[list(table.columns).index(INSERTED) + 1 :])
    benchmarks = [b for b in benchmarks if b != AVERAGE and table[b].notna().all()]
    data = _scores(runs, curve, field, benchmarks, intervals)
    values = curve[field].to_numpy(dtype=float)
    averages = [AVERAGE] if len(benchmarks) > 1 else []
    panels = [*benchmarks, *averages, _SIZE]

    def draw(axis: Any, panel: str) -> None:
        if panel == _SIZE:
            axis.add_line(trace(panel, _BLACK, values, curve[INSERTED].to_numpy(dtype=float)))
            axis.yaxis.set_major_formatter(lambda y, _: human_limit(y, "count"))
            axis.set_ylim(0, 1.15 * max(curve[INSERTED].max(), 1))
        else:
            own = data[data["benchmark"] == panel].sort_values("x")
            _draw_scores(axis, own, _BLACK if panel == AVERAGE else _BLUE)
        if values.min() > 0 and values.max() >= _LOG_FROM * values.min():
            ends = roomy(values.min(), values.max())
            log_scale(axis, "x", ends, "number", clear(list(values)))
        else:
            room = 0.12 * (values.max() - values.min())
            axis.set_xlim(values.min() - room, values.max() + room)
            if len(values) <= 8:
                axis.set_xticks(values, [f"{value:g}" for value in values])

    error = ", with 95 % intervals" if (data["low"] < data["high"]).any() else ""
    note = f"Means over seeds{error}; {_fixed(table, curve, field)}"
    with look():
        words = Words(title, f"{field} of {name}", "mIoU (points)", note)
        return draw_panels(panels, draw, words, tint=_SIZE)


def _scores(
    runs: pd.DataFrame,
    curve: pd.DataFrame,
    field: str,
    benchmarks: list[str],
    intervals: pd.DataFrame | None,
) -> pd.DataFrame:
    """The cells of the settings, and their averages, with intervals in points."""
    own = Runs(runs[runs["method"].isin(curve["method"])]).over(benchmarks)
    intervals = over_same(intervals, runs, benchmarks)
    both = pd.concat([own.cells, own.leaderboard.assign(benchmark=AVERAGE)], ignore_index=True)
    data = bounds(both.dropna(subset=[MIOU]), intervals)
    # A field may be called like a column of these tables: `rank`, for one.
    x = data["method"].map(curve.set_index("method")[field])
    return data.assign(x=x, at=100 * data[MIOU], low=100 * data["low"], high=100 * data["high"])


def _draw_scores(axis: Any, line: pd.DataFrame, style: Style) -> None:
    for row in line.itertuples():
        axis.errorbar(
            row.x,
            row.at,
            yerr=whiskers(row, "at", "low", "high"),
            color=style.colour,
            elinewidth=1,
            capsize=2,
            fmt="none",
        )
    axis.add_line(trace("mIoU", style, line["x"].to_numpy(), line["at"].to_numpy(dtype=float)))
    low, high = line["low"].min(), line["high"].max()
    room = max(0.16 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    axis.set_ylim(low - room, high + room)
    even_ticks(axis)


def _fixed(table: pd.DataFrame, curve: pd.DataFrame, field: str) -> str:
    """What the other fields of the study were."""
    fields = table.columns[len(GROUP) + 1 : list(table.columns).index(INSERTED)]
    others = [f"{name}={curve[name].iloc[0]}" for name in fields if name != field]
    return f"{', '.join(others)}." if others else "all other fields are equal."
