"""Where the time of a training step goes, measured by torch.profiler."""

import time
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmark.core.spec import RunSpec
from benchmark.engine.train import PHASES
from benchmark.execution.environment import Environment
from benchmark.execution.probe import Rehearsal

WARM_UP = 3
"""Steps before the measured ones: allocators and kernels settle in them."""

OTHER = "other"
"""The phase of what belongs to no part of a step that has a name."""


@dataclass(frozen=True)
class Share:
    """What a phase or an operator took.

    Attributes:
        name: of it.
        milliseconds: a step, on the device where the device computes, else on the CPU.
        share: of the step, 0 to 1.
        calls: a step.
    """

    name: str
    milliseconds: float
    share: float
    calls: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a step goes.

    Attributes:
        images_per_second: without a profiler, over as many steps.
        milliseconds: of a step, without a profiler.
        phases: the parts of a step in order; their time with the profiler on.
        operators: most expensive first, each without the operators that it calls.
    """

    images_per_second: float
    milliseconds: float
    phases: list[Share]
    operators: list[Share]


def profile(cell: RunSpec, environment: Environment, steps: int = 10) -> Profile:
    """Trains a cell for a few steps, half of them under a profiler; nothing is stored.

    Args:
        cell: what to train; its number of steps does not matter.
        environment: where.
        steps: profiled ones, and as many more that are timed without a profiler.

    Raises:
        UserError: weights or data are missing or damaged.
    """
    rehearsal = Rehearsal.of(cell, environment, WARM_UP + 2 * steps)
    on_gpu = environment.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    profiler = torch.profiler.profile(activities=activities)
    marks: dict[int, float] = {}

    def progress(step: int, *_: float) -> None:
        if on_gpu:
            torch.cuda.synchronize(environment.device)
        marks[step] = time.perf_counter()
        if step == WARM_UP + steps:
            profiler.start()
            marks[step] = time.perf_counter()
        if step == WARM_UP + 2 * steps:
            profiler.stop()

    rehearsal.train(progress)
    plain = (marks[WARM_UP + steps] - marks[WARM_UP]) / steps
    watched = (marks[WARM_UP + 2 * steps] - marks[WARM_UP + steps]) / steps
    rows = profiler.key_averages()
    # Host and device both know a phase by its name: its time is that of the host.
    own = [row for row in rows if row.device_type == DeviceType.CPU]
    phases = {row.key: row for row in own if row.key in PHASES}

    def share(name: str, microseconds: float, calls: float) -> Share:
        seconds = microseconds / 1e6 / steps
        return Share(name, 1e3 * seconds, seconds / watched, calls / steps)

    named = [
        share(name, phases[name].cpu_time_total, phases[name].count)
        for name in PHASES
        if name in phases
    ]
    rest = 1e6 * steps * watched - sum(phases[one.name].cpu_time_total for one in named)
    named.append(share(OTHER, max(0.0, rest), steps))
    column = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators = [
        share(row.key, getattr(row, column), row.count)
        for row in (rows if on_gpu else own)
        if row.key not in PHASES
    ]
    operators.sort(key=lambda one: -one.milliseconds)
    size = rehearsal.protocol.batch_size
    return Profile(size / plain, 1e3 * plain, named, operators)
