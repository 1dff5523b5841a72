"""What tuning is worth: exact expectations, against all orders written out."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from benchmark.analysis.regret import numbers, regret

pytestmark = pytest.mark.no_torch


def table(scores, method="a"):
    rows = [("net", method, trial, score) for trial, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["backbone", "method", "trial", "score"])


@pytest.mark.parametrize(
    "scores", [[0.3], [0.1, 0.4], [0.2, 0.0, 0.5, 0.5, 0.3], [0.1, 0.9, 0.4, 0.4, 0.4, 0.7]]
)
def test_the_expectation_is_over_all_orders(scores):
    found = regret(table(scores)).set_index("trials")
    for drawn in numbers(len(scores)):
        best = np.array([max(order[:drawn]) for order in permutations(scores)])
        assert found.loc[drawn, "score"] == pytest.approx(best.mean())
        assert found.loc[drawn, "regret"] == pytest.approx(max(scores) - best.mean())
        for name, share in (("low", 0.1), ("high", 0.9)):
            quantile = np.quantile(best, share, method="inverted_cdf")
            assert found.loc[drawn, name] == pytest.approx(quantile)


def test_a_method_without_fields_loses_nothing():
    found = regret(table([0.4] * 8))
    assert list(found["trials"]) == [1, 2, 4, 8] and (found["regret"].abs() < 1e-12).all()


def test_more_trials_are_never_worse_and_groups_are_apart():
    random = np.random.default_rng(0)
    both = pd.concat([table(random.random(8)), table(random.random(8), "b")])
    found = regret(both)
    for _, own in found.groupby("method"):
        assert own["score"].is_monotonic_increasing
        assert own["regret"].iloc[-1] == pytest.approx(0)
    assert numbers(6) == [1, 2, 4, 6] and numbers(1) == [1]
