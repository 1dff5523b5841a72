"""How many seeds and test images would tell a difference of so many points.

The test is that of `estimate.Estimate.p` on a paired difference, whose variance over S seeds and N
images is A / S + B / N on a benchmark. A holds the interaction of seeds and images at the number of
images that there is. With these parts expected, the test statistic is taken as a non-central t with
the degrees of freedom of the test (Cohen, Statistical Power Analysis, 1988, chapter 2). Simulations
agree (tests/unit: test_uncertainty_power).

A and B are estimated from few seeds. They are averages over all pairs of methods, which steadies
them: numbers of seeds are for a typical pair, and rough. Holm's correction asks for more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, ndtr

from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty.bootstrap import resample
from benchmark.analysis.uncertainty.estimate import Estimate, difference, quantile
from benchmark.analysis.uncertainty.samples import blocks

POWER = 0.8
"""Probability with which a difference is to be found; it is tested at 5 %."""
MOST_SEEDS = 100
FEWEST_SEEDS = 3
"""With fewer, no number of seeds is estimated: two seeds say next to nothing of the variance."""
FEW_SEEDS = 3
"""With so few, the variance over seeds may by chance come out several times too large or too small:
an estimate is called rough, and that no number of seeds is enough is not claimed."""
MOST_IMAGES = 1000.0
"""Times as many images as there are."""
_MANY = 1e5  # degrees of freedom: from here on the normal distribution
_LEVELS = (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class Spread:
    """Variance of the difference of two methods on one benchmark.

    Attributes:
        seed: of one seed on the images that there are.
        image: of one image, over all seeds; 0 where it is not known.
        images: their number; 0 where it is not known.
    """

    seed: float
    image: float = 0.0
    images: int = 0

    def parts(self, seeds: int, times: float) -> list[tuple[float, float]]:
        """(variance, degrees of freedom) of the mean over seeds and `times` as many images."""
        found = [(self.seed / seeds, seeds - 1.0)]
        if self.images:
            images = self.images * times
            found.append((self.image / images, images - 1))
        return found


def pooled(pairs: Sequence[Estimate]) -> Spread | None:
    """The average spread over pairs of methods on one benchmark; None where it is not known.

    Args:
        pairs: their differences; those that are not paired by seed are left out.
    """
    known = [one for one in pairs if one.seeds and len(one.parts) == 1 + one.images]
    if not known:
        return None
    images = int(known[0].parts[1][1]) + 1 if known[0].images else 0
    alike = [one for one in known if one.images == known[0].images]
    seed, image = (
        sum(one.parts[place][0] * (one.parts[place][1] + 1) for one in alike) / len(alike)
        if place < len(alike[0].parts)
        else 0.0
        for place in (0, 1)
    )
    return Spread(seed, image, images)


def spreads(runs: Runs, replicates: int = 1000) -> dict[str, Spread]:
    """The spread on each benchmark of which two methods have two or more seeds in common.

    Args:
        runs: of one backbone, weights and protocol.
        replicates: of the bootstrap over images.
    """
    found = {}
    for block in blocks(runs.current, runs.cells):
        sample = resample(block, runs.root, replicates)
        count = len(block.methods)
        pairs = [difference(sample, a, b) for a in range(count) for b in range(a)]
        if spread := pooled(pairs):
            found[block.benchmark] = spread
    return found


def power(benchmarks: Sequence[Spread], apart: float, seeds: int, times: float = 1.0) -> float:
    """Probability that the test finds a difference of the means over benchmarks.

    Args:
        benchmarks: their spreads; one for a single benchmark.
        apart: the true difference, as a fraction of mIoU.
        seeds: of each method on each benchmark, two or more.
        times: test images, in multiples of those that there are.
    """
    count = len(benchmarks)
    parts = [(v / count**2, dof) for one in benchmarks for v, dof in one.parts(seeds, times)]
    planned = Estimate(apart, tuple(parts), seeds=True, images=True)
    if planned.variance == 0:
        return 1.0
    shift, dof = apart / math.sqrt(planned.variance), min(planned.dof, _MANY)
    # The non-central t as a mean over what the estimated variance may be: scipy's fails far out.
    limits = quantile(dof) * np.sqrt(chdtri(dof, _LEVELS) / dof)
    return float(np.mean(ndtr(shift - limits) + ndtr(-shift - limits)))


def is_known(seeds: int, needed: float) -> bool:
    """Whether runs of so many seeds are enough to name a number of seeds.

    Args:
        seeds: of the runs that the estimate is from.
        needed: the estimate; infinite = over `MOST_SEEDS`.
    """
    return seeds >= FEWEST_SEEDS and not (seeds <= FEW_SEEDS and math.isinf(needed))


def seeds_needed(benchmarks: Sequence[Spread], apart: float) -> int | None:
    """Seeds of each method that find a difference with `POWER`; None = over `MOST_SEEDS`."""
    for seeds in range(2, MOST_SEEDS + 1):
        if power(benchmarks, apart, seeds) >= POWER:
            return seeds
    return None


def images_needed(benchmarks: Sequence[Spread], apart: float, seeds: int) -> float | None:
    """Test images that find it with so many seeds, in multiples of those that there are.

    Returns:
        At least two thirds; None where even `MOST_IMAGES` times as many are too few, or where the
        images are not known or there is a single seed.
    """
    if seeds < 2 or not all(one.images for one in benchmarks):
        return None
    times = 2 / 3
    while power(benchmarks, apart, seeds, times) < POWER:
        times *= 1.05
        if times > MOST_IMAGES:
            return None
    return times
