"""How figures look: colours and markers of methods, fonts, lines."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib.style
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

# Okabe and Ito's colours, yellow darkened to be legible on white. The numbers of colours and
# markers have no common divisor, so each of their 88 pairs names one method.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
_LARGER = {"*": 1.35, "^": 1.1, "v": 1.1, "<": 1.1, ">": 1.1, "P": 1.25, "D": 0.88, "p": 1.1}
SIZE = 6.5  # of a marker, in typographic points
LABEL_SIZE = 8.5  # of a method's name, in typographic points
LEADER: dict[str, Any] = {"color": "#9A9A9A", "linewidth": 0.6, "zorder": 1.5}
FRONT: dict[str, Any] = {"color": "#8A8A8A", "linewidth": 1.2, "zorder": 1}

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    # Without a salt, and with the date, equal figures would differ in their bytes.
    "svg.hashsalt": "petseg-bench",
    "svg.fonttype": "path",
    "path.simplify": False,
    # A name that holds two dollar signs is a name, not a formula.
    "text.parse_math": False,
}


class Style(NamedTuple):
    """How a method looks in every figure."""

    colour: str
    marker: str


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each method, by the order of the names."""
    return {
        name: Style(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(sorted(set(methods)))
    }


def look() -> AbstractContextManager[None]:
    """Settings under which figures are drawn and saved, in place of the user's own."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", RC])
    return context


def handle(name: str, style: Style, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """A method's marker at given places; at none it is an entry of a legend."""
    return Line2D(
        x,
        y,
        linestyle="none",
        marker=style.marker,
        color=style.colour,
        label=name,
        markersize=SIZE * _LARGER.get(style.marker, 1),
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )


def hollow(name: str, style: Style, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """The marker of a published number: an outline."""
    line = handle(name, style, x, y)
    line.set(markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=1.1, zorder=2.5)
    return line


def pale(name: str, style: Style, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """The marker of a method that is not highlighted: its colour, mixed with white."""
    line = handle(name, style, x, y)
    line.set(markerfacecolor=lighter(style.colour), markeredgecolor=style.colour, zorder=2.8)
    return line


def lighter(colour: str, share: float = 0.7) -> str:
    """A colour mixed with a share of white, as #RRGGBB."""
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02X}" for part in parts)


def trace(name: str, style: Style, x: ArrayLike = (), y: ArrayLike = (), every: int = 1) -> Line2D:
    """A method's line with its marker at every `every`-th point; at none an entry of a legend."""
    return Line2D(
        x,
        y,
        color=style.colour,
        linewidth=1.3,
        marker=style.marker,
        label=name,
        markersize=0.75 * SIZE * _LARGER.get(style.marker, 1),
        markeredgecolor="white",
        markeredgewidth=0.5,
        markevery=every,
        zorder=3,
    )
