"""Predicted power is the share of simulated experiments in which the paired test finds one."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import nct, t

from benchmark.analysis.uncertainty.estimate import Estimate, difference, over_images, over_seeds
from benchmark.analysis.uncertainty.estimate import mean as mean_of
from benchmark.analysis.uncertainty.power import (
    MOST_SEEDS,
    POWER,
    Spread,
    images_needed,
    pooled,
    power,
    seeds_needed,
)
from tests.helpers.simulated import World

pytestmark = pytest.mark.no_torch


def drawn(random, spread, apart, seeds, images):
    """One experiment with a known spread: the difference as `estimate` sees it."""
    effects = random.normal(0, math.sqrt(spread.seed), seeds)
    each = random.normal(apart, math.sqrt(spread.image), images)
    parts = (*over_seeds(effects), *over_images(each.var(ddof=1) / images, images))
    return Estimate(effects.mean() + each.mean(), parts, seeds=True, images=True)


def simulated(random, spreads, apart, seeds, images, experiments=1500):
    found = 0
    for _ in range(experiments):
        ones = [drawn(random, spread, apart, seeds, images) for spread in spreads]
        found += mean_of(ones).p() < 0.05
    return found / experiments


@pytest.mark.parametrize(
    ("seed", "image", "benchmarks", "apart", "seeds"),
    [
        (0.010, 0.02, 1, 0.010, 10),
        (0.010, 0.02, 1, 0.015, 6),
        (0.005, 0.10, 1, 0.020, 5),
        (0.010, 0.05, 4, 0.010, 3),
        (0.010, 0.05, 4, 0.000, 3),
    ],
)
def test_predicted_power_is_what_simulations_show(seed, image, benchmarks, apart, seeds):
    images = 60
    spreads = [Spread(seed**2, image**2, images)] * benchmarks
    random = np.random.default_rng([benchmarks, seeds])
    shown = simulated(random, spreads, apart, seeds, images)
    # Four standard errors of 1,500 experiments, and what Satterthwaite's formula approximates.
    assert power(spreads, apart, seeds) == pytest.approx(shown, abs=0.05)


def test_as_many_seeds_as_predicted_find_a_difference():
    spread = Spread(0.012**2, 0.03**2, 80)
    seeds = seeds_needed([spread], 0.015)
    assert seeds is not None
    shown = simulated(np.random.default_rng(3), [spread], 0.015, seeds, 80)
    assert shown == pytest.approx(POWER, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "apart"), [(3, 0.06), (5, 0.04), (8, 0.03)])
def test_on_simulated_counts_the_spread_of_a_pilot_predicts_the_power(seeds, apart):
    world, images = World(), 60
    random = np.random.default_rng(seeds)
    pilots = [
        pooled([difference(world.experiment(random, 30, images, methods=2), 0, 1)])
        for _ in range(12)
    ]
    spread = Spread(
        float(np.mean([one.seed for one in pilots])),
        float(np.mean([one.image for one in pilots])),
        images,
    )
    found = 0
    for _ in range(400):
        sample = world.experiment(random, seeds, images, methods=2)
        sample.block.miou[0] += apart
        found += difference(sample, 0, 1).p() < 0.05
    assert power([spread], apart, seeds) == pytest.approx(found / 400, abs=0.1)


@pytest.mark.parametrize("seeds", [2, 3, 10, 60])
@pytest.mark.parametrize("apart", [0.0, 0.003, 0.01])
def test_with_seeds_alone_it_is_the_non_central_t(seeds, apart):
    shift, limit = apart / (0.01 / math.sqrt(seeds)), t.ppf(0.975, seeds - 1)
    exact = nct.sf(limit, seeds - 1, shift) + nct.cdf(-limit, seeds - 1, shift)
    assert power([Spread(0.01**2)], apart, seeds) == pytest.approx(exact, abs=1e-3)


def test_more_of_anything_is_never_worse():
    spread = Spread(0.01**2, 0.05**2, 100)
    by_seeds = [power([spread], 0.01, seeds) for seeds in range(2, 40)]
    by_images = [power([spread], 0.01, 5, times) for times in (0.5, 1, 2, 5, 20)]
    by_points = [power([spread], apart, 5) for apart in (0, 0.005, 0.01, 0.02, 0.2)]
    for found in (by_seeds, by_images, by_points):
        assert all(b >= a - 1e-3 for a, b in itertools.pairwise(found))
    assert by_points[-1] == pytest.approx(1)


def test_numbers_that_are_needed():
    spread = Spread(0.01**2, 0.02**2, 100)
    seeds = seeds_needed([spread], 0.01)
    assert power([spread], 0.01, seeds) >= POWER > power([spread], 0.01, seeds - 1)
    assert seeds_needed([spread] * 5, 0.01) < seeds
    # The test images alone blur it: no number of seeds helps, more images do.
    blurred = Spread(0.001**2, 0.2**2, 100)
    assert seeds_needed([blurred], 0.01) is None and power([blurred], 0.01, MOST_SEEDS) < POWER
    times = images_needed([blurred], 0.01, 5)
    assert times > 10 and power([blurred], 0.01, 5, times) >= POWER
    # The seeds alone blur it: no number of images helps.
    assert images_needed([Spread(0.1**2, 0.01**2, 100)], 0.01, 3) is None
    assert images_needed([spread], 0.01, 1) is None


def test_the_spread_of_pairs_is_their_average():
    one = Estimate(0.1, ((0.3, 2.0), (0.02, 49.0)), seeds=True, images=True)
    other = Estimate(0.2, ((0.1, 4.0), (0.04, 49.0)), seeds=True, images=True)
    assert pooled([one, other]) == Spread(
        pytest.approx((0.9 + 0.5) / 2), pytest.approx((1.0 + 2.0) / 2), 50
    )
    alone = Estimate(0.1, ((0.02, 49.0),), images=True)
    unpaired = Estimate(0.1, ((0.3, 2.0), (0.3, 1.0), (0.02, 49.0)), seeds=True, images=True)
    assert pooled([alone, unpaired]) is None
    assert pooled([Estimate(0.1, ((0.3, 2.0),), seeds=True)]) == Spread(pytest.approx(0.9))
