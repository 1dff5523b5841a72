"""`--jobs`: more processes of one command, none of which runs what another runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmark import index
from benchmark.executors import jobs
from benchmark.planner import plan
from benchmark.processes import is_alive
from tests.tiny import run, same, select, typed

ROOT = Path(__file__).resolve().parents[2]


class Ear:
    def __init__(self):
        self.own, self.found = [], []

    def cell_finished(self, record):
        self.own.append(record.run_id)

    def cell_found(self, record):
        self.found.append(record.run_id)

    def __getattr__(self, name):
        return lambda *_: None


def test_two_jobs_run_every_cell_once_and_to_the_same_bits(tiny, tmp_path):
    chosen = select("linear,bitfit,spm", steps=12)
    ear = Ear()
    records = run(tmp_path / "two", chosen, jobs=2, listener=ear)
    cells = {cell.run_id: cell for cell in plan(chosen)}
    assert [record.run_id for record in records] == ear.own
    assert sorted(ear.own + ear.found) == sorted(cells)
    assert {path.name for path in (tmp_path / "two").rglob(".*")} <= {index.NAME}
    found = [json.loads(path.read_text()) for path in (tmp_path / "two").rglob("record.json")]
    assert {record["status"] for record in found} == {"done"}
    assert all(record["execution"]["starts"] == 1 for record in found)
    threads = {record["provenance"]["threads"] for record in found}
    assert threads == {min(torch.get_num_threads(), max(1, jobs.cores() // 2))}
    run(tmp_path / "one", chosen)
    for cell in cells.values():
        same(tmp_path / "two", tmp_path / "one", cell)


@pytest.mark.slow
def test_a_signal_ends_all_jobs_and_their_cells_go_on(tiny, tmp_path):
    words = ["--plugin", tiny, "--benchmarks", "tiny", "--methods", "linear,bitfit,spm"]
    words += typed(steps=400, crop=36, batch_size=4)
    command = [sys.executable, "-m", "benchmark", "run", *words, "--results", tmp_path, "--jobs=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "step 100/" in line:
            break
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 143, out
    deadline = time.monotonic() + 30  # multiprocessing's own helper ends a moment later
    while any(is_alive(int(pid)) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children and not [pid for pid in children if is_alive(int(pid))]
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert {record["status"] for record in found} <= {"interrupted", "done"}
    assert not list(tmp_path.rglob("*.lease"))


def test_more_jobs_than_cells_are_not_started(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_work", pytest.fail)
    (record,) = run(tmp_path, select(), jobs=3)
    assert record.status == "done"


@pytest.mark.parametrize(
    ("device", "gpus", "places"),
    [
        ("auto", 0, ["auto"] * 3),
        ("auto", 1, ["auto"] * 3),
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", 2, ["cuda:1"] * 3),
        ("cpu", 2, ["cpu"] * 3),
    ],
)
def test_each_job_takes_the_next_gpu(monkeypatch, device, gpus, places):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [jobs.device_of(device, number) for number in range(3)] == places
