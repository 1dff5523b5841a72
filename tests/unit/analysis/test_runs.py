"""What follows from a table of records is worked out once."""

import pickle
from pathlib import Path

import pandas as pd
import pytest

from benchmark.analysis import leaderboard
from benchmark.analysis.runs import Runs
from benchmark.results import asked
from benchmark.results.validate import spec_of
from tests.helpers.records import frame, grid, record

pytestmark = pytest.mark.no_torch


def test_tables_are_worked_out_once(monkeypatch):
    calls = []
    for name in ("current", "cells", "leaderboard"):
        own = getattr(leaderboard, name)
        monkeypatch.setattr(
            leaderboard,
            name,
            lambda *tables, own=own, name=name: calls.append(name) or own(*tables),
        )
    runs = Runs(frame(grid(["full", "linear"], 1, ["camvid", "pets"])))
    tables = [runs.leaderboard, runs.cells, runs.per_benchmark, runs.statuses, runs.failures]
    tables += [runs.cost_table, runs.leaderboard, runs.cells, runs.current]
    assert sorted(calls) == ["cells", "current", "leaderboard"]
    assert tables[0] is runs.leaderboard and all(
        isinstance(table, pd.DataFrame) for table in tables
    )


def test_groups_are_the_runs_that_are_ranked_together():
    runs = frame(grid(["full", "linear"], 1, ["camvid"]))
    both = Runs(pd.concat([runs, runs.assign(backbone="another")], ignore_index=True))
    assert [key[0] for key in both.groups] == ["another", "vit_tiny_patch16_224"]
    for (backbone, _, _), part in both.groups.items():
        assert set(part.frame["backbone"]) == {backbone} and len(part.cells) == 2
    assert both.groups is both.groups


def test_over_keeps_the_runs_on_some_benchmarks():
    runs = Runs(frame(grid(["full", "linear"], 1, ["camvid", "pets"])))
    assert set(runs.over(["pets"]).cells["benchmark"]) == {"pets"}
    assert set(runs.cells["benchmark"]) == {"camvid", "pets"}


def test_equal_runs_are_pickled_alike_whatever_is_known_of_them():
    runs = Runs(frame(grid(["full"], 1, ["camvid"])))
    fresh = pickle.dumps(runs)
    assert len(runs.leaderboard) == 1
    assert pickle.dumps(runs) == fresh
    pd.testing.assert_frame_equal(pickle.loads(fresh).cells, runs.cells)


def planned(*made):
    """Records as runs of their cells leave them, and these cells."""
    cells = [spec_of(one) for one in made]
    fields = [{"run_id": cell.run_id, "protocol_hash": cell.protocol.hash} for cell in cells]
    return [m.model_copy(update=f) for m, f in zip(made, fields, strict=True)], cells


def test_what_is_missing_of_a_grid_is_what_was_asked_for_last(tmp_path):
    made, cells = planned(*(record(m, seed=seed) for m in ("a", "b") for seed in range(2)))
    # Nothing was noted: all methods on all benchmarks is all that can be expected.
    assert Runs(frame(made[:3]), tmp_path).progress == (3, 3)
    asked.note(tmp_path, cells)
    assert Runs(frame(made[:3]), tmp_path).progress == (3, 4)
    assert Runs(frame(made[:3]), tmp_path).not_run == 1 and Runs(frame(made)).not_run == 0
    assert Runs(frame(made), tmp_path).progress == (4, 4)
    # Runs of before count along; what was asked for before and never ran does not.
    asked.note(tmp_path, cells[1:2])
    assert Runs(frame(made[2:]), tmp_path).progress == (2, 3)
    failed = made[1].model_copy(update={"status": "failed", "metrics": None, "costs": None})
    assert Runs(frame([failed, *made[2:]]), tmp_path).progress == (2, 3)
    assert Runs(frame([failed, *made[2:]]), tmp_path).not_run == 0
    unable = failed.model_copy(update={"status": "unsupported"})
    assert Runs(frame([unable, *made[2:]]), tmp_path).progress == (2, 2)
    # A run of the same cell under another description is not the one that was asked for.
    other = made[1].model_copy(update={"run_id": "0" * 12, "benchmark_version": "x"})
    assert Runs(frame([other, *made[2:]]), tmp_path).progress == (2, 3)


def test_without_a_note_methods_are_expected_on_every_benchmark(tmp_path):
    made = [record(m, b, seed=s) for m in "ab" for b in ("x", "y") for s in range(2)]
    few = [one for one in made if (one.method, one.benchmark) != ("b", "y")]
    assert Runs(frame(few), tmp_path).progress == (6, 8)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"groups": [1]}', '{"groups": [{}]}'])
def test_a_damaged_note_is_none(tmp_path, content):
    _, cells = planned(record("a"))
    asked.note(tmp_path, cells)
    assert asked.read(tmp_path, "small")
    (tmp_path / "small" / asked.NAME).write_text(content)
    assert asked.read(tmp_path, "small") == {}


def test_groups_that_are_not_asked_for_again_keep_their_note(tmp_path):
    _, cells = planned(record("a"), record("a").model_copy(update={"backbone": "other"}))
    asked.note(tmp_path, cells[:1])
    asked.note(tmp_path, cells[1:])
    assert {key[0] for key in asked.read(tmp_path, "small")} == {"vit_tiny_patch16_224", "other"}
    asked.note(tmp_path / "file" / "x", [])
    (tmp_path / "file").write_text("")
    asked.note(tmp_path / "file" / "x", cells)  # cannot be written, and need not be


def test_the_folders_of_the_last_grid_are_known_until_they_move(tmp_path, monkeypatch):
    cells = [spec_of(one) for one in grid(["linear"])]
    root = tmp_path / "results"
    asked.note(root, cells)
    assert asked.folders(root, "small") is None
    for name in ("weights", "data"):
        (tmp_path / name).mkdir()
    asked.note(root, cells, asked.Folders((tmp_path / "weights",), tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    known = asked.Folders((Path("weights"),), Path("data"))
    assert asked.folders(root, "small") == known and asked.read(root, "small")
    assert asked.folders(root, "demo") is None
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("weights", "data", "results"):
        (tmp_path / name).rename(moved / name)
    assert asked.folders(moved / "results", "small").data == Path("moved/data")
    (moved / "weights").rmdir()
    assert asked.folders(moved / "results", "small") is None
