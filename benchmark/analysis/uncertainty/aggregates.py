"""Aggregates over cells (benchmark x seed): interquartile mean and probability of improvement.

Both from Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice,
NeurIPS 2021, with benchmarks in the place of tasks and seeds in that of runs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def interquartile_mean(scores: Sequence[Floats]) -> float:
    """Mean of the middle half of all cells: a quarter is cut off at either end.

    Args:
        scores: for each benchmark the scores (S,) of a method's seeds.
    """
    from scipy.stats import trim_mean  # slow to load

    return float(trim_mean(np.concatenate(scores), 0.25))


def interquartile_interval(
    scores: Sequence[Floats], moved: Sequence[Floats]
) -> tuple[float, float]:
    """95 % interval of the interquartile mean: what it would be for the same benchmarks.

    Args:
        scores: for each benchmark the scores (S,) of a method's seeds.
        moved: for each benchmark (B,), how far the replicates move them.
    """
    cells = [ones[:, None] + by[None] for ones, by in zip(scores, moved, strict=True)]
    from scipy.stats import trim_mean

    low, high = np.quantile(trim_mean(np.concatenate(cells), 0.25, axis=0), (0.025, 0.975))
    return float(low), float(high)


def probability_of_improvement(a: Sequence[Floats], b: Sequence[Floats]) -> float:
    """P(A > B): how often a run of A beats a run of B, averaged over benchmarks; a tie is half.

    Args:
        a: for each benchmark the scores (S,) of the one method's seeds.
        b: likewise, of the other; the seeds may be others.
    """
    shares = []
    for ours, theirs in zip(a, b, strict=True):
        apart = np.sign(np.subtract.outer(ours, theirs))
        shares.append(float((apart + 1).mean() / 2))
    return float(np.mean(shares))
