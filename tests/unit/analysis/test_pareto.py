import numpy as np
import pytest

from benchmark.analysis.pareto import log_positions, pareto_front

pytestmark = pytest.mark.no_torch


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
