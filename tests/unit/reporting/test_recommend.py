"""Which method is recommended, on results whose truth is known."""

import dataclasses
import functools

import pytest

from benchmark.analysis.costs import STORED
from benchmark.analysis.limits import parse_limit
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.cli.recommend import _taken
from benchmark.reporting.recommend import NOT_MEASURED, UNFINISHED, recommend
from benchmark.results.timing_columns import LATENCY
from tests.helpers.records import frame, grid, record, timed
from tests.helpers.simulated import World, write_grid

pytestmark = pytest.mark.no_torch

METHODS = ("alpha", "beta", "gamma")
"""Each is better than the one before, and stores more."""


def advised(runs, *limits, benchmark=None, prefer="accurate"):
    parsed = [parse_limit(*limit) for limit in limits]
    return recommend(runs, assessed(runs), parsed, benchmark, prefer)


@functools.cache
def assessed(runs):
    return assess(runs, replicates=50)


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """Three seeds and large differences: every pair is told apart."""
    root = tmp_path_factory.mktemp("clear")
    calm = World(classes=3, seed=0.02, interaction=0.05)
    return Runs(write_grid(root, METHODS, images=15, world=calm, step=0.6), root)


@pytest.fixture(scope="module")
def close(tmp_path_factory):
    """Three seeds and no difference at all."""
    root = tmp_path_factory.mktemp("close")
    return Runs(write_grid(root, METHODS, images=15, world=World(classes=3), step=0.0), root)


def test_the_best_is_taken_where_it_is_told_apart(clear):
    (one,) = advised(clear)
    assert (one.best["method"], one.rivals, one.tested) == ("gamma", ("gamma",), True)
    assert one.difference is None and one.benchmark is None and not one.excluded
    assert one.best["low"] < one.best["metrics.miou"] < one.best["high"]


def test_of_those_that_are_not_told_apart_the_smallest_may_be_taken_with_its_loss(close):
    (one,) = advised(close, prefer="small")
    assert set(one.rivals) == set(METHODS) and one.tested
    assert one.best["method"] == "alpha"
    pairs = assessed(close).pairs
    if one.rivals[0] == "alpha":
        assert one.difference is None
    else:
        row = pairs[
            (pairs["benchmark"] == "average")
            & (pairs["method_a"] == one.rivals[0])
            & (pairs["method_b"] == "alpha")
        ].iloc[0]
        assert dataclasses.astuple(one.difference) == tuple(row[["difference", "low", "high"]])


def test_the_most_accurate_is_taken_unless_the_smallest_is_asked_for(close):
    top = close.leaderboard.sort_values("metrics.miou")["method"].iloc[-1]
    for limits in ((("stored", "1GB"),), ()):
        (one,) = advised(close, *limits)
        assert one.best["method"] == one.rivals[0] == top and one.difference is None
        assert _taken(one).endswith("the most accurate; 2 more are not significantly worse")
    (one,) = advised(close, ("stored", "1GB"), prefer="small")
    assert one.best["method"] == "alpha"


def test_where_one_method_has_finished_the_headline_says_so(clear):
    alone = Runs(frame(grid(["spm"])))
    (one,) = advised(alone)
    assert _taken(one).startswith(
        "only spm has finished, so there is nothing to compare it with: mIoU "
    )
    # That limits leave one is another matter.
    sizes = clear.leaderboard.set_index("method")[STORED]
    (one,) = advised(clear, ("stored", f"{int(sizes['alpha'])}B"))
    assert list(one.rivals) == ["alpha"] and one.finished == 3 and _taken(one).startswith("take ")
    assert one.findings[0].label == "The only method within the limits"
    (one,) = advised(alone)
    assert one.findings[0].label == "The only finished method"


def test_a_limit_leaves_methods_out_and_says_what_they_cost(clear):
    sizes = clear.leaderboard.set_index("method")[STORED]
    between = f"{int((sizes['beta'] + sizes['gamma']) / 2)}B"
    (one,) = advised(clear, ("stored", between))
    assert one.best["method"] == "beta"
    (left_out,) = one.excluded.items()
    assert left_out[0] == f"--max-stored {between}" and list(left_out[1]) == ["gamma"]


def test_no_method_fits_and_the_nearest_is_named(clear):
    (one,) = advised(clear, ("stored", "10B"))
    assert one.best is None and one.nearest.text.startswith("alpha, stored ")
    sizes = clear.leaderboard.set_index("method")[STORED]
    assert one.nearest.times == pytest.approx(sizes["alpha"] / 10)
    (unmeasured,) = advised(clear, ("latency", "2x"))
    assert unmeasured.nearest.text == f"--max-latency 2x: {NOT_MEASURED}"


def test_one_benchmark_counts_alone_where_it_has_runs(clear):
    (one,) = advised(clear, benchmark="two")
    assert one.benchmark == "two"
    scores = clear.cells.set_index(["benchmark", "method"])["metrics.miou"]
    assert one.best["metrics.miou"] == scores["two", one.best["method"]]
    (other,) = advised(clear, benchmark="mine")
    assert other.benchmark is None and other.benchmarks == ("one", "two")


def test_one_seed_is_not_a_test():
    runs = Runs(frame(grid(["linear", "lora[rank=4]", "spm", "full"])))
    (one,) = advised(runs, prefer="small")
    assert not one.tested and one.best["method"] != "full"
    assert any("not tested" in caveat for caveat in one.caveats)


def test_seeds_that_some_methods_lack_are_said_with_who_leads_on_the_others():
    cells = [("linear", 0, 0.70), ("linear", 1, 0.90), ("spm", 0, 0.75), ("lora", 0, 0.72)]
    table = [record(method, "pets", seed=seed, miou=miou) for method, seed, miou in cells]
    (one,) = advised(Runs(frame(table)))
    assert one.best["method"] == "linear"
    said = "on the 1 seed that all have, spm leads (mIoU 75.0; lora 72.0)."
    assert any(caveat.endswith(said) for caveat in one.caveats), one.caveats
    (even,) = advised(Runs(frame([one for one in table if one.seed == 0])))
    assert not any("seeds than others" in caveat for caveat in even.caveats)
    # Seed 1 of linear alone, so that no seed is shared.
    (apart,) = advised(Runs(frame(table[1:])))
    assert any("no seed is shared by all" in caveat for caveat in apart.caveats)


def test_what_is_not_finished_or_not_measured_is_left_out():
    done = [*grid(["linear", "spm"], seeds=2), record("lora", "camvid", miou=0.9)]
    table = timed(done)
    table.loc[table["method"] == "spm", [LATENCY, "timing.latency.seconds"]] = float("nan")
    (one,) = advised(Runs(table), ("latency", "1s"))
    assert one.best["method"] == "linear"
    assert one.excluded == {
        UNFINISHED: {"lora": ""},
        "--max-latency 1s": {"spm": NOT_MEASURED},
    }


def test_groups_are_answered_apart(tmp_path):
    table = write_grid(tmp_path, METHODS, backbones=("net", "other"), images=10)
    assert {one.key[0] for one in advised(Runs(table, tmp_path))} == {"net", "other"}
