"""Estimates of methods, and of paired differences between two of them, on one benchmark."""

import numpy as np

from benchmark.analysis.uncertainty.bootstrap import Resampled
from benchmark.analysis.uncertainty.estimate import Estimate, over_images, over_seeds


def method(sample: Resampled, row: int) -> Estimate:
    """The mean mIoU of a method over its seeds.

    Args:
        sample: a resampled block.
        row: of the method.
    """
    scores = sample.block.miou[row]
    scores = scores[np.isfinite(scores)]
    seeds = over_seeds(scores)
    return _estimate(float(scores.mean()), seeds, sample.covariance[row, row], sample.images)


def difference(sample: Resampled, a: int, b: int) -> Estimate:
    """Mean mIoU of one method minus that of another.

    Images are always paired. Seeds are paired where both methods have the same ones (a seed fixes
    the order of the data and the decoder's start for every method); else they are taken as
    independent, which is careful where they are not. Images are covered if both have counts.

    Args:
        sample: a resampled block.
        a: row of the one.
        b: row of the other.
    """
    rows = sample.block.miou[[a, b]]
    here = np.isfinite(rows)
    ours, theirs = rows[0, here[0]], rows[1, here[1]]
    value = float(ours.mean() - theirs.mean())
    if (here[0] == here[1]).all():
        seeds = over_seeds(ours - theirs)
    else:
        parts = over_seeds(ours), over_seeds(theirs)
        seeds = parts[0] + parts[1] if all(parts) else ()
    covariance = sample.covariance
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    return _estimate(value, seeds, variance, sample.images)


def _estimate(
    value: float, seeds: tuple[tuple[float, float], ...], variance: float, images: int
) -> Estimate:
    covered = bool(np.isfinite(variance))
    parts = seeds + (over_images(variance, images) if covered else ())
    return Estimate(value=value, parts=parts, seeds=bool(seeds), images=covered)
