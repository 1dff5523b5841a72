"""What Slurm is asked, and what is asked of it: options of sbatch, states of jobs, logs."""

import math
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.core.errors import UserError
from benchmark.execution.executors.needs import LEAST_MINUTES, Needing, memory_of, minutes_of

GOING = {"PENDING", "RUNNING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "CONFIGURING"}
GOING |= {"COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"}
"""States of a job that may still end with a result."""

SPARE, LEAST = 3.0, 30
"""Times the forecast, and minutes at least, that a job may take."""
GIB = 2**30
PACK = "pack"
"""Among the options of sbatch, the one that is not: see `least_minutes`."""


def read_options(text: str | None) -> dict[str, str]:
    """Options of sbatch from `partition=gpu,time=240,gres=gpu:1`.

    Raises:
        UserError: they are not of this form.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not (name and equals and value):
            raise UserError(f"--slurm {part!r}: write NAME=VALUE, as in partition=gpu,time=240")
        found[name.lstrip("-").replace("-", "_")] = value
    for name, unit in (("time", "minutes"), ("cpus_per_task", "cores"), (PACK, "minutes")):
        least = 0 if name == PACK else 1
        if name in found and not (found[name].isdecimal() and int(found[name]) >= least):
            raise UserError(f"--slurm {name}={found[name]}: write a whole number of {unit}")
    return found


def least_minutes(options: Mapping[str, str]) -> float:
    """Of a job: cells are packed until they take as long."""
    return float(options.get(PACK, LEAST_MINUTES))


def parameters(packs: Sequence[Sequence[Needing]], options: Mapping[str, str]) -> dict[str, Any]:
    """What submitit is given for jobs of equal needs.

    Args:
        packs: what each job does.
        options: that users typed; they win.

    Raises:
        UserError: nobody knows how long the jobs take.
    """
    items = [item for one in packs for item in one]
    needs = items[0].needs
    own: dict[str, Any] = {"job_name": "petseg", "cpus_per_task": needs.cores}
    if "time" not in options:
        if any(item.needs.minutes is None for item in items):
            raise UserError("--slurm: no earlier run tells how long cells take; add time=MINUTES")
        own["time"] = max(LEAST, math.ceil(SPARE * max(map(minutes_of, packs))))
    if needs.gpus and not {"gres", "gpus", "gpus_per_node", "gpus_per_task"} & options.keys():
        own["gpus_per_node"] = 1
    memory = memory_of(items)
    if memory is not None and not {"mem", "mem_per_cpu", "mem_per_gpu"} & options.keys():
        own["mem"] = f"{math.ceil(memory / GIB)}GB"
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    own |= {name: value for name, value in options.items() if name in known}
    own["time"], own["cpus_per_task"] = int(own.get("time", 0)), int(own["cpus_per_task"])
    # What submitit does not know, sbatch may.
    rest = {name: value for name, value in options.items() if name not in {*known, PACK}}
    return own | ({"additional_parameters": rest} if rest else {})


def jobs() -> dict[str, str] | None:
    """State of this user's jobs that Slurm remembers, by id; None where it does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}
