"""The one entry: whole tables from whole grids, their gaps, and the cache."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.pareto import pareto_front
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment, assess
from benchmark.analysis.uncertainty.ranks import open_ranks
from tests.helpers.records import frame, grid, record
from tests.helpers.simulated import World, write_grid

pytestmark = pytest.mark.no_torch

METHODS = ["alpha", "beta", "gamma", "delta"]
BENCHMARKS = ["one", "two", "three", "four", "five"]
FRAMES = [field.name for field in dataclasses.fields(Assessment) if field.name != "notes"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    """Four methods, the later the better, on five benchmarks, with two backbones."""
    root = tmp_path_factory.mktemp("results")
    world = World(seed=0.1)
    return write_grid(root, METHODS, BENCHMARKS, ["net", "other"], 3, 20, world, 0.4), root


@pytest.fixture(scope="module")
def found(stored: tuple[pd.DataFrame, Path]) -> Assessment:
    return assess(Runs(*stored), replicates=300)


def same(a: Assessment, b: Assessment) -> None:
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)
    assert a.notes == b.notes


def test_every_table_starts_with_its_group(found):
    for name in FRAMES:
        assert list(getattr(found, name).columns[:3]) == GROUP
        assert len(getattr(found, name)) or name == "shared", name


def test_cells_and_board_have_the_means_of_the_statistics(stored, found):
    keys = [*GROUP, "benchmark", "method"]
    both = found.cells.merge(Runs(stored[0]).cells, on=keys, suffixes=("", "_plain"))
    assert len(both) == 40
    assert both["metrics.miou"].to_numpy() == pytest.approx(both["metrics.miou_plain"])
    assert (both["low"] < both["metrics.miou"]).all() and (both["high"] <= 1).all()
    assert set(found.cells["covers"]) == {"seeds and images"}
    assert set(found.cells["images"]) == {20} and set(found.cells["seeds"]) == {3}
    plain = Runs(stored[0]).leaderboard
    assert found.board["method"].tolist() == plain["method"].tolist()
    assert found.board["metrics.miou"].to_numpy() == pytest.approx(plain["metrics.miou"])
    assert set(found.board["complete"]) == {"5/5"}


def test_better_methods_rank_higher_where_the_difference_is_clear(found):
    board = found.board[found.board["backbone"] == "net"]
    assert board["method"].tolist() == METHODS[::-1]
    assert board["rank"].tolist() == [1, 2, 3, 4]
    average = found.pairs[(found.pairs["benchmark"] == "average")]
    assert average["significant"].all() and (average["difference"] > 0).all()
    assert (average["benchmarks"] == 5).all()


def test_intervals_of_an_average_are_narrower(found):
    average = found.pairs["benchmark"] == "average"
    width = found.pairs["high"] - found.pairs["low"]
    assert width[average].mean() < width[~average].mean()


def test_holm_is_over_the_pairs_of_one_benchmark_and_group(found):
    for _, family in found.pairs.groupby([*GROUP, "benchmark"]):
        assert len(family) == 6
        smallest = family.loc[family["p"].idxmin()]
        assert smallest["p_holm"] == pytest.approx(min(1, 6 * smallest["p"]))
        largest = family.loc[family["p"].idxmax()]
        assert largest["p_holm"] >= largest["p"]


def test_ranks_and_friedman(stored, found):
    runs = stored[0]
    runs = runs[runs["backbone"] == "net"]
    table = runs.groupby(["benchmark", "method"])["metrics.miou"].mean().unstack()
    expected = stats.friedmanchisquare(*table.to_numpy().T)
    row = found.friedman.set_index("backbone").loc["net"]
    assert (row["statistic"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    # Demsar 2006: q of four methods at 5 % is 2.569
    assert row["critical_difference"] == pytest.approx(2.569 * math.sqrt(4 * 5 / 30), rel=1e-3)
    ranks = found.ranks[found.ranks["backbone"] == "net"]
    expected = (5 - table.rank(axis=1)).mean()[ranks["method"]]
    assert ranks["average_rank"].to_numpy() == pytest.approx(expected)
    assert set(found.cliques["backbone"]) <= {"net", "other"}


def of_kind(found: Assessment, kind: str) -> list[dict[str, Any]]:
    return found.agreement[found.agreement["kind"] == kind].to_dict("records")


def test_benchmarks_agree_as_kendall_says(stored, found):
    rows = [row for row in of_kind(found, "benchmark") if row["backbone"] == "net"]
    runs = stored[0][stored[0]["backbone"] == "net"]
    means = runs.groupby(["method", "benchmark"])["metrics.miou"].mean().unstack()
    assert len(rows) == 10  # pairs of five
    for row in rows:
        expected = stats.kendalltau(means[row["a"]], means[row["b"]])
        assert (row["tau"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))


def test_published_tables_agree_as_kendall_says(found):
    means = found.board[found.board["backbone"] == "net"].set_index("method")["metrics.miou"]
    names = list(means.index)
    paper = {"source": "Paper", "backbone": "ViT-L", "benchmark": "ade20k"}
    published = pd.DataFrame(
        [{**paper, "label": name, "miou": 0.1 * i} for i, name in enumerate(names)]
        + [{**paper, "label": "", "miou": 0.9}, {**paper, "source": "Two", "label": names[0]}]
    )
    rows = of_kind(found.beside(published), "published")
    (row,) = (row for row in rows if row["backbone"] == "net")
    expected = stats.kendalltau(means, range(len(names)))
    assert (row["tau"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (row["a"], row["b"]) == ("net", "Paper, ViT-L on ade20k")
    assert (row["methods"], row["benchmarks"]) == (len(names), 0)


def test_backbones_agree_as_kendall_says(found):
    (row,) = of_kind(found, "backbone")
    means = found.board.pivot(index="method", columns="backbone", values="metrics.miou")
    expected = stats.kendalltau(means["net"], means["other"])
    assert (row["tau"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (row["kind"], row["a"], row["b"], row["backbone"]) == ("backbone", "net", "other", "")
    assert (row["methods"], row["benchmarks"]) == (4, 5)


def with_decoders(runs: pd.DataFrame, **second: object) -> pd.DataFrame:
    changes = {"protocol.decoder": "wide", "protocol_hash": "abc", **second}
    return pd.concat([runs.assign(**{"protocol.decoder": "plain"}), runs.assign(**changes)])


def test_decoders_are_compared_where_nothing_else_differs(stored):
    runs = stored[0][stored[0]["backbone"] == "net"]
    (row,) = of_kind(assess(Runs(with_decoders(runs), stored[1]), replicates=20), "decoder")
    names = {"plain", "wide"}
    assert row["kind"] == "decoder" and {row["a"], row["b"]} == names and row["tau"] == 1
    assert row["protocol_hash"] == "" and row["backbone"] == "net"
    other = with_decoders(runs, **{"protocol.steps": 9})
    assert not of_kind(assess(Runs(other, stored[1]), replicates=20), "decoder")


def test_fronts_are_those_of_the_means_and_probabilities_are_shares(stored, found):
    table = Runs(stored[0]).cells
    fronts = found.fronts[found.fronts["cost"] == "costs.params.total_trainable"]
    assert found.fronts["probability"].between(0, 1).all()
    # What a run took depends on what ran beside it.
    assert not set(found.fronts["cost"]) & {"costs.train.seconds", "costs.infer.latency_ms_p50"}
    for (backbone, benchmark), part in fronts.groupby(["backbone", "benchmark"]):
        if benchmark != "average":
            here = table[(table["backbone"] == backbone) & (table["benchmark"] == benchmark)]
            expected = pareto_front(here["costs.params.total_trainable"], here["metrics.miou"])
            assert (part["on_front"].to_numpy() == expected).all()
    # The best of all by far, and the cheapest, are on every front.
    sure = fronts[fronts["method"].isin(["alpha", "delta"]) & (fronts["benchmark"] == "average")]
    assert (sure["probability"] > 0.95).all()


def test_hypervolume_grows_with_every_method(found):
    both = found.own_hypervolumes.merge(found.hypervolumes, on=[*GROUP, "cost"])
    assert (both["value_x"] <= both["value_y"] + 1e-12).all()
    assert (found.hypervolumes["low"] <= found.hypervolumes["high"]).all()
    alone = found.own_hypervolumes
    assert (alone.loc[alone["method"] == "alpha", "value"] == 0).all()  # it is the reference


def test_improvement_and_iqm_of_complete_methods(found):
    assert len(found.improvement) == 12 and (found.improvement["probability"] > 0.5).all()
    assert (found.iqm["cells"] == 15).all()
    assert (found.iqm["low"] < found.iqm["iqm"]).all() and (
        found.iqm["iqm"] < found.iqm["high"]
    ).all()


def test_order_of_runs_and_other_methods_do_not_matter(stored, found):
    runs, root = stored
    same(found, assess(Runs(runs.sample(frac=1, random_state=1), root), replicates=300))
    fewer = assess(Runs(runs[runs["method"] != "beta"], root), replicates=300)
    keys = [*GROUP, "benchmark", "method"]
    both = fewer.cells.merge(found.cells, on=keys)
    assert both["low_x"].to_numpy() == pytest.approx(both["low_y"], abs=1e-6)


def test_one_seed_calls_nothing(stored):
    runs, root = stored
    found = assess(Runs(runs[runs["seed"] == 0], root), replicates=50)
    assert set(found.cells["covers"]) == {"images"} and found.cells["low"].notna().all()
    assert found.pairs["p"].isna().all() and not found.pairs["significant"].any()
    assert found.pairs["low"].notna().all()
    assert set(found.board["rank"]) == {1}
    assert any("one seed" in line for line in found.notes)


def test_an_incomplete_method_stands_below_without_rank(stored):
    runs, root = stored
    gone = (runs["method"] == "delta") & (runs["benchmark"] == "two")
    failed = (runs["method"] == "gamma") & (runs["benchmark"] == "one") & (runs["seed"] == 1)
    runs = runs.assign(status=runs["status"].where(~failed, "diverged"))[~gone]
    found = assess(Runs(runs, root), replicates=50)
    board = found.board[found.board["backbone"] == "net"]
    assert board["method"].tolist() == ["beta", "alpha", "delta", "gamma"]
    assert board["rank"].isna().tolist() == [False, False, True, True]
    assert board["complete"].tolist() == ["5/5", "5/5", "4/5", "4/5"]
    assert board["metrics.miou"].isna().tolist() == [False, False, True, True]
    broken = found.cells[(found.cells["method"] == "gamma") & (found.cells["benchmark"] == "one")]
    assert broken["metrics.miou"].isna().all() and set(broken["covers"]) == {"nothing"}
    pairs = found.pairs.set_index(["backbone", "benchmark", "method_a", "method_b"])
    assert pairs.loc[("net", "average", "delta", "gamma"), "benchmarks"] == 3
    assert set(found.ranks["method"]) == {"alpha", "beta"}
    assert set(found.iqm["method"]) == {"alpha", "beta"}


def test_lost_counts_are_named_and_seeds_still_count(stored, tmp_path):
    runs, root = stored
    lost = (runs["method"] == "beta") & (runs["benchmark"] == "one") & (runs["backbone"] == "net")
    found = assess(
        Runs(runs.assign(folder=runs["folder"].mask(lost, "nowhere")), root), replicates=50
    )
    row = found.cells[found.cells["low"].notna()].set_index(["backbone", "benchmark", "method"])
    assert row.loc[("net", "one", "beta"), "covers"] == "seeds"
    assert row.loc[("net", "one", "beta"), "images"] == 0
    assert row.loc[("net", "one", "alpha"), "covers"] == "seeds and images"
    (line,) = [line for line in found.notes if "not resampled" in line]
    assert line.startswith("net, one: ") and "beta seed 0 (no images.npz)" in line
    assert (
        assess(Runs(runs.assign(folder=""), tmp_path), replicates=50)
        .cells["covers"]
        .eq("seeds")
        .all()
    )


def test_made_up_records_without_any_counts():
    found = assess(Runs(frame(grid(seeds=3)), Path("nowhere")), replicates=50)
    assert set(found.cells["covers"]) == {"seeds"} and len(found.board) == 14
    found = assess(Runs(frame(grid(seeds=1)), Path("nowhere")), replicates=50)
    assert set(found.cells["covers"]) == {"nothing"} and found.cells["low"].isna().all()
    assert found.fronts["probability"].isna().all() and found.fronts["on_front"].any()
    assert found.iqm["low"].isna().all() and found.hypervolumes["low"].isna().all()


def test_nothing_and_only_failures():
    assert assess(Runs(frame([]), Path("nowhere"))).board.empty
    found = assess(Runs(frame([record(status="failed", reason="why")]), Path("nowhere")))
    assert found.cells["metrics.miou"].isna().all() and found.board["rank"].isna().all()
    assert found.pairs.empty and found.fronts.empty


@pytest.fixture
def small(tmp_path: Path) -> tuple[pd.DataFrame, Path]:
    return write_grid(tmp_path / "results", ["alpha", "beta"], ["one"], images=8), tmp_path


def edited(cache: Path) -> None:
    """Marks the kept tables, to tell whether they are used."""
    content = json.loads(cache.read_bytes())
    content["notes"] = ["kept"]
    cache.write_text(json.dumps(content))


def test_cache_gives_the_same_bit_for_bit(small):
    runs, folder = small
    cache = folder / "new" / "kept.json"
    fresh = assess(Runs(runs, folder / "results"), cache, 50)
    same(fresh, assess(Runs(runs, folder / "results"), cache, 50))
    edited(cache)
    assert assess(Runs(runs, folder / "results"), cache, 50).notes == ["kept"]


@pytest.mark.parametrize("change", ["counts", "record", "label", "replicates", "runs"])
def test_cache_is_left_when_anything_changes(small, change):
    runs, folder = small
    cache, replicates = folder / "kept.json", 50
    assess(Runs(runs, folder / "results"), cache, replicates)
    edited(cache)
    if change == "counts":
        path = folder / "results" / runs["folder"][1] / "images.npz"
        path.write_bytes(path.read_bytes() + b" ")
    elif change == "record":
        runs.loc[0, "metrics.miou"] += 1e-9
    elif change == "label":
        runs.loc[:2, "method"] = "aleph"
    elif change == "replicates":
        replicates = 60
    else:
        runs = runs.drop(index=5)
    assert assess(Runs(runs, folder / "results"), cache, replicates).notes != ["kept"]


@pytest.mark.parametrize("size", [0, 1, 200, -1])
def test_torn_cache_is_made_anew(small, size):
    runs, folder = small
    cache = folder / "kept.json"
    fresh = assess(Runs(runs, folder / "results"), cache, 50)
    whole = cache.read_bytes()
    cache.write_bytes(whole[:size])
    same(fresh, assess(Runs(runs, folder / "results"), cache, 50))
    assert cache.read_bytes() == whole


@pytest.mark.parametrize("content", ["[]", "null", '{"key": 1}'])
def test_foreign_cache_is_made_anew(small, content):
    runs, folder = small
    cache = folder / "kept.json"
    cache.write_text(content)
    assert len(assess(Runs(runs, folder / "results"), cache, 50).board) == 2


def test_cache_with_foreign_tables_is_made_anew(small):
    runs, folder = small
    cache = folder / "kept.json"
    fresh = assess(Runs(runs, folder / "results"), cache, 50)
    for tables in ({}, [], {"cells": 1}, {"cells": {"a": {"dtype": "nonsense", "values": [1]}}}):
        content = json.loads(cache.read_bytes()) | {"tables": tables}
        cache.write_text(json.dumps(content))
        same(fresh, assess(Runs(runs, folder / "results"), cache, 50))


def test_cache_that_cannot_be_written_is_named(small):
    runs, folder = small
    (folder / "file").write_text("")
    found = assess(Runs(runs, folder / "results"), folder / "file" / "kept.json", 50)
    assert "cannot be written" in found.notes[-1] and len(found.board) == 2


def test_same_numbers_in_another_process(small):
    runs, folder = small
    expected = assess(Runs(runs, folder / "results"), replicates=50).cells["low"].tolist()
    runs.to_pickle(folder / "runs.pkl")
    code = (
        "import sys, pandas as pd; from pathlib import Path;"
        "from benchmark.analysis.runs import Runs;"
        "from benchmark.analysis.uncertainty import assess;"
        f"runs = pd.read_pickle(r'{folder / 'runs.pkl'}');"
        f"table = Runs(runs, Path(r'{folder / 'results'}'));"
        "print(assess(table, replicates=50).cells['low'].tolist());"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.array(json.loads(done.stdout)) == pytest.approx(expected, abs=0)


def test_ranks_of_a_benchmark_follow_the_tests_on_it(stored, found):
    for key, part in found.cells.groupby([*GROUP, "benchmark"]):
        here = (found.pairs[[*GROUP, "benchmark"]] == list(key)).all(axis=1)
        pairs = found.pairs[here & found.pairs["significant"]]
        apart = {frozenset(pair) for pair in pairs[["method_a", "method_b"]].to_numpy()}
        means = dict(zip(part["method"], part["metrics.miou"], strict=True))
        order = sorted(means, key=lambda name: (-means[name], name))
        ranks = dict(zip(order, open_ranks(means, apart), strict=True))
        found_ranks = zip(part["rank"], part["rank_to"], strict=True)
        assert dict(zip(part["method"], found_ranks, strict=True)) == ranks
    assert found.cells["rank"].max() > 1


def test_what_every_method_finished_has_ranks_of_its_own(stored):
    runs, root = stored
    runs = runs[runs["backbone"] == "net"]
    first, *others = sorted(runs["benchmark"].unique())
    lost = (runs["benchmark"] == first) & (runs["method"] == "beta")
    found = assess(Runs(runs[~lost], root), replicates=50)
    assert found.board.set_index("method")["rank"].isna()["beta"]
    shared = found.shared.set_index("method")
    assert shared["rank"].notna().all() and set(shared.index) == set(runs["method"])
    alone = assess(Runs(runs, root).over(others), replicates=50).board.set_index("method")
    assert shared["metrics.miou"].to_dict() == alone["metrics.miou"].to_dict()
    assert shared["rank"].to_dict() == alone["rank"].to_dict()
    assert len(alone) == len(shared) > 2


def test_no_ranks_apart_where_every_method_finished_everything(found):
    assert found.shared.empty
