"""The critical-difference diagram: average ranks, and which methods do not differ significantly."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark.reporting.figures.panels import DPI, put_title
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.style import LABEL_SIZE, Style, handle, look, method_styles

ORDER = 2
_SECTION = "Average ranks"


_ROW = 0.19  # inches between two names
_BAR = 0.11  # inches between two bars
_EDGE = 0.3  # inches at the sides
_LINE: dict[str, Any] = {"color": "#333333", "linewidth": 0.9, "solid_capstyle": "butt"}


def pictures(view: GroupView) -> Iterator[Picture]:
    """The average ranks of two or more methods over two or more benchmarks."""
    ranks = view.own(view.inputs.assessment.ranks)
    if len(ranks) > 1 and ranks["cells"].max() > 1:
        found = view.own(view.inputs.assessment.cliques)
        cliques = found.groupby("clique")["method"].agg(list).tolist()
        difference = float(ranks["critical_difference"].iloc[0])
        title = f"Average ranks{view.of}"
        draw = partial(ranks_figure, ranks, difference, cliques, title, view.styles)
        yield Picture(_SECTION, "Average ranks over benchmarks", f"ranks{view.suffix}", draw)


def ranks_figure(
    ranks: pd.DataFrame,
    critical_difference: float | None,
    cliques: Sequence[Sequence[str]],
    title: str,
    styles: dict[str, Style] | None = None,
) -> Figure:
    """Draws average ranks as proposed by Demsar (JMLR 2006), the best at the left.

    A bar joins methods that do not differ significantly by the Nemenyi test. Without a critical
    difference (fewer than five cells), ranks are shown without bars and a note says why.

    Args:
        ranks: of one group: `method`, `average_rank`, and, if known, `cells` (how many were
            ranked).
        critical_difference: of two average ranks; None or NaN where there are too few
            cells.
        cliques: methods that are not distinguishable, a list each; those of one method have no bar.
        title: of the figure.
        styles: of the methods; by default from `ranks`.

    Returns:
        The figure.

    Raises:
        ValueError: there are no ranks.
    """
    table = ranks.dropna(subset=["average_rank"]).sort_values(["average_rank", "method"])
    if table.empty:
        raise ValueError("a rank diagram needs at least one average rank")
    styles = styles or method_styles(list(table["method"]))
    at = dict(zip(table["method"], table["average_rank"].astype(float), strict=True))
    if critical_difference is not None and math.isnan(critical_difference):
        critical_difference = None
    bars = _bars(at, cliques) if critical_difference else []
    with look():
        return _draw(
            at, critical_difference, bars, title, _note(table, critical_difference), styles
        )


def _note(table: pd.DataFrame, critical_difference: float | None) -> str:
    cells = int(table["cells"].min()) if "cells" in table else None
    over = "" if cells is None else f" over {cells} benchmark{'' if cells == 1 else 's'}"
    if critical_difference:
        return (
            f"Average ranks{over}, 1 is best. A bar joins methods that differ by less than the "
            "critical difference: that may be chance (Nemenyi test, 5 %)."
        )
    return f"Average ranks{over}, 1 is best. Too few benchmarks to group methods: five are needed."


def _bars(at: dict[str, float], cliques: Sequence[Sequence[str]]) -> list[tuple[float, float, int]]:
    """(left, right, row) of each bar; bars that would touch get rows of their own."""
    ends = sorted(
        {
            (min(places), max(places))
            for places in ([at[name] for name in clique if name in at] for clique in cliques)
            if len(places) > 1
        }
    )
    placed: list[tuple[float, float, int]] = []
    for low, high in ends:
        taken = {row for _, other, row in placed if other >= low - 0.15}
        placed.append((low, high, next(row for row in range(len(ends)) if row not in taken)))
    return placed


def _draw(
    at: dict[str, float],
    critical_difference: float | None,
    bars: Sequence[tuple[float, float, int]],
    title: str,
    note: str,
    styles: dict[str, Style],
) -> Figure:
    names = list(at)
    left = names[: math.ceil(len(names) / 2)]
    below = 0.22 + _BAR * (1 + max((row for *_, row in bars), default=-1))
    head = 0.72 + (0.36 if critical_difference else 0)
    depth = below + _ROW * len(left)  # inches from the axis to the last name
    width, height = 8.0, head + depth + 0.55
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    sides = _sides(figure, left, names[len(left) :])
    inner = width - sum(sides)
    axis = figure.add_axes((sides[0] / width, 0.55 / height, inner / width, depth / height))
    best, worst = _ends(at, critical_difference)
    axis.set(xlim=(best, worst), ylim=(depth, 0))
    axis.grid(False)
    axis.xaxis.tick_top()
    axis.yaxis.set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["top"].set_visible(True)
    step = max(1, math.ceil((worst - best) / 12))
    axis.set_xticks(range(math.ceil(best), math.floor(worst) + 1, step))
    for place, name in enumerate(names):
        first = name in left
        # Outer names are highest, so that no line crosses another.
        row = place if first else len(names) - 1 - place
        level = below + _ROW * (row + 0.5)
        edge, text = (0.0, "right") if first else (1.0, "left")
        outside = best if first else worst
        axis.plot([at[name], at[name], outside], [0, level, level], clip_on=False, **_LINE)
        axis.add_line(handle(name, styles[name], [at[name]], [0]))
        axis.lines[-1].set_clip_on(False)
        axis.annotate(
            f"{name}  {at[name]:.2f}" if first else f"{at[name]:.2f}  {name}",
            (edge, level),
            (-4 if first else 4, 0),
            annotation_clip=False,
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha=text,
            va="center",
            fontsize=LABEL_SIZE,
        )
    for low, high, row in bars:
        reach = 0.012 * (worst - best)
        axis.plot(
            [low - reach, high + reach],
            [0.2 + _BAR * row] * 2,
            color="#111111",
            linewidth=3,
            solid_capstyle="butt",
            clip_on=False,
            zorder=2.5,
        )
    if critical_difference:
        ruler = {"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "linewidth": 1.2}
        axis.annotate(
            "",
            (best, -0.42),
            (best + critical_difference, -0.42),
            annotation_clip=False,
            arrowprops=ruler | {"shrinkA": 0, "shrinkB": 0},
        )
        axis.annotate(
            f"critical difference {critical_difference:.2f}",
            (best, -0.47),
            annotation_clip=False,
            fontsize=LABEL_SIZE,
        )
    put_title(figure, title)
    figure.text(0.012, 0.1 / height, note, va="bottom", color="#555555", fontsize=8)
    return figure


def _ends(at: dict[str, float], critical_difference: float | None) -> tuple[float, float]:
    """Limits of the axis: whole ranks, wide enough for the ruler."""
    best = math.floor(min(at.values()))
    return best, max(math.ceil(max(at.values())), best + math.ceil(critical_difference or 1))


def _sides(figure: Figure, left: Sequence[str], right: Sequence[str]) -> tuple[float, float]:
    """Inches that the names at each side take."""
    widths = []
    for names in (left, right):
        texts = [figure.text(0, 0, f"{name}  00.00", fontsize=LABEL_SIZE) for name in names]
        widths.append(max((text.get_window_extent().width / DPI for text in texts), default=0.0))
        for text in texts:
            text.remove()
    # Very long names leave the axis a third of the width, and are cut.
    return min(widths[0] + _EDGE, 2.7), min(widths[1] + _EDGE, 2.7)
