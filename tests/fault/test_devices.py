"""`--devices`: what is refused, and how a run ends one of whose processes dies or fails."""

import contextlib
import json
import time

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.core.processes import is_alive
from benchmark.core.spec import Compute
from benchmark.engine import ranks
from benchmark.execution import grid
from benchmark.execution.jobs import parse_devices, share_devices
from benchmark.planning import plugins
from benchmark.planning.plan import plan
from methods.base import METHODS
from tests.helpers import forked
from tests.helpers.tiny import run, select, typed

FAILING = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from torch import distributed

from methods.base import Method, register


@register("failing")
@dataclass(frozen=True, kw_only=True)
class Failing(Method):
    """Does what a test asks of it in the second process of a run, until `survive` is there."""

    lr: float = 1e-3
    keeps_structure = True
    folder: str = ""
    how: str = "die"

    def _apply(self, backbone, num_classes):
        pass

    def apply(self, backbone, num_classes):
        pass

    def after_step(self, backbone, step, steps):
        if not distributed.is_initialized():
            return
        rank = distributed.get_rank()
        with open(Path(self.folder, "processes"), "a") as file:
            file.write(f"{os.getpid()}\\n")
        if step == 3 and rank == 1 and not Path(self.folder, "survive").exists():
            if self.how == "raise":
                raise KeyError("odd")
            os.kill(os.getpid(), signal.SIGKILL)
'''


@contextlib.contextmanager
def failing(folder):
    path = folder / "failing.py"
    path.write_text(FAILING)
    plugins.load_files([path])
    try:
        yield
    finally:
        METHODS._loaded.pop("failing")
        plugins._TYPED.popitem()


def curve(results, cell):
    return [json.loads(line) for line in (results / cell.folder / "curve.jsonl").open()]


def processes(folder):
    return {int(line) for line in (folder / "processes").read_text().split()}


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_other_numbers_resume_it(tiny, tmp_path):
    how = {"checkpoint_seconds": 0.0, "compute": Compute("fp32")}
    with failing(tmp_path):
        chosen = select(f"failing[folder={tmp_path}]", steps=8)
        (cell,) = plan(chosen)
        (lost,) = run(tmp_path / "r", chosen, devices=2, **how)
        assert lost.status == "oom"
        assert lost.reason == (
            "device 2 of 2: its process was killed, most likely because memory ran out; "
            "to resume, use --retry oom"
        )
        assert not any(map(is_alive, processes(tmp_path)))  # none is left behind
        (tmp_path / "survive").touch()
        watch = StopSignal()

        class Ear:
            def step(self, spec, step, loss, images_per_second):
                if step == 5:
                    watch.signal = "SIGTERM"

            def __getattr__(self, name):
                return lambda *_: None

        (left,) = run(
            tmp_path / "r", chosen, devices=3, retry="oom", watch=watch, listener=Ear(), **how
        )
        assert left.status == "interrupted" and "to resume, repeat" in left.reason
        (done,) = run(tmp_path / "r", chosen, jobs=1, **how)
        assert done.status == "done" and done.provenance.devices == 1
        assert done.execution.resumed_at[0] == 2 and len(done.execution.resumed_at) == 2
        run(tmp_path / "alone", chosen, jobs=1, **how)
    for ours, theirs in zip(
        curve(tmp_path / "r", cell), curve(tmp_path / "alone", cell), strict=True
    ):
        assert ours["total"] == pytest.approx(theirs["total"], abs=1e-5)
    with (
        np.load(tmp_path / "r" / cell.folder / "images.npz") as a,
        np.load(tmp_path / "alone" / cell.folder / "images.npz") as b,
    ):
        assert np.abs(a["prediction"] - b["prediction"]).sum() <= 0.01 * a["prediction"].sum()


@pytest.mark.slow
def test_what_one_process_raises_is_the_reason_of_the_run(tiny, tmp_path):
    with failing(tmp_path):
        chosen = select(f"failing[folder={tmp_path},how=raise],linear", steps=4)
        failed, done = run(tmp_path / "r", chosen, devices=2, compute=Compute("fp32"))[::-1]
        assert done.status == "done" and done.provenance.devices == 2
        assert failed.status == "failed"
        assert failed.reason == "KeyError: 'odd' (on device 2)"
        assert "after_step" in failed.traceback
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, processes(tmp_path)))


@pytest.mark.parametrize(
    ("typed", "others", "reason"),
    [
        ("0", {}, "whole number of at least 1"),
        ("-2", {}, "whole number of at least 1"),
        ("two", {}, "whole number of at least 1"),
        ("2", {"jobs": "2"}, "leave --jobs out"),
        ("2", {"executor": "ray"}, "--executor local"),
        ("2", {"compiling": "always"}, "leave --compile out"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(typed, others, reason):
    options = {"jobs": "auto", "executor": "local", "compiling": "auto"} | others
    with pytest.raises(UserError, match=reason):
        parse_devices(typed, **options)


def test_more_devices_than_there_are_or_than_images_are_refused(tiny, monkeypatch):
    import torch

    from benchmark.core import machine

    cells = plan(select(batch_size=4, accumulate=2))
    assert share_devices(2, cells, "cpu").devices == ("cpu", "cpu")
    with pytest.raises(UserError, match=r"a batch of 4 in 2 parts .* lower accumulate"):
        share_devices(3, cells, "cpu")
    monkeypatch.setattr(ranks.dist, "is_gloo_available", lambda: False)
    with pytest.raises(UserError, match="this torch has no gloo"):
        share_devices(2, cells, "cpu")
    monkeypatch.setattr(machine, "find_device", lambda name: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="this machine has 1 GPU; use --devices 1"):
        share_devices(2, cells, "auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(ranks.dist, "is_gloo_available", lambda: True)
    monkeypatch.setattr(ranks.dist, "is_nccl_available", lambda: False)
    with pytest.raises(UserError, match="this torch has no nccl"):
        share_devices(2, cells, "auto")
    monkeypatch.setattr(machine, "find_device", lambda name: "cuda:1")
    with pytest.raises(UserError, match="--device cuda:1 names one"):
        share_devices(2, cells, "cuda:1")


def test_a_batch_that_is_too_small_is_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(UserError, match="a batch of 4 does not have an image for each device"):
        grid.run_cells(plan(select()), tmp_path / "r", device="cpu", devices=5)
    assert not (tmp_path / "r").exists()


def test_the_command_refuses_devices_with_jobs(tiny, tmp_path):
    done = forked.call(
        *("run", "--plugin", tiny, "--benchmarks", "tiny", "--methods", "linear"),
        *("--results", tmp_path / "r", *typed(), "--jobs", "2", "--devices", "2"),
    )
    assert done.returncode == 2 and "leave --jobs out" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_process_that_cannot_start_ends_the_command(tiny, tmp_path, monkeypatch):
    from benchmark.execution import jobs

    devices = jobs.Share(1, 1, ("cpu", "cuda:99"))
    monkeypatch.setattr(grid, "share_devices", lambda *_: devices)
    with pytest.raises(UserError, match="'cuda:99' is not available here"):
        run(tmp_path / "r", select(), devices=2)
    assert not list((tmp_path).rglob("record.json"))
