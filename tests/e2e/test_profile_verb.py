"""`profile`: where the time of a step goes, and nothing stored."""

import re

import pytest

from benchmark.engine.train import PHASES
from tests.helpers.forked import call

TINY = ["--benchmarks", "cells", "--set", "crop=48", "--set", "batch_size=2", "--steps", "3"]


@pytest.mark.slow
def test_every_part_of_a_step_has_its_share(tmp_path):
    done = call("profile", "spm", *TINY, "--rows", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(
        r"spm on demo_vit, cells, batch 2, crop 48: \d+ ms a step, [\d.]+ images/s", done.stdout
    )
    parts, operators = done.stdout.split(" operator (without what it calls)")
    rows = re.findall(r"^ (\S.*?) +([\d.]+) +([\d.]+)% +(\d+)", parts, re.MULTILINE)
    assert [row[0] for row in rows] == [*PHASES, "other"]
    assert sum(float(row[2]) for row in rows) == pytest.approx(100, abs=1)
    times = {row[0]: float(row[1]) for row in rows}
    assert times["backbone"] > times["transfer"] and times["auxiliary loss"] > 0
    assert len(re.findall(r"^ \S.* [\d.]+%", operators, re.MULTILINE)) == 5
    assert "aten::" in operators
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["linear,spm"], "selects several methods"),
        (["linear", "--set", "crop=50"], "crop=50 is not a multiple of 12"),
        (["nosuch"], "unknown method"),
    ],
)
def test_what_cannot_be_profiled_is_one_line(words, told):
    done = call("profile", *words)
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
