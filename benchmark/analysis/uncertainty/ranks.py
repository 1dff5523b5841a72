"""Ranks: the places that tests leave open, and averages over benchmarks.

In Friedman's test and Nemenyi's critical difference a cell is a benchmark, with the mean over its
seeds: the tests take their cells as independent, and the seeds of one benchmark share its images.
Source: Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.analysis.uncertainty.family import ALPHA

FEWEST_CELLS = 5
"""With fewer, the critical difference is (nearly) wider than ranks can ever be apart."""


class Rank(NamedTuple):
    """The places that the tests leave open, from 1 on."""

    first: int
    last: int


def open_ranks(means: Mapping[str, float], significant: Collection[frozenset[str]]) -> list[Rank]:
    """The places that the tests leave open to each method.

    The first is 1, plus the number of methods that are significantly better. The last leaves as
    many places below as methods are significantly worse. So what the tests say little of, such as a
    method whose seeds differ much, has a wide range.

    Args:
        means: mean score by method.
        significant: pairs that differ significantly, after Holm's correction.

    Returns:
        In the order of means from the best (equal means by name).
    """
    order = sorted(means, key=lambda name: (-means[name], name))

    def apart(name: str, others: Sequence[str]) -> int:
        return sum(frozenset((other, name)) in significant for other in others)

    return [
        Rank(1 + apart(name, order[:place]), len(order) - apart(name, order[place + 1 :]))
        for place, name in enumerate(order)
    ]


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Mean rank of each method, 1 is the best; equal scores share the mean of their ranks.

    Args:
        scores: (cells, methods).
    """
    from scipy.stats import rankdata  # slow to load

    return rankdata(-np.asarray(scores, dtype=float), axis=1).mean(0)


def friedman(scores: ArrayLike) -> tuple[float, float]:
    """Statistic and p of "all methods rank alike"; NaN below three methods or two cells.

    Args:
        scores: (cells, methods).
    """
    table = np.asarray(scores, dtype=float)
    if table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):  # where all are equal, which is NaN
        from scipy.stats import friedmanchisquare

        statistic, p = friedmanchisquare(*table.T)
    return float(statistic), float(p)


def critical_difference(methods: int, cells: int) -> float | None:
    """Difference of average ranks from which two methods differ at 5 % (Nemenyi).

    Args:
        methods: k, compared with each other.
        cells: N.

    Returns:
        `q / sqrt(2) * sqrt(k (k + 1) / (6 N))` with q of the studentized range; None below five
        cells or two methods.
    """
    if cells < FEWEST_CELLS or methods < 2:
        return None
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - ALPHA, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * cells))


def cliques(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """The longest rows of methods whose average ranks are not farther apart than the difference.

    Args:
        ranks: average rank by method.
        difference: the critical one.

    Returns:
        Two or more methods each, best first; none is part of another.
    """
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    rows = [
        [name for name in order[start:] if ranks[name] - ranks[order[start]] < difference]
        for start in range(len(order))
    ]
    ends = [start + len(row) for start, row in enumerate(rows)]
    news = [True, *(later > former for former, later in pairwise(ends))]
    return [row for row, new in zip(rows, news, strict=True) if new and len(row) > 1]
