"""How a grid is shared: by cores, by threads that a user asked for, by GPUs, by memory."""

import pytest
import torch

from benchmark.core import machine
from benchmark.core.errors import UserError
from benchmark.core.spec import Compute
from benchmark.execution.jobs import PROCESS_BYTES, Share, fitting, parse_jobs, share
from benchmark.planning.forecast import Forecaster
from benchmark.planning.plan import Selection, plan


@pytest.mark.parametrize(
    ("cores", "own", "wanted", "cells", "jobs", "threads"),
    [
        (2, None, None, 15, 2, 1),
        (8, None, None, 3, 3, 2),  # few cells: more threads each
        (8, None, None, 1, 1, 8),
        (1, None, None, 15, 1, 1),
        (2, None, 1, 15, 1, 2),
        (2, None, 6, 15, 6, 1),  # as many as were asked for
        (2, None, 6, 4, 4, 1),
        (8, "2", None, 15, 4, 2),  # the user's number of threads stays
        (8, "2", 3, 15, 3, 2),
        (2, "16", None, 15, 1, 16),
        (2, "4,2", None, 15, 1, 4),
        (2, "many", None, 15, 2, 1),
        (2, "0", None, 15, 2, 1),
    ],
)
def test_one_process_a_core(monkeypatch, cores, own, wanted, cells, jobs, threads):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    if own is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    assert share(wanted, cells, "cpu") == Share(jobs, threads, ("cpu",))


@pytest.mark.parametrize(
    ("device", "gpus", "wanted", "jobs", "devices"),
    [
        ("auto", 1, None, 1, ("auto",)),
        ("auto", 2, None, 2, ("cuda:0", "cuda:1")),
        ("auto", 2, 5, 5, ("cuda:0", "cuda:1")),
        ("cuda:1", 2, None, 1, ("cuda:1",)),
        ("cuda:1", 2, 3, 3, ("cuda:1",)),
    ],
)
def test_one_process_a_gpu(monkeypatch, device, gpus, wanted, jobs, devices):
    monkeypatch.setattr(machine, "find_device", lambda name: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = share(wanted, 15, device)
    assert (found.jobs, found.devices) == (jobs, devices)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "٣"])
def test_what_is_no_number_of_jobs_is_refused(text):
    with pytest.raises(UserError, match="write auto, or a whole number of at least 1"):
        parse_jobs(text)
    assert (parse_jobs("auto"), parse_jobs("3")) == (None, 3)


def test_no_more_processes_than_memory_carries():
    cells = plan(Selection(methods="linear", benchmarks="streets,cells"))
    compute = Compute("fp32", "fused", image_bytes=2**20, model_bytes=2**20)
    computes = {cell.run_id: compute for cell in cells}

    def fit(available):
        return fitting(4, cells, computes, Forecaster([], "some processor"), available)

    batch = cells[0].protocol.batch_size
    need = PROCESS_BYTES + 4 * 2**20 + int(1.5 * batch * 2**20)
    assert fit(None) == (4, need)
    assert fit(4 * need) == (4, need)
    assert fit(4 * need - 1) == (3, need)
    assert fit(0) == (1, need)
