"""A tiny benchmark, a method that does what a test asks of it, and grids of them."""

from dataclasses import dataclass

import numpy as np
import torch

from benchmark.core import processes
from benchmark.core.interrupt import StopSignal
from benchmark.engine import latency
from benchmark.execution import grid
from benchmark.planning.plan import Selection, plan
from methods.base import Method

# No test depends on how long a forward pass takes, and a run is half as long with few of them.
latency.MOST, latency.LEAST = 2, 1

DEAD = 4194304 + 7  # above the largest process number of Linux


def of_the_dead(pid=DEAD):
    """The end of a draft's name, by a process of this host."""
    place, _, token = processes.tag().split("-")
    return f"{place}-{pid}-{token}"


@dataclass(frozen=True, kw_only=True)
class Strange(Method):
    """Trains the decoder, and does what a test asks of it."""

    lr: float = 1e-3
    supports = frozenset(("plain",))
    keeps_structure = True
    largest: int = 99
    nan_at: int = 0
    noise: float = 0.0

    def _apply(self, backbone, num_classes):
        state = {"step": -1}  # the first pass only looks for the depth

        def images(x):
            if torch.is_grad_enabled():
                state["step"] += 1
                if len(x) > self.largest and state["step"] > 0:
                    raise torch.OutOfMemoryError("out of memory")
                if state["step"] == self.nan_at:
                    return x * float("nan")
                return x + self.noise * torch.randn_like(x)
            return x

        backbone.on_images(images)

    def apply(self, backbone, num_classes):
        self._apply(backbone, num_classes)


SIZES = {"steps": 6, "crop": 36, "batch_size": 4}
FP32 = {"precision": "fp32"}
"""What runs are compared in: with `auto` the precision depends on the machine."""


def select(methods="linear", seeds=(0,), **protocol):
    sizes = SIZES | FP32 | protocol
    return Selection(methods=methods, benchmarks="tiny", seeds=seeds, protocol=sizes)


def typed(**protocol):
    """Fields of a protocol as words of the command line."""
    return [f"--set={name}={value}" for name, value in (FP32 | protocol).items()]


def run(results, selection, max_seconds=None, **options):
    options.setdefault("watch", StopSignal(max_seconds))
    todo = grid.pending(plan(selection), results, options.pop("retry", None))
    return grid.run_cells(todo, results, device="cpu", **options)


def same(a, b, cell):
    ours, theirs = a / cell.folder, b / cell.folder
    assert (ours / "delta.safetensors").read_bytes() == (theirs / "delta.safetensors").read_bytes()
    with np.load(ours / "images.npz") as x, np.load(theirs / "images.npz") as y:
        assert all(np.array_equal(x[key], y[key]) for key in x)
