"""Fronts of replicates against the front of points; areas by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.analysis.pareto import pareto_front
from benchmark.analysis.uncertainty import fronts

pytestmark = pytest.mark.no_torch

FEW = st.integers(0, 4).map(float)


@given(arrays(float, 6, elements=FEW | st.just(np.nan)), arrays(float, (6, 5), elements=FEW))
def test_every_replicate_has_the_front_of_its_points(costs, scores):
    found = fronts.on_front(costs, scores)
    for replicate in range(5):
        expected = pareto_front(costs, scores[:, replicate])
        assert (found[:, replicate] == expected).all()


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_hypervolume_by_hand():
    #  10: 0.5, 100: 0.4 (beaten), 1000: 0.7; the reference is (10,000, 0.2)
    costs, scores = np.array([100.0, 1000.0, 10.0]), column(0.4, 0.7, 0.5)
    area = fronts.area(np.log10(costs), scores, 4.0, np.array([0.2]))
    assert area == pytest.approx([3 * 0.3 + 1 * 0.2])


def test_what_is_outside_the_reference_adds_nothing():
    decades = np.array([5.0, 1.0])
    assert fronts.area(decades, column(0.9, 0.1), 4.0, np.array([0.2])) == pytest.approx([0])
    assert fronts.area(decades[:1], column(0.9), 4.0, np.array([0.2])) == pytest.approx([0])


def test_reference_is_found_by_the_numbers():
    costs, trained = np.array([90.0, 0.0, 9000.0]), np.array([5.0, 0.0, 800.0])
    decades, limit, floor = fronts.reference(costs, column(0.5, 0.3, 0.6), trained)
    assert decades == pytest.approx(np.log10([90, 30, 9000]))
    assert limit == pytest.approx(np.log10(9000)) and floor == pytest.approx([0.3])
    area = fronts.area(decades, column(0.5, 0.3, 0.6), limit, floor)
    assert area == pytest.approx([2 * 0.2])


@given(arrays(float, (5, 3), elements=st.floats(0, 1)), arrays(float, 5, elements=st.floats(0, 6)))
def test_hypervolume_equals_a_count_of_small_squares(scores, decades):
    limit, floor = 6.0, np.full(3, 0.25)
    x, y = (np.arange(300) + 0.5) / 50, (np.arange(300) + 0.5) / 300
    for replicate, area in enumerate(fronts.area(decades, scores, limit, floor)):
        own = scores[:, replicate]
        best = np.where(decades[:, None] <= x, own[:, None], 0).max(0)
        covered = (y[:, None] < best[None]) & (y[:, None] > 0.25)
        assert area == pytest.approx(covered.mean() * 6, abs=0.05)


def test_bias_corrected_interval_equals_percentiles_without_bias():
    replicates = np.linspace(-1, 1, 1001)
    low, high = fronts.bias_corrected(0.0, replicates)
    assert (low, high) == pytest.approx((-0.95, 0.95))


def test_bias_corrected_interval_moves_against_the_bias():
    random = np.random.default_rng(0)
    replicates = random.normal(0.5, 1, 20_000)  # too high by half a deviation
    low, high = fronts.bias_corrected(0.0, replicates)
    assert (low, high) == pytest.approx((-1.96 - 0.5, 1.96 - 0.5), abs=0.08)


def test_an_area_of_zero_has_an_interval_of_zero():
    assert fronts.bias_corrected(0.0, np.zeros(100)) == (0, 0)


def test_intervals_of_hypervolumes_cover_the_truth():
    # Four methods that are alike: the front of what is observed is higher than that of the truth.
    random = np.random.default_rng(0)
    costs = np.array([1e3, 1e4, 1e5, 1e6, 1e7])
    truth = column(0.5, 0.58, 0.58, 0.58, 0.58)

    def volume(scores: np.ndarray) -> np.ndarray:
        decades, limit, floor = fronts.reference(costs, scores, trained=costs)
        return fronts.area(decades, scores, limit, floor)

    covered, percentiles = 0, 0
    for _ in range(400):
        observed = truth + random.normal(0, 0.02, truth.shape)
        replicates = volume(observed + random.normal(0, 0.02, (5, 500)))
        low, high = fronts.bias_corrected(volume(observed)[0], replicates)
        covered += low <= volume(truth)[0] <= high
        low, high = np.quantile(replicates, (0.025, 0.975))
        percentiles += low <= volume(truth)[0] <= high
    assert 0.91 <= covered / 400 <= 0.98
    assert percentiles < covered
