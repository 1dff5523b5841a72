"""The cost cost_table by hand, and bytes for many tasks."""

import math

import pytest

from benchmark.analysis.cost_tables import TASKS, WHOLE, storage
from benchmark.analysis.costs import STORED, component_costs
from benchmark.analysis.runs import Runs
from tests.helpers.records import DECODER, frame, grid, record

pytestmark = pytest.mark.no_torch

MEMORY = "costs.train.memory.peak_bytes"
BACKBONE = 5_526_000


def with_memory(runs, *sizes):
    return runs.assign(**{MEMORY: list(map(float, sizes))})


def test_means_are_over_benchmarks_of_means_over_seeds():
    records = [record("a", "camvid", seed=0), record("a", "camvid", seed=1), record("a", "pets")]
    row = Runs(with_memory(frame(records), 10, 30, 100)).cost_table.iloc[0]
    assert row[MEMORY] == 60  # not 46.7, the mean over runs
    assert (row[f"{MEMORY}.min"], row[f"{MEMORY}.max"]) == (10, 100)
    assert (row["complete"], row["seeds"]) == ("2/2", 2)


def test_what_does_not_vary_has_no_ends():
    row = Runs(frame(grid(["full"], 2))).cost_table.iloc[0]
    assert row["costs.params.tuned_backbone"] == 5_526_000
    assert math.isnan(row["costs.params.tuned_backbone.min"])
    assert math.isnan(row["costs.params.tuned_backbone.max"])


def test_every_component_stands_apart():
    row = Runs(frame([record("a", inserted=7, tuned=11)])).cost_table.iloc[0]
    assert [row[f"costs.params.{name}"] for name in ("inserted", "tuned_backbone", "decoder")] == [
        7,
        11,
        DECODER,
    ]
    assert row["costs.params.total_trainable"] == 18 + DECODER
    assert row["costs.stored.bytes_fp16"] == 2 * (18 + DECODER)
    assert row["costs.infer.flops"] == 2.5e9
    assert all(cost.column in row for cost in component_costs())


def test_merged_costs_only_where_every_run_has_them():
    merged = "costs.infer_merged.flops"
    runs = frame([record("a"), record("a", "pets"), record("b"), record("b", "pets")])
    runs[merged] = [4.0, 6.0, 3.0, None]
    table = Runs(runs).cost_table.set_index("method")
    assert table.loc["a", merged] == 5
    assert math.isnan(table.loc["b", merged])


def test_an_incomplete_method_has_no_means():
    records = [record("a"), record("a", "pets"), record("b"),
               record("b", "pets", status="oom", reason="x")]  # fmt: skip
    table = Runs(frame(records)).cost_table.set_index("method")
    assert table.loc["b", "complete"] == "1/2" and math.isnan(table.loc["b", MEMORY])
    assert "b" not in set(storage(Runs(frame(records)).cost_table)["method"])


def test_a_failed_seed_makes_its_cell_incomplete():
    records = [record("a"), record("a", seed=1, status="nan", reason="x")]
    assert Runs(frame(records)).cost_table.iloc[0]["complete"] == "0/1"


def test_groups_stay_apart():
    table = Runs(frame([record("a"), record("a", backbone="other")])).cost_table
    assert table["backbone"].tolist() == ["other", "vit_tiny_patch16_224"]


def test_bytes_are_the_backbone_and_a_delta_a_task():
    runs = frame([record("small"), record("whole", tuned=BACKBONE)])
    table = storage(Runs(runs).cost_table).set_index(["method", "tasks"])["bytes"]
    small = 4 * DECODER + 1800
    for tasks in TASKS:
        assert table["small", tasks] == 4 * BACKBONE + tasks * small
        assert table["whole", tasks] == 4 * BACKBONE + tasks * (small + 4 * BACKBONE)
        assert table[WHOLE, tasks] == tasks * 4 * (BACKBONE + DECODER)
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["small", "whole", WHOLE]


def test_the_size_of_a_task_is_the_mean_over_benchmarks():
    runs = frame([record("a"), record("a", "pets")]).assign(**{STORED: [100.0, 300.0]})
    table = storage(Runs(runs).cost_table, [10])
    assert table[table["method"] == "a"]["task_bytes"].item() == 200
    assert table[table["method"] == "a"]["bytes"].item() == 4 * BACKBONE + 2000


def test_no_tasks_no_rows_and_none_below_one():
    runs = frame([record("a")])
    assert storage(Runs(runs).cost_table, []).empty
    with pytest.raises(ValueError, match="at least 1"):
        storage(Runs(runs).cost_table, [0, 1])
    assert storage(Runs(frame([record(status="failed", reason="x")])).cost_table).empty
