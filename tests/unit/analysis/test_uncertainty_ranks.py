"""Ranks, ties, corrections and aggregates against scipy, published tables and hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.analysis.uncertainty import family, ranks, replicates
from benchmark.analysis.uncertainty.estimate import Estimate
from benchmark.analysis.uncertainty.ranks import open_ranks

pytestmark = pytest.mark.no_torch

SCORES = np.array(
    [
        [0.7, 0.6, 0.5],
        [0.8, 0.8, 0.1],
        [0.4, 0.5, 0.3],
        [0.9, 0.7, 0.2],
        [0.6, 0.5, 0.4],
    ]
)


def test_average_ranks_by_hand():
    assert ranks.average_ranks(SCORES) == pytest.approx([1.3, 1.7, 3.0])


def test_friedman_equals_scipy():
    expected = stats.friedmanchisquare(*SCORES.T)
    assert ranks.friedman(SCORES) == pytest.approx((expected.statistic, expected.pvalue))
    assert all(map(math.isnan, ranks.friedman(SCORES[:, :2])))
    assert all(map(math.isnan, ranks.friedman(SCORES[:1])))


# Demsar 2006, table 5a: q at 0.05 for 2 to 10 methods.
PUBLISHED = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]


@pytest.mark.parametrize(("methods", "q"), [*enumerate(PUBLISHED, start=2)])
def test_critical_difference_equals_the_published_table(methods, q):
    expected = q * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert ranks.critical_difference(methods, 14) == pytest.approx(expected, rel=4e-4)


def test_no_critical_difference_below_five_cells():
    assert ranks.critical_difference(4, 4) is None
    assert ranks.critical_difference(1, 9) is None
    assert ranks.critical_difference(4, 5) is not None


def test_cliques_equal_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs")
    random = np.random.default_rng(0)
    scores = random.random((12, 6)) + np.linspace(0, 0.9, 6)
    p = posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    average = dict(zip("abcdef", ranks.average_ranks(scores), strict=True))
    found = ranks.cliques(average, ranks.critical_difference(6, 12))
    together = {pair for row in found for pair in itertools.combinations(sorted(row), 2)}
    alike = {("abcdef"[i], "abcdef"[j]) for i in range(6) for j in range(i) if p[i, j] > 0.05}
    assert together == {tuple(sorted(pair)) for pair in alike}
    assert 0 < len(together) < 15


def test_cliques_by_hand():
    average = {"a": 1.0, "b": 1.8, "c": 2.6, "d": 4.5}
    assert ranks.cliques(average, 1.0) == [["a", "b"], ["b", "c"]]
    assert ranks.cliques(average, 2.0) == [["a", "b", "c"], ["c", "d"]]
    assert ranks.cliques(average, 9.0) == [["a", "b", "c", "d"]]
    assert ranks.cliques(average, 0.1) == []


def test_a_rank_is_what_the_tests_leave_open():
    means = {"d": 0.1, "a": 0.9, "b": 0.8, "c": 0.7, "e": 0.05}
    worse = {frozenset("ac"), frozenset("ae"), frozenset("be"), frozenset("ce")}
    # d differs from nothing, so it may have any place.
    assert open_ranks(means, worse) == [(1, 3), (1, 4), (2, 4), (1, 5), (4, 5)]
    assert open_ranks(means, set()) == [(1, 5)] * 5
    assert open_ranks(means, set(map(frozenset, itertools.combinations("abcde", 2)))) == [
        (place, place) for place in range(1, 6)
    ]
    assert open_ranks({}, set()) == []


def test_a_rank_does_not_depend_on_pairs_of_others():
    means = {"a": 0.9, "b": 0.8, "c": 0.7}
    assert open_ranks(means, {frozenset("ab")}) == [(1, 2), (2, 3), (1, 3)]
    assert open_ranks(means, {frozenset("bc")}) == [(1, 3), (1, 2), (2, 3)]


@given(st.sets(st.frozensets(st.sampled_from("abcdef"), min_size=2, max_size=2)))
def test_the_places_that_are_open_admit_the_order_of_means(worse):
    means = {name: -place for place, name in enumerate("abcdef")}
    for place, rank in enumerate(open_ranks(means, worse), start=1):
        assert 1 <= rank.first <= place <= rank.last <= 6


def closed_testing(p: list[float]) -> list[float]:
    """Holm's correction by its definition: the worst Bonferroni p of all families with the pair."""
    count = len(p)
    families = [
        chosen
        for size in range(1, count + 1)
        for chosen in itertools.combinations(range(count), size)
    ]
    return [
        max(min(1.0, len(f) * min(p[i] for i in f)) for f in families if own in f)
        for own in range(count)
    ]


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test(p):
    pairs = {(f"m{i}", f"n{i}"): [with_p(value)] for i, value in enumerate(p)}
    rows = family.table("one", pairs)
    assert [row["p"] for row in rows] == pytest.approx(p, abs=1e-6)
    assert [row["p_holm"] for row in rows] == pytest.approx(closed_testing(p), abs=1e-5)


def with_p(p: float) -> Estimate:
    """A difference with ten degrees of freedom that has this p."""
    return Estimate(float(stats.t.isf(p / 2, 10)), ((1.0, 10.0),), seeds=True, images=True)


def test_a_single_seed_is_never_significant_and_no_burden_to_others():
    single = Estimate(9.0, ((1e-9, 10.0),), seeds=False, images=True)
    rows = family.table("one", {("a", "b"): [single], ("a", "c"): [with_p(0.04)]})
    assert math.isnan(rows[0]["p"]) and math.isnan(rows[0]["p_holm"])
    assert not rows[0]["significant"] and rows[0]["covers"] == "images"
    assert rows[1]["p_holm"] == pytest.approx(0.04) and rows[1]["significant"]
    both = family.table("average", {("a", "b"): [single, with_p(0.001)]})
    assert not both[0]["significant"] and both[0]["benchmarks"] == 2


def test_averages_put_the_better_method_first():
    one = {("b", "a"): Estimate(0.1), ("a", "c"): Estimate(0.2)}
    two = {("a", "b"): Estimate(0.3)}
    found = family.averages([one, two])
    assert {pair: [e.value for e in ones] for pair, ones in found.items()} == {
        ("a", "b"): [-0.1, 0.3],
        ("a", "c"): [0.2],
    }


def test_interquartile_mean_by_hand():
    scores = [np.array([0.0, 0.9]), np.array([0.3, 0.4]), np.array([0.5, 0.6]), np.array([0.1, 1])]
    assert replicates.interquartile_mean(scores) == pytest.approx((0.3 + 0.4 + 0.5 + 0.6) / 4)


def test_interquartile_interval_follows_its_replicates():
    scores = [np.array([0.2, 0.3]), np.array([0.5, 0.6])]
    moved = [np.linspace(-0.1, 0.1, 1001)] * 2
    low, high = replicates.interquartile_interval(scores, moved)
    assert (low, high) == pytest.approx((0.4 - 0.095, 0.4 + 0.095))


def test_probability_of_improvement_equals_mann_whitney():
    random = np.random.default_rng(1)
    a, b = random.integers(0, 6, (2, 3, 7)) / 10
    expected = np.mean([stats.mannwhitneyu(x, y).statistic / 49 for x, y in zip(a, b, strict=True)])
    assert replicates.probability_of_improvement(a, b) == pytest.approx(expected)
    assert replicates.probability_of_improvement(a, a) == pytest.approx(0.5)
