"""Replicates of the scores of all methods, for whatever is no mean: fronts, hypervolumes, IQM.

A replicate moves every method by what other seeds and other images would: images from the
bootstrap, seeds by a multiplier (Gaussian weights on the seeds' residuals, the same weights for all
methods; Davison and Hinkley, Bootstrap Methods and their Application, 1997, chapter 6). Both are
scaled to the variances of `estimate`, and to the tails of its Student's t.
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
    weights = np.stack([
        stream(seed, "seeds", *block.group, block.benchmark).standard_normal(sample.drawn.shape[2])
        for seed in block.seeds
    ])  # fmt: skip
    finite = np.isfinite(block.miou)
    count = finite.sum(1, keepdims=True)
    residuals = np.where(finite, block.miou - np.nanmean(block.miou, axis=1, keepdims=True), 0)
    scale = np.sqrt(count * np.maximum(count - 1, 1))  # of a single seed the residual is 0
    return (residuals / scale) @ weights
