"""How often one thing is as fast, or as large, as another."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """How a time, or a size, compares with another.

    Attributes:
        value: median over the rounds.
        low: smallest of the rounds.
        high: largest of the rounds.
    """

    value: float
    low: float
    high: float


Times = dict[str, list[float]]
"""Seconds a step of each loop, the median of its steps in each round."""


def ratio(times: Times, of: str, to: str) -> Ratio:
    """How many times as fast one loop is as another, round by round."""
    found = [slow / fast for fast, slow in zip(times[of], times[to], strict=True)]
    return Ratio(median(found), min(found), max(found))
