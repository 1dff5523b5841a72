"""`speed`: the comparisons run, compare the same work, and are stored as they are printed."""

import json
import re

import pytest

from benchmark.profiling.speed.compare import PARTS
from methods import METHODS
from tests.helpers.forked import call
from tests.helpers.tiny import typed

TINY = ["--benchmarks", "cells", *typed(crop=48, batch_size=2)]
FEW = [*TINY, "--steps", "1", "--rounds", "1"]


SLOW = {part: pytest.mark.slow for part in ("cores", "loop", "trainer")}


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=SLOW.get(part, ()))
        for part in PARTS
        if part not in ("memory", "tasks")
    ],
)
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
def test_memory_of_all_methods_is_equal_each_time(tmp_path):
    found = []
    for name in ("one", "two"):
        done = call("speed", *TINY, "--parts", "memory", "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / name / "speed.json").read_text())["rows"])
    assert found[0] == found[1]
    sizes = [int(row["here"].split()[0].replace(",", "")) for row in found[0] if row["note"]]
    names = {row["what"].partition(", ")[2] for row in found[0] if row["note"]}
    assert sizes == sorted(sizes)
    assert names == {name for name in METHODS.loaded() if ":" not in name}
    assert all(row["note"].startswith("parameters ") for row in found[0][: len(names)])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parts", "trainer,nosuch"], "unknown part 'nosuch'"),
        (["--set", "crop=50"], "crop=50 is not a multiple of 12"),
        (["--out", "file"], "--out file is a file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, told, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("speed", *words, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
