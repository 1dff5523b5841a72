"""The answer in words, against small tables whose answers are plain to see."""

import math

import pandas as pd
import pytest

from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.core.spec import load_suites
from benchmark.reporting.answers import (
    Finding,
    answer,
    answers,
    budgets,
    corrected_away,
    shortened,
)
from benchmark.results.timing_columns import TRAINING
from tests.helpers.records import frame, record

pytestmark = pytest.mark.no_torch


def table(rows, seeds=3):
    """Rows of (method, mIoU, stored bytes, training time as a ratio)."""
    return pd.DataFrame(
        {
            "method": [row[0] for row in rows],
            "metrics.miou": [row[1] for row in rows],
            "low": [row[1] - 0.01 for row in rows],
            "high": [row[1] + 0.01 for row in rows],
            "seeds": seeds,
            "costs.stored.bytes": [float(row[2]) for row in rows],
            TRAINING: [float(row[3]) for row in rows],
        }
    )


def grid(methods, status="done", seeds=3):
    return pd.DataFrame(
        {"benchmark": "b", "method": list(methods), "status": status, "seeds": seeds}
    )


def differences(*significant, among, low=-0.005, seeds_for_point=math.nan):
    names = sorted(among)
    return pd.DataFrame(
        [
            {"method_a": a, "method_b": b, "significant": {a, b} in [set(s) for s in significant]}
            | {"low": low, "high": 0.015, "seeds_for_point": seeds_for_point}
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
    )


FOUR = table(
    [
        ("big", 0.60, 9e6, 3.0),
        ("mid", 0.595, 9e5, 2.0),
        ("small", 0.57, 9e4, 1.5),
        ("tiny", 0.40, 9e3, 1.0),
    ]
)


def said_by(result):
    return {finding.label: (finding.methods, finding.text) for finding in result.findings}


def test_where_nothing_is_told_apart_it_says_how_many_seeds_would():
    what = "find a difference of 1 point between a typical pair of methods"
    learn = "To tell more apart, or learn how many seeds that takes, add 2 seeds: `run it`."
    for there, needed, text, more in (
        (5, 9.0, f"; about 9 seeds would {what}", ""),
        (5, 2.0, "; a difference of 1 point would most likely have shown", ""),
        (4, math.inf, f"; not even 100 seeds would {what} on so few test images", ""),
        (
            3,
            13.0,
            f"; about 13 seeds, roughly estimated from 3, would {what}",
            "2 more seeds narrow the intervals, but about 13 in all would be needed to find 1 "
            "point: `run it`.",
        ),
        (
            3,
            5.0,
            f"; about 5 seeds, roughly estimated from 3, would {what}",
            "To tell more apart, add 2 seeds: `run it`.",
        ),
        (3, math.inf, "", learn),
        (2, 4.0, "", learn),
        (2, math.inf, "", learn),
        (5, math.nan, "", ""),
    ):
        pairs = differences(("big", "tiny"), among=FOUR["method"], seeds_for_point=needed)
        status = grid(FOUR["method"], seeds=there)
        result = answer(FOUR.assign(seeds=there), pairs, status, "`run it`")
        names, said = said_by(result)["Not significantly worse than any method"]
        assert names == ("mid", "small") and said == f"mIoU 57.0 to 59.5{text}"
        assert list(result.caveats) == ([more] if more else [])


@pytest.mark.parametrize(
    ("low", "span"),
    [
        (-0.005, "between 0.5 points above and 1.5 below big"),
        (-0.0001, "0.0 to 1.5 points below big"),
    ],
)
def test_how_far_the_smallest_may_be_behind_is_told_without_signs(low, span):
    among = ["big", "small"]
    two = FOUR[FOUR["method"].isin(among)]
    said = said_by(answer(two, differences(among=among, low=low), grid(among)))
    label = "Smallest that may be as good"
    assert said[label][1] == (f"mIoU 57.0, {span} (not significant); 90.0 kB instead of 9.0 MB")
    # What the correction for the number of pairs takes back is told beside the table of pairs.
    assert said["Not significantly worse than any method"][1] == f"mIoU 57.0, {span}"


def test_what_holm_alone_takes_back_is_a_sentence_for_the_table_of_pairs():
    pairs = differences(("big", "tiny"), among=FOUR["method"], low=0.007)
    pairs = pairs.assign(benchmark="streets", p_holm=0.1)
    assert corrected_away(pairs).startswith(
        "In 5 pairs (such as big - mid on streets) the 95 % interval excludes 0, and the "
        "difference is still not significant"
    )
    assert corrected_away(pairs.assign(low=-0.01)) == ""
    assert corrected_away(pairs.assign(p_holm=math.nan)) == ""


def rounds(points, spread, others=0.0):
    """With the range of the training times over the rounds."""
    ends = {f"{TRAINING}.low": 1 - spread, f"{TRAINING}.high": 1 + spread}
    ranges = {name: points[TRAINING] * factor for name, factor in ends.items()}
    return points.assign(**ranges, **{"timing.others": others})


def test_a_method_is_the_fastest_only_where_the_measurement_tells():
    among = ["big", "mid", "small"]
    pairs, three = differences(among=among), FOUR[:3]
    label = "Fastest to train that may be as good"
    said = said_by(answer(rounds(three, 0.05), pairs, grid(among)))
    assert said[label][0] == ("small",)
    assert said[label][1].endswith("; 1.50x instead of 3.00x") and "Training times" not in said
    said = said_by(answer(rounds(three, 0.15), pairs, grid(among)))
    assert said[label][0] == ("small", "mid") and "do not differ clearly" in said[label][1]
    for unclear, why in (
        (
            rounds(three, 0.4),
            "do not differ clearly among small, mid, big (ranges over the rounds overlap)",
        ),
        (
            rounds(three, 0.05, others=0.6),
            "measured on a busy machine, so which method trains fastest is not told",
        ),
    ):
        result = answer(unclear, pairs, grid(among))
        said = said_by(result)
        assert label not in said and said["Training times"] == ((), why)


def test_who_is_best_who_is_as_good_and_which_of_them_is_cheapest():
    pairs = differences(
        ("big", "small"), ("big", "tiny"), ("mid", "tiny"), ("small", "tiny"), among=FOUR["method"]
    )
    result = answer(FOUR, pairs, grid(FOUR["method"]))
    said = said_by(result)
    assert said["Most accurate"] == (
        ("big",),
        "mIoU 60.0 (59.0 to 61.0); stores 9.0 MB per task, a training step takes 3.00x that of "
        "linear",
    )
    assert said["Not significantly worse than any method"] == (
        ("mid",),
        "mIoU 59.5, between 0.5 points above and 1.5 below big",
    )
    assert said["Smallest that may be as good"] == (
        ("mid",),
        "mIoU 59.5, between 0.5 points above and 1.5 below big (not significant); 900.0 kB "
        "instead of 9.0 MB",
    )
    assert result.caveats == ()


def test_one_whose_own_interval_is_below_the_best_is_not_called_as_good():
    pairs = differences(("mid", "tiny"), among=FOUR["method"])
    below = (pairs["method_a"] == "big") & pairs["method_b"].isin(["small", "tiny"])
    pairs.loc[below, ["low", "high"]] = 0.001, 0.06  # the correction made it not significant
    said = said_by(answer(FOUR, pairs, grid(FOUR["method"])))
    assert said["Not significantly worse than any method"][0] == ("mid", "small")
    assert said["Smallest that may be as good"][0] == ("mid",)


def test_a_winner_that_beats_all_is_told():
    pairs = differences(("big", "mid"), ("big", "small"), ("big", "tiny"), among=FOUR["method"])
    said = said_by(answer(FOUR, pairs, grid(FOUR["method"])))
    assert said["Ahead of all"][0] == ("big",)
    assert not [label for label in said if "as good" in label.lower()]


def test_one_seed_never_claims_a_difference():
    once = FOUR.assign(seeds=1)
    pairs = differences(("big", "mid"), ("big", "small"), among=FOUR["method"])
    result = answer(once, pairs, grid(FOUR["method"], seeds=1))
    assert result.caveats[0].startswith("One seed: differences between methods are not tested")
    labels = " ".join(said_by(result))
    assert "distinguishable" not in labels and "Ahead" not in labels
    assert said_by(result)["Within 1 point of it"][0] == ("mid",)


def test_some_methods_with_one_seed_are_told():
    mixed = FOUR.assign(seeds=[3, 3, 3, 1])
    assert (
        answer(mixed, None, grid(FOUR["method"], seeds=[3, 3, 3, 1]))
        .caveats[0]
        .startswith("Some results are from one seed:")
    )


def test_methods_with_one_seed_do_not_take_the_test_from_the_others():
    mixed = FOUR.assign(seeds=[3, 3, 1, 3])
    pairs = differences(("big", "tiny"), among=["big", "mid", "tiny"])
    result = answer(mixed, pairs, grid(FOUR["method"], seeds=[3, 3, 1, 3]))
    assert said_by(result)["Not significantly worse than any method"][0] == ("mid",)
    assert result.caveats == ("From one seed, so not tested: small.",)
    best_once = FOUR.assign(seeds=[1, 3, 3, 3])
    result = answer(best_once, pairs, grid(FOUR["method"], seeds=[1, 3, 3, 3]))
    assert said_by(result)["Within 1 point of it"][0] == ("mid",)
    assert result.caveats[0].startswith("Some results are from one seed: differences")


def test_budgets_name_the_best_that_fits():
    said = said_by(answer(FOUR, None, grid(FOUR["method"])))
    assert said["Under 10 kB per task"][0] == ("tiny",)
    assert said["Under 100 kB per task"][0] == ("small",)
    assert said["Under 1 MB per task"][0] == ("mid",)


def test_round_limits_separate_the_costs():
    assert budgets([30, 400]) == [50, 100, 200]
    assert budgets([0, 7]) == [] and budgets([]) == [] and budgets([float("nan")]) == []


def test_each_method_is_named_once_where_printed_scores_are_equal():
    tie = table([("a", 0.5001, 10, 1), ("b", 0.5002, 10, 1)])
    said = said_by(answer(tie, None, grid("ab")))
    assert said["Most accurate"][0] == ("b",) and said["Within 1 point of it"][0] == ("a",)


def test_a_rival_is_what_no_method_is_significantly_better_than():
    """Also where methods with better scores are: some vary more between seeds."""
    pairs = differences({"big", "mid"}, {"big", "tiny"}, among=FOUR["method"])
    said = said_by(answer(FOUR, pairs, grid(FOUR["method"])))
    assert said["Not significantly worse than any method"][0] == ("small",)
    pairs = differences({"mid", "small"}, {"big", "tiny"}, among=FOUR["method"])
    said = said_by(answer(FOUR, pairs, grid(FOUR["method"])))
    assert said["Not significantly worse than any method"][0] == ("mid",)
    pairs = differences({"big", "mid"}, {"mid", "small"}, {"big", "tiny"}, among=FOUR["method"])
    said = said_by(answer(FOUR, pairs, grid(FOUR["method"])))
    says = "significantly better than all but small, after Holm's correction"
    assert said["Ahead"] == (("big",), says)


def test_methods_that_are_not_ranked_are_counted():
    status = grid([*FOUR["method"], "late"])
    status.loc[4, "status"] = "missing"
    caveats = answer(FOUR, None, status).caveats
    assert any(text.startswith("1 method did not finish") for text in caveats)


def test_a_finding_is_a_sentence():
    short = Finding("Most accurate", ("a", "b"), "mIoU 60.0")
    assert str(short) == "Most accurate: a, b, mIoU 60.0."
    assert str(Finding("Within 1 point of it", ("a",), "mIoU 59.0", more=2)) == (
        "Within 1 point of it: a and 2 more, mIoU 59.0."
    )


def test_nothing_finished_is_said_plainly():
    empty = answer(FOUR.iloc[:0], None, grid("ab", status="failed"))
    assert empty.findings == () and empty.caveats == (
        "No run finished, so there is nothing to compare.",
    )
    assert "see the scores on each benchmark" in answer(FOUR.iloc[:0], None, grid("ab")).caveats[0]


def test_a_single_method_is_compared_with_nobody():
    result = answer(FOUR.iloc[:1], None, grid(["big"]))
    assert [finding.label for finding in result.findings] == ["The only finished method"]
    assert result.caveats == (
        "Only one method has finished, so there is nothing to compare it with.",
    )


def test_a_training_shorter_than_its_suite_says_so():
    steps = {"suite": "small", "protocol.steps": load_suites()["small"].protocol.steps}
    usual = frame([record()]).assign(**steps)
    assert shortened(Runs(usual)) == []
    short = Runs(usual.assign(**{"protocol.steps": 40}))
    (text,) = shortened(short)
    assert text.startswith("Trained for 40 of the usual 200 steps: ")
    (said,) = answers(short, assess(short, replicates=20)).values()
    assert text in said.caveats
    assert shortened(Runs(usual.assign(suite="of-somebody"))) == []
