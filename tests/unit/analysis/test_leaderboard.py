import math

import pandas as pd
import pytest
from scipy import stats

from benchmark.analysis.leaderboard import (
    GROUP,
    ppt,
    t_interval,
)
from benchmark.analysis.runs import Runs
from benchmark.core.record import Record
from benchmark.results.load import load_results
from tests.helpers.records import frame, grid, record, write

pytestmark = pytest.mark.no_torch


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("method")


def two_benchmarks(method: str, first: float, second: float, **more):
    return [
        record(method, "camvid", miou=first, **more),
        record(method, "pets", miou=second, **more),
    ]


def test_ppt_by_hand():
    assert ppt(0.5, 0) == 0.5
    assert ppt(0.5, 9e7) == pytest.approx(0.5 * math.exp(-1))


def test_t_interval_equals_scipy():
    sample = [0.41, 0.44, 0.40, 0.47]
    low, high = stats.t.interval(0.95, 3, loc=0.43, scale=stats.sem(sample))
    assert t_interval(sample) == pytest.approx((high - low) / 2)
    assert math.isnan(t_interval([0.4]))


def test_mean_over_benchmarks_of_mean_over_seeds():
    # Three seeds on one benchmark and one on the other: each benchmark weighs the same.
    records = [record("a", "camvid", miou=value, seed=seed) for seed, value in enumerate((3, 5, 7))]
    board = Runs(frame([*records, record("a", "pets", miou=1)])).leaderboard
    assert board["metrics.miou"].tolist() == [3.0]
    assert board["seeds"].tolist() == [1]
    assert board["ci95"].isna().all()


def test_interval_is_over_the_means_of_the_seeds():
    records = [
        *two_benchmarks("a", 0.4, 0.6, seed=0),
        *two_benchmarks("a", 0.5, 0.7, seed=1),
        *two_benchmarks("a", 0.5, 0.6, seed=2),
    ]
    board = Runs(frame(records)).leaderboard
    assert board.loc[0, "ci95"] == pytest.approx(t_interval([0.5, 0.6, 0.55]))
    assert board.loc[0, "seeds"] == 3


def test_the_best_mean_comes_first_and_equal_ones_by_name():
    values = {"b": 0.45, "a": 0.45, "c": 0.4, "d": 0.6}
    board = Runs(frame([record(name, miou=value) for name, value in values.items()])).leaderboard
    assert board["method"].tolist() == ["d", "a", "b", "c"]


def test_incomplete_method_is_shown_without_a_mean():
    runs = frame([*two_benchmarks("a", 0.4, 0.5), record("b", "camvid", miou=0.9)])
    board = by_method(Runs(runs).leaderboard)
    assert board["complete"].to_dict() == {"a": "2/2", "b": "1/2"}
    assert math.isnan(board.loc["b", "metrics.miou"])
    table = by_method(Runs(runs).per_benchmark)
    assert table.loc["b", "camvid"] == 0.9
    assert math.isnan(table.loc["b", "pets"]) and math.isnan(table.loc["b", "average"])


def test_a_failed_seed_takes_the_cell_out_of_the_ranking():
    records = [record("a", seed=0), record("a", seed=1, status="failed", reason="NaN loss")]
    board = Runs(frame([*records, record("b", miou=0.1)])).leaderboard
    assert board["method"].tolist() == ["b", "a"]
    assert pd.isna(board.loc[1, "metrics.miou"])
    assert Runs(frame(records)).cells["status"].tolist() == ["failed (1 of 2 seeds)"]


def test_a_seed_that_was_interrupted_has_not_run_yet():
    stopped = {"status": "interrupted", "reason": "stopped by a signal"}
    records = [record("a", miou=0.5, seed=0), record("a", seed=1, **stopped)]
    found = Runs(frame([*records, record("b", seed=0, **stopped)]))
    assert found.cells["status"].tolist() == ["done", "interrupted"]
    assert found.cells["seeds"].tolist() == [1, 0]
    assert found.leaderboard["metrics.miou"].tolist()[0] == 0.5


@pytest.mark.parametrize(
    "change", [{"backbone": "resnet18"}, {"weights": "none"}, {"protocol_hash": "other"}]
)
def test_different_backbones_weights_and_protocols_stand_apart(change):
    runs = frame([record("a", miou=0.4), record("b", miou=0.5), record("a", miou=0.9, **change)])
    board = Runs(runs).leaderboard
    groups = [part["method"].tolist() for _, part in board.groupby(GROUP)]
    assert sorted(groups) == [["a"], ["b", "a"]]
    assert len(Runs(runs).groups) == 2


def test_costs_are_averaged_and_ppt_counts_no_decoder():
    board = Runs(
        frame(two_benchmarks("a", 0.4, 0.6, inserted=6_000_000, tuned=4_000_000))
    ).leaderboard
    assert board.loc[0, "costs.params.inserted"] == 6_000_000
    assert board.loc[0, "ppt"] == pytest.approx(0.5 * math.exp(-math.log10(2)))


def test_the_latest_success_of_a_cell_counts():
    old = record(miou=0.1)
    failed = record(status="failed", reason="killed")
    later = old.provenance.model_copy(update={"started": "2025-04-01T00:00:00Z"})
    new = record(miou=0.3, run_id="new", provenance=later)
    runs = frame([new, old, failed.model_copy(update={"provenance": later})])
    assert Runs(runs).leaderboard["metrics.miou"].tolist() == [0.3]
    assert Runs(runs).failures.empty


def test_failures_keep_their_reason():
    table = Runs(
        frame([record(), record("b", status="unsupported", reason="needs a ViT")])
    ).failures
    assert table[["method", "status", "reason"]].values.tolist() == [
        ["b", "unsupported", "needs a ViT"]
    ]


def test_only_failures_still_make_tables():
    runs = frame([record("a", status="failed", reason="x")])
    board = Runs(runs).leaderboard
    assert board["metrics.miou"].isna().all() and board["complete"].tolist() == ["0/1"]
    assert Runs(runs).per_class("camvid").empty
    assert Runs(runs).statuses["camvid"].tolist() == ["failed"]


def test_per_class_leaves_out_other_benchmarks_and_absent_classes():
    table = Runs(frame([record("a", "camvid", miou=0.5), record("a", "pets")])).per_class("camvid")
    assert table.columns[4:].tolist() == ["background", "camvid_thing"]
    assert table.loc[0, "background"] == pytest.approx(0.6)


def test_load_results_equals_the_records(tmp_path):
    records = grid(["full", "linear"], 2, ["camvid", "pets"])
    write(records, tmp_path)
    expected = Runs(frame(records)).leaderboard
    for runs in (load_results(tmp_path), load_results(tmp_path, "small")):
        pd.testing.assert_frame_equal(Runs(runs).leaderboard, expected)
    pd.testing.assert_frame_equal(Runs(load_results(tmp_path / "small")).leaderboard, expected)


def test_load_results_leaves_out_hidden_published_other_suites_and_damaged(tmp_path):
    write([record("a")], tmp_path)
    write([record("b")], tmp_path / ".stage")
    write([record("c")], tmp_path / "published")
    write([record("d", suite="other")], tmp_path)
    damaged = tmp_path / "small" / "x" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text('{"run_id": ')
    with pytest.warns(UserWarning, match=r"x.record\.json is left out") as caught:
        assert load_results(tmp_path, "small")["method"].tolist() == ["a"]
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert load_results(tmp_path / "published", "small")["method"].tolist() == ["c"]
    assert load_results(tmp_path / "published" / "small")["method"].tolist() == ["c"]


def test_load_results_of_nothing_is_empty(tmp_path):
    runs = load_results(tmp_path / "missing")
    assert runs.empty and "run_id" in runs.columns


def test_one_label_with_two_settings_stays_two_methods(tmp_path):
    write(
        [
            record("lora", method_params={"rank": 8, "lr": 0.001}),
            record("lora", "pets", method_params={"rank": 8, "lr": 0.003}),
        ],
        tmp_path,
    )
    labels = load_results(tmp_path)["method"].tolist()
    assert sorted(labels) == ["lora[lr=0.001]", "lora[lr=0.003]"]


def test_a_field_that_came_later_does_not_split_a_method(tmp_path):
    write(
        [
            record("adapter", method_params={"bottleneck": 64}),
            record("adapter", "pets", method_params={"bottleneck": 64, "form": "parallel"}),
        ],
        tmp_path,
    )
    assert load_results(tmp_path)["method"].tolist() == ["adapter", "adapter"]


def test_memory_of_some_runs_only_is_unknown_in_tables():
    """Older records do not have it: a mean over the others could not be compared."""
    memory = "costs.train.memory.peak_bytes"
    new, old = (record("full", "camvid", seed=seed) for seed in (0, 1))
    costs = old.costs.model_copy(
        update={"train": old.costs.train.model_copy(update={"memory": None})}
    )
    old = old.model_copy(update={"costs": costs})
    other = record("full", "pets")
    mixed, both = frame([new, old, other]), frame([new, other])
    table = Runs(mixed).cells.set_index("benchmark")
    assert math.isnan(table.loc["camvid", memory])
    assert table.loc["pets", memory] == other.costs.train.memory.peak_bytes
    assert table["costs.stored.bytes"].notna().all()
    (row,) = Runs(mixed).leaderboard.to_dict("records")
    assert math.isnan(row[memory]) and row["costs.stored.bytes"] > 0
    assert Runs(both).leaderboard[memory].notna().all()
    assert Runs(frame([old])).leaderboard[memory].isna().all()


def test_dice_is_shown_where_a_benchmark_reports_it() -> None:
    def run(method: str, benchmark: str, mdice: float | None, seed: int = 0) -> Record:
        one = record(method, benchmark, seed=seed)
        assert one.metrics is not None
        metrics = one.metrics.model_copy(update={"mdice": mdice})
        return one.model_copy(update={"metrics": metrics})

    runs = [
        run("a", "vessels", 0.8),
        run("a", "vessels", 0.6, seed=1),
        run("b", "vessels", 0.9),
        run("b", "vessels", None, seed=1),
        run("a", "camvid", None),
        run("b", "camvid", None),
    ]
    table = Runs(frame(runs)).dice_per_benchmark
    assert [*table.columns[3:]] == ["method", "vessels"]
    found = dict(zip(table["method"], table["vessels"], strict=True))
    # A mean over some of the seeds could not be compared.
    assert found["a"] == pytest.approx(0.7) and math.isnan(found["b"])
    assert [*Runs(frame(runs[4:])).dice_per_benchmark.columns[3:]] == ["method"]
