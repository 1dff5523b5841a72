"""Logarithmic axes with ticks that people can read."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from benchmark.core.format import Kind, human_limit


def log_ticks(low: float, high: float) -> list[float]:
    """Three to five round values between two positive ends."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        inside = [float(f"{value:.6g}") for value in values if low <= value <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 5)]
    even = MaxNLocator(4).tick_values(low, high)
    return [float(value) for value in even if low <= value <= high]


def log_scale(
    axis: Any,
    side: str,
    ends: tuple[float, float],
    kind: Kind,
    ticks: Sequence[float] | None = None,
    zero: float | None = None,
) -> None:
    """Makes one axis logarithmic.

    Args:
        axis: of Matplotlib.
        side: "x" or "y".
        ends: the limits, positive.
        kind: unit of the values, for the labels.
        ticks: where to put ticks; by default round values.
        zero: position of zero, which a logarithmic axis does not have; its tick says 0.
    """
    places = list(log_ticks(*ends) if ticks is None else ticks)
    if zero is not None:
        places = [tick for tick in places if tick > 1.5 * zero] + [zero]

    def text(value: float, _: object = None) -> str:
        if value == zero:
            return "0"
        if kind in ("count", "bytes"):
            return human_limit(value, kind)
        return f"{value:g}"

    getattr(axis, f"set_{side}scale")("log")
    getattr(axis, f"set_{side}lim")(*ends)
    line = getattr(axis, f"{side}axis")
    line.set_major_locator(FixedLocator(places))
    line.set_major_formatter(FuncFormatter(text))
    line.set_minor_locator(NullLocator())


def clear(ticks: Sequence[float], share: float = 0.09) -> list[float]:
    """Leaves out ticks of which the labels would touch, on a logarithmic axis.

    Args:
        ticks: ascending and positive.
        share: of the axis that a label takes.
    """
    gap = (ticks[-1] / ticks[0]) ** share
    kept = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if kept[0] >= gap * tick:
            kept.insert(0, tick)
    return kept


def roomy(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic axis with some room beside the data."""
    room = max((high / low) ** 0.13, 1.08)
    return low / room, high * room
