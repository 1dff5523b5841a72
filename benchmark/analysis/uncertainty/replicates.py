"""Replicates of the scores of all methods, for statistics that are not means: fronts, IQM, ...

A replicate moves every method as other seeds and other images would: images from the
bootstrap, seeds by a multiplier (Gaussian weights on the seeds' residuals, the same weights for all
methods; Davison and Hinkley, Bootstrap Methods and their Application, 1997, chapter 6). Both are
scaled to the variances of `estimate`, and to the tails of its Student's t.

Interquartile mean and probability of improvement are those of Agarwal et al., Deep Reinforcement
Learning at the Edge of the Statistical Precipice, NeurIPS 2021, with benchmarks in the place of
tasks and seeds in that of runs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from benchmark.analysis.uncertainty.bootstrap import Resampled
from benchmark.analysis.uncertainty.estimate import Estimate
from benchmark.core.seeding import stream

Floats = NDArray[np.float64]


def deviations(sample: Resampled) -> Floats:
    """(M, B): how far each replicate moves each method from its mean, with Gaussian tails."""
    return _by_images(sample) + _by_seeds(sample)


def with_tails(deviations: Floats, estimates: Sequence[Estimate], group: Sequence[str]) -> Floats:
    """Gives deviations the tails of Student's t: (M, B) to (M, B).

    One draw of the chi-square's level a replicate for all methods keeps them in step.

    Args:
        deviations: (M, B), of a benchmark or of a mean of several.
        estimates: M, for the degrees of freedom.
        group: names the random stream.
    """
    level = stream(0, "tails", *group).random(deviations.shape[1])
    dof = np.array([min(one.dof, 1e6) for one in estimates])[:, None]
    return deviations * np.sqrt(dof / chdtri(dof, level))


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
        b: the same for the other method; its seeds may differ.
    """
    shares = []
    for ours, theirs in zip(a, b, strict=True):
        apart = np.sign(np.subtract.outer(ours, theirs))
        shares.append(float((apart + 1).mean() / 2))
    return float(np.mean(shares))


def _by_images(sample: Resampled) -> Floats:
    moved = np.zeros(sample.drawn.shape[::2])
    for row, variance in enumerate(np.diag(sample.covariance)):
        if np.isfinite(variance):
            runs = sample.drawn[row][np.isfinite(sample.drawn[row, :, 0])]
            means = runs.mean(0, dtype=float)
            spread = means.std(ddof=1)
            if spread > 0:
                moved[row] = (means - means.mean()) * np.sqrt(max(0.0, variance)) / spread
    return moved


def _by_seeds(sample: Resampled) -> Floats:
    block = sample.block
    weights = np.stack(
        [
            stream(seed, "seeds", *block.group, block.benchmark).standard_normal(
                sample.drawn.shape[2]
            )
            for seed in block.seeds
        ]
    )
    finite = np.isfinite(block.miou)
    count = finite.sum(1, keepdims=True)
    residuals = np.where(finite, block.miou - np.nanmean(block.miou, axis=1, keepdims=True), 0)
    scale = np.sqrt(count * np.maximum(count - 1, 1))  # of a single seed the residual is 0
    return (residuals / scale) @ weights
