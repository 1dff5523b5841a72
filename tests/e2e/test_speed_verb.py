"""`speed`: the comparisons run, compare the same work, and are stored as they are printed."""

import json
import re

import pytest

from benchmark.planner import Selection, plan
from benchmark.speed.compare import PARTS
from benchmark.speed.memory import Work, peak
from tests.forked import call
from tests.tiny import typed

TINY = ["--benchmarks", "cells", *typed(crop=48, batch_size=2)]
FEW = [*TINY, "--steps", "1", "--rounds", "1"]


@pytest.mark.parametrize("part", [part for part in PARTS if part != "memory"])
def test_the_table_is_printed_and_stored(part, tmp_path):
    done = call("speed", *FEW, "--parts", part, "--out", "table", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "table" / "speed.json").read_text())
    page = (tmp_path / "table" / "README.md").read_text()
    assert "demo_vit on cells, batch 2, crop 48" in done.stdout and stored["about"][0] in page
    assert stored["rows"]
    for row in stored["rows"]:
        found = row["ratio"]
        assert 0 < found["low"] <= found["value"] <= found["high"]
        speeds = [float(re.match(r"[\d.]+", row[side])[0]) for side in ("here", "there")]
        # One round: its ratio is that of the two speeds, but for their rounding.
        assert found["value"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)
        assert row["met"] is (found["value"] >= row["wanted"])
        assert f"| {row['what']} | {row['here']} |" in page
    if part == "known":
        assert all("equal results" in row["note"] for row in stored["rows"])


@pytest.mark.slow
def test_memory_is_compared_in_processes_of_their_own():
    sizes = {"steps": 6, "crop": 48, "batch_size": 2}
    (cell,) = plan(Selection(methods="linear", benchmarks="cells", seeds=(0,), protocol=sizes))
    one, other = (peak(Work(cell, bare, None, (), "cpu")) for bare in (False, True))
    assert 1 < one / 2**20 < 4096 and 1 < other / 2**20 < 4096


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parts", "trainer,nosuch"], "there is no part 'nosuch'"),
        (["--set", "crop=50"], "crop=50 is no multiple of 12"),
        (["--out", "file"], "--out file is a file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, told, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("speed", *words, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
