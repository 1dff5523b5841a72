"""Intervals cover the truth, and p values keep their promise, on simulated counts."""

import numpy as np
import pytest

from benchmark.analysis.uncertainty.estimate import difference, mean, method_mean
from benchmark.analysis.uncertainty.replicates import deviations, with_tails
from tests.helpers.simulated import World

pytestmark = pytest.mark.no_torch

WORLDS = {
    "both": World(),
    "seeds": World(seed=0.6, image=0.4, interaction=0.2),
    "images": World(seed=0.05, image=1.2),
}


def rates(world: World, seeds: int, images: int, experiments: int) -> tuple[float, float]:
    """How often a 95 % interval holds the truth, and how often equal methods have p < 0.05."""
    truth = world.truth(np.random.default_rng(1), 600)
    random = np.random.default_rng([seeds, images])
    covered, called = 0, 0
    for _ in range(experiments):
        sample = world.experiment(random, seeds, images, methods=2)
        low, high = method_mean(sample, 0).interval()
        covered += low <= truth <= high
        called += difference(sample, 0, 1).p() < 0.05
    return covered / experiments, called / experiments


@pytest.mark.parametrize(("seeds", "images"), [(3, 40), (5, 100)])
def test_coverage_and_false_positives_roughly(seeds, images):
    coverage, false = rates(WORLDS["both"], seeds, images, 250)
    assert 0.90 <= coverage <= 0.985
    assert 0.01 <= false <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "seeds", "images"),
    [
        ("both", 3, 40),
        ("both", 5, 100),
        ("both", 10, 40),
        ("seeds", 3, 100),
        ("images", 3, 40),
        ("images", 10, 100),
    ],
)
def test_coverage_and_false_positives(world, seeds, images):
    coverage, false = rates(WORLDS[world], seeds, images, 1000)
    assert 0.93 <= coverage <= 0.97
    assert 0.03 <= false <= 0.07


def test_a_percentile_bootstrap_would_cover_less():
    # What the correction is for: with three seeds, percentiles over seeds and images.
    world = WORLDS["seeds"]
    truth = world.truth(np.random.default_rng(1), 600)
    random = np.random.default_rng(9)
    naive, corrected = 0, 0
    for _ in range(150):
        sample = world.experiment(random, 3, 40)
        picks = random.integers(0, 3, (3, sample.drawn.shape[2]))
        means = np.take_along_axis(sample.drawn[0], picks, axis=0).mean(0)
        low, high = np.quantile(means, (0.025, 0.975))
        naive += low <= truth <= high
        low, high = method_mean(sample, 0).interval()
        corrected += low <= truth <= high
    assert naive / 150 < 0.88 < corrected / 150


def test_a_real_difference_is_found():
    world = WORLDS["both"]
    random = np.random.default_rng(2)
    found = 0
    for _ in range(60):
        sample = world.experiment(random, 5, 60, methods=2)
        sample.block.miou[0] += 0.1
        found += difference(sample, 0, 1).p() < 0.05
    assert found > 50


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_replicates_have_the_spread_and_tails_of_the_estimate(seeds):
    random = np.random.default_rng(seeds)
    samples = [
        WORLDS["both"].experiment(random, seeds, 60, 3, 4000, benchmark=name) for name in "abcd"
    ]
    estimates = [mean([method_mean(sample, row) for sample in samples]) for row in range(3)]
    moved = np.mean([deviations(sample) for sample in samples], axis=0)
    assert moved.var(axis=1) == pytest.approx([one.variance for one in estimates], rel=0.12)
    tailed = with_tails(moved, estimates, ["net"])
    for row, one in zip(tailed, estimates, strict=True):
        low, high = one.interval()
        half = (high - low) / 2
        assert np.quantile(row, (0.025, 0.975)) == pytest.approx([-half, half], abs=0.15 * half)
