"""The Pareto front of cost (lower is better) and score (higher is better), and its hypervolume.

Scores may be uncertain, as replicates; costs are taken as they are.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]


def pareto_front(cost: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """Marks the points that no other point beats.

    A point beats another when it is at least as good in both and better in one, so points equal
    in both are both on the front, or neither is.

    Args:
        cost: (M,) lower is better.
        score: (M,) or (M, B), with a front for each of B replicates; higher is better.

    Returns:
        True on the front, in the shape of `score`. A point with a NaN or infinite coordinate is
        never on it.

    Raises:
        ValueError: the lengths differ.
    """
    costs, scores = np.asarray(cost, dtype=float), np.asarray(score, dtype=float)
    if costs.shape != scores.shape[:1]:
        raise ValueError(f"cost {costs.shape} and score {scores.shape} must be equally long lists")
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    front = np.zeros(scores.shape, dtype=bool)
    best = np.full(scores.shape[1:], -np.inf)
    for value in np.unique(costs[np.isfinite(costs)]):
        rows = np.flatnonzero(costs == value)
        top = scores[rows].max(0)
        front[rows] = (scores[rows] == top) & (top > best)
        best = np.maximum(best, top)
    return front


def log_positions(cost: ArrayLike) -> NDArray[np.float64]:
    """Positions of costs on a logarithmic axis, which has none for zero.

    Args:
        cost: (n,) not negative.

    Returns:
        (n,) the costs; zeros are at a third of the smallest positive cost (at 1 if there is
        none), left of all others, where the axis has to name them 0.
    """
    costs = np.asarray(cost, dtype=float)
    positive = costs[costs > 0]
    return np.where(costs > 0, costs, positive.min() / 3 if len(positive) else 1.0)


def reference_point(costs: Floats, scores: Floats, trained: Floats) -> tuple[Floats, float, Floats]:
    """Positions of methods and of the reference point on the axes of the hypervolume.

    The reference is made of two methods: the score of the one that trains the fewest parameters of
    the backbone and the cost of the one that trains most; the first where several train as many.

    Args:
        costs: (M,) not negative; zeros are where `log_positions` puts them.
        scores: (M, B).
        trained: (M,) parameters of the backbone, inserted and tuned.

    Returns:
        log10 of the costs (M,); cost of the reference, in these decades; its score (B,).
    """
    decades = np.log10(log_positions(costs))
    return decades, float(decades[np.argmax(trained)]), scores[np.argmin(trained)]


def hypervolume(decades: Floats, scores: Floats, limit: float, floor: Floats) -> Floats:
    """The area between a front and its reference point, in each replicate.

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
    """95 % interval from replicates that may all be on one side of the value.

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
