"""The Pareto front of (log cost, mIoU) when mIoU is uncertain; costs are taken as they are."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from benchmark.analysis.pareto import log_positions

Floats = NDArray[np.float64]


def on_front(costs: Floats, scores: Floats) -> NDArray[np.bool_]:
    """Marks in each replicate the methods that no other beats (`benchmark.analysis.pareto`).

    Args:
        costs: (M,) lower is better; a method without a cost (NaN) is on no front.
        scores: (M, B) higher is better.

    Returns:
        (M, B).
    """
    front = np.zeros(scores.shape, dtype=bool)
    best = np.full(scores.shape[1], -np.inf)
    for cost in np.unique(costs[np.isfinite(costs)]):
        rows = np.flatnonzero(costs == cost)
        top = scores[rows].max(0)
        front[rows] = (scores[rows] == top) & (top > best)
        best = np.maximum(best, top)
    return front


def reference(costs: Floats, scores: Floats, trained: Floats) -> tuple[Floats, float, Floats]:
    """Where methods and the reference point stand on the axes of the hypervolume.

    The reference is made of two methods: the score of the one that trains the fewest parameters of
    the backbone (what is to be had for nothing) and the cost of the one that trains most; the first
    where several train as many.

    Args:
        costs: (M,) not negative; zeros are where `analysis.pareto.log_positions` puts them.
        scores: (M, B).
        trained: (M,) parameters of the backbone, inserted and tuned.

    Returns:
        log10 of the costs (M,); cost of the reference, in these decades; its score (B,).
    """
    decades = np.log10(log_positions(costs))
    return decades, float(decades[np.argmax(trained)]), scores[np.argmin(trained)]


def area(decades: Floats, scores: Floats, limit: float, floor: Floats) -> Floats:
    """Hypervolume: area between a front and its reference point, in each replicate.

    What costs more than the reference or scores no better adds nothing.

    Args:
        decades: (M,) log10 of the costs.
        scores: (M, B).
        limit: cost of the reference point, in decades.
        floor: (B,) score of the reference point.

    Returns:
        (B,) in decades x mIoU.
    """
    total = np.zeros(scores.shape[1])
    best = floor
    for row in np.argsort(decades, kind="stable"):
        higher = np.fmax(best, scores[row])
        total += (higher - best) * max(0.0, limit - decades[row])
        best = higher
    return total


def bias_corrected(value: float, replicates: Floats) -> tuple[float, float]:
    """95 % interval from replicates that may lie to one side of the value.

    The best of several noisy methods looks better than it is, and in replicates, which are noisy
    twice, more so; percentiles are shifted by as much as the median is off. Source: Efron,
    Nonparametric standard errors and confidence intervals, Canadian Journal of Statistics 1981.

    Args:
        value: what was observed.
        replicates: (B,).
    """
    count = len(replicates)
    below = (replicates < value).sum() + (replicates == value).sum() / 2
    shift = ndtri(np.clip(below, 0.5, count - 0.5) / count)
    low, high = np.quantile(replicates, ndtr(2 * shift + ndtri([0.025, 0.975])))
    return float(low), float(high)
