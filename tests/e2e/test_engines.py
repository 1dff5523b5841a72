"""Grids on real engines: Ray with three raylets, Slurm with two nodes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import engines

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.engines]


@pytest.fixture(params=["ray", "slurm"])
def engine(request, tmp_path):
    """An engine, and the words that name it."""
    if why := engines.missing(request.param):
        pytest.skip(why)
    with engines.cluster(request.param, tmp_path / "engine") as cluster:
        words = ["--executor", request.param]
        if request.param == "ray":
            yield cluster, [*words, "--address", cluster.address]
        else:
            yield cluster, [*words, "--slurm", "pack=0,time=30"]


def start(results, *words, steps=6, methods="linear,bitfit"):
    options = ["--benchmarks", "cells,streets", "--methods", methods, "--results", results]
    options += ["--set", f"steps={steps}", "--set", "precision=fp32"]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark", "run", *map(str, options), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def records(results):
    found = [json.loads(path.read_text()) for path in results.rglob("record.json")]
    return {record["run_id"]: record for record in found}


def test_a_grid_gives_the_same_counts_as_on_this_machine(engine, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    out, _ = start(here, "--jobs", "2").communicate(timeout=300)
    assert len(records(here)) == 4, out
    out, _ = (process := start(there, *engine[1])).communicate(timeout=300)
    assert process.returncode == 0, out
    assert records(here).keys() == records(there).keys()
    for path in here.rglob("images.npz"):
        other = there / path.relative_to(here)
        with np.load(path) as a, np.load(other) as b:
            assert set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
        ours, theirs = (p.with_name("delta.safetensors").read_bytes() for p in (path, other))
        assert ours == theirs
    assert {record["execution"]["starts"] for record in records(there).values()} == {1}


def test_workers_share_nothing_but_a_url(engine, tmp_path, monkeypatch):
    """Ray's workers have another cache than the command; what Slurm has, it shares."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "store"
    process = start(store.as_uri(), *engine[1], steps=2, methods="linear")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert len(records(store)) == len(records(tmp_path / "cache" / "results")) == 2
    assert len([path for path in (store / ".complete").rglob("*") if path.is_file()]) == 2


def running(results, timeout=120):
    """Waits until a cell is trained; status as a document."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", "status", "--results", results, "--json"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout)
        if found["counts"].get("running") and list(results.rglob(".*.checkpoint")):
            return found
        time.sleep(1)
    raise AssertionError(done.stdout + done.stderr)


def test_a_command_that_left_is_continued_and_a_stopped_job_resumes(engine, tmp_path):
    _, words = engine
    results = tmp_path / "results"
    words = [*words, "--checkpoint", "0.5"]
    process = start(results, *words, steps=300, methods="linear")
    found = running(results)
    assert sum(found["counts"].values()) == 2
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "leaving; the runs go on" in out, out
    found = running(results)
    if "slurm" in words:
        (job, *_) = (one["job"] for one in found["runs"] if one["state"] == "running")
        subprocess.run(["scancel", "--signal=USR1", job], check=True)
    out, _ = (process := start(results, *words, steps=300, methods="linear")).communicate(
        timeout=400
    )
    assert process.returncode == 0, out
    every = records(results).values()
    assert [record["status"] for record in every] == ["done", "done"]
    if "slurm" in words:
        assert any(record["execution"]["resumed_at"] for record in every)


@pytest.mark.parametrize("executor", ["local", "ray", "slurm"])
def test_kills_lose_nothing(executor):
    if why := engines.missing(executor):
        pytest.skip(why)
    words = ["--executor", executor, "--kills", "5", "--cells", "8"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fault" / "engine_kills.py", *words],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"0 not done, 0 ran twice, 0 errors", done.stdout)
