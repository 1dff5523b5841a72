"""What follows from a table of records is worked out once."""

import pickle

import pandas as pd
import pytest

from benchmark.analysis import leaderboard
from benchmark.analysis.runs import Runs
from tests.helpers.records import frame, grid

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
