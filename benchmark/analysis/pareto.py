"""The Pareto front of cost (lower is better) and score (higher is better)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(cost: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """Marks the points that no other point beats.

    A point beats another when it is at least as good in both and better in one, so points equal
    in both stand or fall together.

    Args:
        cost: (n,) lower is better.
        score: (n,) higher is better.

    Returns:
        (n,) True on the front. A point with a NaN or infinite coordinate is never on it.

    Raises:
        ValueError: the lengths differ.
    """
    costs, scores = np.asarray(cost, dtype=float), np.asarray(score, dtype=float)
    if costs.shape != scores.shape or costs.ndim != 1:
        raise ValueError(f"cost {costs.shape} and score {scores.shape} must be equally long lists")
    front = np.zeros(len(costs), dtype=bool)
    best = (np.inf, -np.inf)
    for index in np.lexsort((-scores, costs)):
        point = (costs[index], scores[index])
        if np.isfinite(point).all() and (point[1] > best[1] or point == best):
            front[index] = True
            best = point
    return front


def log_positions(cost: ArrayLike) -> NDArray[np.float64]:
    """Where costs stand on a logarithmic axis, on which zero has no place.

    Args:
        cost: (n,) not negative.

    Returns:
        (n,) the costs; zeros stand at a third of the smallest positive cost (at 1 if there is
        none), left of all others, where the axis has to name them 0.
    """
    costs = np.asarray(cost, dtype=float)
    positive = costs[costs > 0]
    return np.where(costs > 0, costs, positive.min() / 3 if len(positive) else 1.0)
