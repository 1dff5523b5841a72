"""The sentences beside the tables: seeds, times."""

import pandas as pd
import pytest

from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.seed_notes import about_seeds, only_some
from benchmark.reporting.table_catalogue import report_tables
from benchmark.reporting.terms import used
from benchmark.reporting.timing_notes import conditions, explained
from tests.helpers.records import frame, grid, record, timed

pytestmark = pytest.mark.no_torch

ONE = "no interval over seeds (what is shown is over test images alone); 3 to 5 are usual"


def note(*counts):
    """Of (method, benchmark, seeds)."""
    made = [record(m, b, seed=seed) for m, b, count in counts for seed in range(count)]
    return about_seeds(Runs(frame(made)).cells)


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (1, f"1 seed: {ONE}."),
        (2, "2 seeds: the interval is wide; 3 to 5 are usual."),
        (3, "3 seeds of each method."),
    ],
)
def test_the_number_of_seeds_is_told_with_what_it_means(seeds, words):
    assert note(("a", "x", seeds), ("b", "x", seeds)) == words


def test_uneven_numbers_of_seeds_are_named():
    assert note(("a", "x", 3), ("a", "y", 1), ("b", "x", 3), ("b", "y", 1)) == (
        f"1 to 3 seeds: 3 on x, 1 on y. With 1 seed: {ONE}."
    )
    assert note(("a", "x", 3), ("b", "x", 2), ("c", "x", 2)) == (
        "2 to 3 seeds: a: 3; b and c: 2. With 2 seeds: the interval is wide; 3 to 5 are usual."
    )
    many = [(f"m{place}", "x", 1) for place in range(9)]
    assert "z: 3; m0, m1, m2, m3, m4 and 4 more: 1." in note(*many, ("z", "x", 3))


def test_where_nothing_is_finished_nothing_is_said_of_seeds():
    assert about_seeds(Runs(frame([record(status="failed", reason="x")])).cells) == ""


def test_a_table_of_some_of_the_finished_seeds_says_so():
    runs = frame(grid(["full", "linear"], 5, ["camvid"]))
    some = runs[runs["seed"] > 2]
    assert only_some(some, runs) == "Of seeds 3 and 4 alone; 5 seeds are finished"
    assert only_some(runs, runs) == only_some(some, some) == ""
    # Other methods than those shown do not count.
    assert only_some(some[some["method"] == "full"], runs[runs["seed"] > 2]) == ""


def test_a_load_is_called_a_load():
    runs = timed(grid(["full", "linear"], 1, ["camvid"]))
    assert "under load" not in explained(Runs(runs))
    loaded = explained(Runs(runs.assign(**{"timing.others": 0.3})))
    assert "under load: 30 %" in loaded
    assert "without other load, run `python -m benchmark timing --suite small` with the" in loaded
    assert conditions(runs) == "1 thread, fp32, Some CPU, 2 cores"
    assert conditions(frame(grid(["full"], 1, ["camvid"]))) == ""


def test_tables_say_with_what_groups_were_timed_where_it_differs():
    one = grid(["full", "linear"], 1, ["camvid"])
    both = timed([*one, *(item.model_copy(update={"backbone": "other"}) for item in one)])

    def heads(runs: pd.DataFrame) -> dict[str, list[str]]:
        table = Runs(runs.assign(folder=""))
        inputs = ReportInputs("t", table, assess(table, replicates=10))
        return {
            one.stem: [column.header for column in one.columns] for one in report_tables(inputs)
        }

    alike = heads(both)
    assert alike["leaderboard"][0] == "Group" and "Timed with" not in alike["leaderboard"]
    both.loc[both["backbone"] == "other", "timing.threads"] = 2
    apart = heads(both)
    assert "Timed with" in apart["leaderboard"] and "Timed with" in apart["cost_ledger"]
    assert "Timed with" not in apart["storage"]


def test_only_terms_that_a_text_has_are_explained():
    assert list(used("Two seeds on the Pareto front. IQMs?")) == ["seed", "IQM", "Pareto front"]
    assert list(used("iqm, stored, Stored, seedling")) == ["Stored"]


def test_one_benchmark_has_no_average():
    def tables(benchmarks):
        runs = Runs(frame(grid(["full", "linear"], 2, benchmarks)).assign(folder=""))
        made = report_tables(ReportInputs("t", runs, assess(runs, replicates=10)))
        return {one.stem: one.frame for one in made}

    alone, two = tables(["camvid"]), tables(["camvid", "pets"])
    for stem in ("pairs", "fronts"):
        assert set(alone[stem]["benchmark"]) == {"camvid"}
        assert set(two[stem]["benchmark"]) == {"average", "camvid", "pets"}
    assert "average" in two["per_benchmark"] and "average" not in alone["per_benchmark"]
