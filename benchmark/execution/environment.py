"""The machine that cells run on, and what is checked before the first one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.core.interrupt import StopSignal
from benchmark.core.machine import find_device
from benchmark.core.spec import Compute, RunSpec
from benchmark.engine.compute import choose
from benchmark.engine.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Environment:
    """What is the machine's and not the run's.

    Attributes:
        data: data root; None where only generated benchmarks are run.
        weights: folders with weight files.
        device: where to train.
        workers: processes that cut training crops; 0 = the one that trains.
        checkpoint_seconds: between checkpoints of a training; None = none is written.
        watch: says when a run must stop.
        compiling: whether networks are compiled, one of `compile_policy.CHOICES`.
        compute: precision and attention of every run; None = what is fast for each.
        ranks: the processes that train each run together, this one among them.
        shard: the network is spread over them.
    """

    data: Path | None = None
    weights: Sequence[Path] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    checkpoint_seconds: float | None = 60.0
    watch: StopSignal = field(default_factory=StopSignal)
    compiling: str = "auto"
    compute: Compute | None = None
    ranks: Ranks = ALONE
    shard: bool = False

    def compute_of(self, cell: RunSpec) -> Compute:
        """How a run computes; measured where that is neither fixed nor known.

        Raises:
            UserError: the backbone's weights are missing or damaged.
        """
        return self.compute or choose(cell, self.device, self.weights)


def prepare(
    data: Path | None,
    weights: Sequence[Path],
    device: str,
    workers: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    watch: StopSignal | None = None,
    compiling: str = "auto",
    compute: Compute | None = None,
    ranks: Ranks = ALONE,
    shard: bool = False,
) -> Environment:
    """The environment that options name; by default some workers where a GPU trains, else none.

    Raises:
        UserError: the device does not exist.
    """
    where = torch.device(find_device(device))
    if workers is None:
        cores = ((os.cpu_count() or 1) - 1) // ranks.count
        workers = min(8, cores) if where.type == "cuda" else 0
    return Environment(
        data=data,
        weights=tuple(weights),
        device=where,
        workers=workers,
        checkpoint_seconds=checkpoint_seconds,
        watch=watch or StopSignal(),
        compiling=compiling,
        compute=compute,
        ranks=ranks,
        shard=shard,
    )
