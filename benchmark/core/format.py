"""Numbers as people read them, the same everywhere: in tables, figures, the page and messages."""

import math
from typing import Any, Literal

Kind = Literal[
    "text", "integer", "points", "count", "bytes", "seconds", "ms", "rate", "ratio", "number"
]

MISSING = "–"

_METRIC = ("", " k", " M", " G", " T")
# Minutes start at two, because "1.2 min" hides differences that "71.3 s" shows.
_TIME = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))


def human(value: Any, kind: Kind) -> str:
    """A value as people read it: 1.2 M, 45.3 kB, 12.3 ms, 1.40x, 45.3 (points of mIoU).

    Args:
        value: a number in base units (bytes, seconds, fractions of mIoU), text, or a missing value.
        kind: what it counts.

    Returns:
        The text; a dash for a missing value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if kind == "text":
        return str(value)
    number = float(value)
    if kind == "count":
        return _scaled(number, "")
    if kind == "bytes":
        return _scaled(number, "B")
    if kind == "seconds":
        return _duration(number)
    if kind == "ratio":
        # Three digits: beyond ten, hundredths are noise.
        return f"{number:.{2 if number < 9.995 else 1}f}x"
    formats = {"integer": ".0f", "points": "z.1f", "ms": ".1f", "rate": ".1f", "number": ".3f"}
    text = format(100 * number if kind == "points" else number, formats[kind])
    return f"{text} ms" if kind == "ms" else text


def size_text(count: float) -> str:
    """Bytes as people read them: 45.3 kB."""
    return human(count, "bytes")


def points_text(miou: float | None) -> str:
    """MIoU in points as people read it: 45.3."""
    return human(miou, "points")


def human_limit(value: float, kind: Kind) -> str:
    """`human` of a round number, such as a tick of an axis: 10 kB for 10.0 kB."""
    return human(value, kind).replace(".0 ", " ")


def interval_text(low: float, high: float) -> str:
    """An interval in points, such as "43.1–45.2"; empty where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"{points_text(low)}–{points_text(high)}"


def below_text(low: float, high: float) -> str:
    """How many points one score is below another, as an interval that needs no signs.

    Args:
        low: lower end of the difference, as a fraction of mIoU; negative where it may be above.
        high: upper end.

    >>> below_text(0.007, 0.024), below_text(-0.05, 0.055)
    ('0.7 to 2.4 points below', 'between 5.0 points above and 5.5 below')
    """
    ends = [points_text(end) for end in (low, high)]
    above = [points_text(-end) for end in (low, high)]
    if not ends[0].startswith("-"):
        return f"{ends[0]} to {ends[1]} points below"
    if not ends[1].startswith("-"):
        return f"between {above[0]} points above and {ends[1]} below"
    return f"{above[1]} to {above[0]} points above"


def _scaled(number: float, unit: str) -> str:
    step = 0
    # 999.95 would print as 1000.0, which belongs to the next prefix.
    while abs(number) >= (999.95 if step else 999.5) and step < len(_METRIC) - 1:
        number /= 1000
        step += 1
    prefix = _METRIC[step] if step or not unit else " "
    return f"{number:.{1 if step else 0}f}{prefix}{unit}"


def _duration(number: float) -> str:
    size, unit = max((pair for pair in _TIME if number >= 2 * pair[0]), default=_TIME[0])
    return f"{number / size:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`: a number of things with a regular plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def time_text(seconds: float) -> str:
    """A duration for people, to the minute where it is longer than two."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
