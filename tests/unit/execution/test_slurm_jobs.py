"""What Slurm is asked for, by needs and by what users type."""

import subprocess

import pytest

from benchmark.core.errors import UserError
from benchmark.execution.executors import slurm_jobs
from benchmark.execution.executors.needs import Needs

GIB = 2**30


class Item:
    def __init__(self, minutes=5.0, gpus=0.0, memory=None):
        self.needs = Needs(2, memory, gpus, minutes)


def test_options_are_those_of_sbatch():
    read = slurm_jobs.read_options
    assert read(None) == {}
    assert read("partition=gpu, time=240,gres=gpu:1,--mem-per-cpu=4G") == {
        "partition": "gpu",
        "time": "240",
        "gres": "gpu:1",
        "mem_per_cpu": "4G",
    }
    for wrong in ("partition", "=gpu", "time=soon", "time=0", "cpus_per_task=2.5", "pack=-1"):
        with pytest.raises(UserError, match=r"^--slurm "):
            read(wrong)
    assert slurm_jobs.least_minutes({}) == 10 and slurm_jobs.least_minutes({"pack": "0"}) == 0


def test_jobs_ask_for_what_cells_need_and_users_win():
    pytest.importorskip("submitit")
    packs = [[Item(memory=3 * GIB), Item(20.0)], [Item()]]
    asked = slurm_jobs.parameters(packs, {})
    assert asked == {"job_name": "petseg", "cpus_per_task": 2, "time": 75, "mem": "3GB"}
    asked = slurm_jobs.parameters([[Item(gpus=1.0)]], {"time": "9", "cpus_per_task": "4"})
    assert asked["time"] == 9 and asked["cpus_per_task"] == 4 and asked["gpus_per_node"] == 1
    asked = slurm_jobs.parameters([[Item(gpus=1.0)]], {"gres": "gpu:a100:1", "reservation": "r"})
    assert "gpus_per_node" not in asked
    assert asked["additional_parameters"] == {"reservation": "r"}
    with pytest.raises(UserError, match="add time=MINUTES"):
        slurm_jobs.parameters([[Item(None)]], {})


def test_a_queue_that_does_not_answer_is_not_an_empty_one(monkeypatch):
    def answer(text):
        monkeypatch.setattr(
            subprocess, "run", lambda *a, **o: subprocess.CompletedProcess(a, 0, text)
        )

    answer("12_0 RUNNING\n12_1 PENDING\n7 COMPLETED\n\n")
    assert slurm_jobs.jobs() == {"12_0": "RUNNING", "12_1": "PENDING", "7": "COMPLETED"}

    def refuse(*_, **__):
        raise subprocess.CalledProcessError(1, "squeue")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert slurm_jobs.jobs() is None
