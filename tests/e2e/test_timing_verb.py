"""`timing`: methods are measured in turns, stored, and shown by the report."""

import pytest

from benchmark.results.timing import read
from benchmark.results.timing_columns import references
from tests.helpers.forked import call

TINY = ["--benchmarks", "cells", "--set", "crop=48", "--set", "batch_size=2", "--set", "steps=2"]
FEW = [*TINY, "--steps", "1", "--rounds", "1"]


@pytest.mark.slow
def test_a_grid_is_run_measured_and_reported(tmp_path):
    ran = call("run", *TINY, "--methods", "lora,linear", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "), run `python -m benchmark timing --suite demo" in ran.stdout
    done = call("timing", "--steps", "1", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("results/demo/timing/*.json")
    found = read(path)
    assert set(found.methods) == {"lora", *references()}
    again = call("run", *TINY, "--methods", "lora,linear", cwd=tmp_path)
    assert "side by side" not in again.stdout
    shown = call("report", "--no-figures", "--no-gallery", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert (
        "All methods took turns in one process"
        in (tmp_path / "reports" / "demo" / "README.md").read_text()
    )
    assert call("doctor", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_named_methods_are_measured_with_those_measured_before(tmp_path):
    done = call("timing", *FEW, "--methods", "lora", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("results/demo/timing/*.json")
    first = read(path)
    assert set(first.methods) == {"lora", *references()}
    assert (first.benchmark, first.rounds, first.machine.threads) == ("cells", 1, 1)
    kinds = {"training", "latency", "latency8"}
    assert set(first.methods[references()[0]].seconds) == kinds
    assert set(first.methods["lora"].seconds) == kinds | {"latency_merged", "latency8_merged"}
    assert "training step" in done.stdout and "All methods took turns" in done.stdout
    assert "round 1 of 1" in done.stderr
    again = call("timing", *FEW, "--methods", "bitfit", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    # Nothing is inserted, so nothing is merged.
    assert set(read(path).methods["bitfit"].seconds) == kinds
    assert set(read(path).methods) == {"lora", "bitfit", *references()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no matching finished runs in results/demo"),
        (["--suite", "nosuch"], "nosuch"),
        (["--methods", "nosuch"], "nosuch"),
        (["--results", "file"], "file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, told, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("timing", *words, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
