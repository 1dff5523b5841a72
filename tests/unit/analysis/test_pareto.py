"""Fronts against brute force, fronts of replicates against those of points, areas by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.analysis.pareto import (
    bias_corrected,
    hypervolume,
    log_positions,
    pareto_front,
    reference_point,
)

pytestmark = pytest.mark.no_torch

FEW = st.integers(0, 4).map(float)


def brute_force(cost, score):
    """A point is on the front when no other is at least as good in both and better in one."""

    def beats(a, b):
        good = cost[a] <= cost[b] and score[a] >= score[b]
        return good and (cost[a] < cost[b] or score[a] > score[b])

    everyone = range(len(cost))
    return [not any(beats(a, b) for a in everyone) for b in everyone]


@pytest.mark.parametrize("seed", range(30))
def test_front_equals_brute_force(seed):
    # Few distinct values, so that ties in one or both coordinates are common.
    rng = np.random.default_rng(seed)
    cost, score = rng.integers(0, 6, 25), rng.integers(0, 6, 25)
    assert pareto_front(cost, score).tolist() == brute_force(cost, score)


def test_equal_points_are_both_on_the_front():
    assert pareto_front([1, 1, 2], [5, 5, 5]).tolist() == [True, True, False]


def test_missing_values_are_never_on_the_front_and_hide_nobody():
    nan, inf = float("nan"), float("inf")
    front = pareto_front([nan, 1, 2, inf, 3], [9, nan, 4, 9, inf])
    assert front.tolist() == [False, False, True, False, False]


def test_nothing_gives_nothing():
    assert pareto_front([], []).tolist() == []


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="equally long"):
        pareto_front([1, 2], [1])


def test_zero_cost_stands_left_of_all_others_on_a_log_axis():
    assert log_positions([0, 3, 30]).tolist() == [1, 3, 30]
    assert log_positions([0, 0]).tolist() == [1, 1]


@given(arrays(float, 6, elements=FEW | st.just(np.nan)), arrays(float, (6, 5), elements=FEW))
def test_every_replicate_has_the_front_of_its_points(costs, scores):
    found = pareto_front(costs, scores)
    for replicate in range(5):
        expected = pareto_front(costs, scores[:, replicate])
        assert (found[:, replicate] == expected).all()


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_hypervolume_by_hand():
    #  10: 0.5, 100: 0.4 (beaten), 1000: 0.7; the reference is (10,000, 0.2)
    costs, scores = np.array([100.0, 1000.0, 10.0]), column(0.4, 0.7, 0.5)
    area = hypervolume(np.log10(costs), scores, 4.0, np.array([0.2]))
    assert area == pytest.approx([3 * 0.3 + 1 * 0.2])


def test_what_is_outside_the_reference_adds_nothing():
    decades = np.array([5.0, 1.0])
    assert hypervolume(decades, column(0.9, 0.1), 4.0, np.array([0.2])) == pytest.approx([0])
    assert hypervolume(decades[:1], column(0.9), 4.0, np.array([0.2])) == pytest.approx([0])


def test_reference_is_found_by_the_numbers():
    costs, trained = np.array([90.0, 0.0, 9000.0]), np.array([5.0, 0.0, 800.0])
    decades, limit, floor = reference_point(costs, column(0.5, 0.3, 0.6), trained)
    assert decades == pytest.approx(np.log10([90, 30, 9000]))
    assert limit == pytest.approx(np.log10(9000)) and floor == pytest.approx([0.3])
    area = hypervolume(decades, column(0.5, 0.3, 0.6), limit, floor)
    assert area == pytest.approx([2 * 0.2])


@given(arrays(float, (5, 3), elements=st.floats(0, 1)), arrays(float, 5, elements=st.floats(0, 6)))
def test_hypervolume_equals_a_count_of_small_squares(scores, decades):
    limit, floor = 6.0, np.full(3, 0.25)
    x, y = (np.arange(300) + 0.5) / 50, (np.arange(300) + 0.5) / 300
    for replicate, area in enumerate(hypervolume(decades, scores, limit, floor)):
        own = scores[:, replicate]
        best = np.where(decades[:, None] <= x, own[:, None], 0).max(0)
        covered = (y[:, None] < best[None]) & (y[:, None] > 0.25)
        assert area == pytest.approx(covered.mean() * 6, abs=0.05)


def test_bias_corrected_interval_equals_percentiles_without_bias():
    replicates = np.linspace(-1, 1, 1001)
    low, high = bias_corrected(0.0, replicates)
    assert (low, high) == pytest.approx((-0.95, 0.95))


def test_bias_corrected_interval_moves_against_the_bias():
    random = np.random.default_rng(0)
    replicates = random.normal(0.5, 1, 20_000)  # too high by half a deviation
    low, high = bias_corrected(0.0, replicates)
    assert (low, high) == pytest.approx((-1.96 - 0.5, 1.96 - 0.5), abs=0.08)


def test_an_area_of_zero_has_an_interval_of_zero():
    assert bias_corrected(0.0, np.zeros(100)) == (0, 0)


def test_intervals_of_hypervolumes_cover_the_truth():
    # Four methods that are alike: the front of what is observed is higher than that of the truth.
    random = np.random.default_rng(0)
    costs = np.array([1e3, 1e4, 1e5, 1e6, 1e7])
    truth = column(0.5, 0.58, 0.58, 0.58, 0.58)

    def volume(scores: np.ndarray) -> np.ndarray:
        decades, limit, floor = reference_point(costs, scores, trained=costs)
        return hypervolume(decades, scores, limit, floor)

    covered, percentiles = 0, 0
    for _ in range(400):
        observed = truth + random.normal(0, 0.02, truth.shape)
        replicates = volume(observed + random.normal(0, 0.02, (5, 500)))
        low, high = bias_corrected(volume(observed)[0], replicates)
        covered += low <= volume(truth)[0] <= high
        low, high = np.quantile(replicates, (0.025, 0.975))
        percentiles += low <= volume(truth)[0] <= high
    assert 0.91 <= covered / 400 <= 0.98
    assert percentiles < covered
