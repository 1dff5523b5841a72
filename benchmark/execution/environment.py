"""The machine that cells run on, and what is found out about it before the first one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.core.machine import find_device
from benchmark.core.spec import Compute, RunSpec
from benchmark.engine.compute import choose
from benchmark.models.weights import build_backbone
from benchmark.planning.catalogue import BENCHMARKS, build_method
from methods.base import Unsupported


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
    """

    data: Path | None = None
    weights: Sequence[Path] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    checkpoint_seconds: float | None = 60.0
    watch: StopSignal = field(default_factory=StopSignal)
    compiling: str = "auto"
    compute: Compute | None = None

    def compute_of(self, cell: RunSpec) -> Compute:
        """How a run computes; measured where that is neither fixed nor known.

        Raises:
            UserError: the backbone's weights are missing or damaged.
        """
        return self.compute or choose(cell, self.device, self.weights)


def check(cell: RunSpec, environment: Environment) -> str:
    """Finds out what would stop a cell, before anything is trained or written.

    Args:
        cell: its backbone, weights, crop and method matter.
        environment: where.

    Returns:
        Why the method cannot act on the backbone; empty where it can.

    Raises:
        UserError: weights are missing or damaged; the backbone cannot be staged or does not take
            the crop; a hyperparameter does not fit the backbone.
    """
    crop = cell.protocol.crop
    backbone = build_backbone(cell.backbone, cell.weights, environment.weights, crop)
    divisor = backbone.divisor
    if crop % divisor:
        near = max(divisor, crop // divisor * divisor)
        raise UserError(
            f"crop={crop} is no multiple of {divisor}, which backbone {cell.backbone!r} needs; "
            f"use --set crop={near} or --set crop={near + divisor}"
        )
    method = build_method(cell.method, cell.method_params)
    try:
        method.apply(backbone, len(BENCHMARKS.get(cell.benchmark).classes))
    except Unsupported as reason:
        return str(reason)
    except ValueError as error:
        raise UserError(f"{error} (backbone {cell.backbone!r})") from error
    except Exception:
        # A fault of the method's code stops its own cells only: they will fail with a traceback.
        return ""
    return ""


def prepare(
    data: Path | None,
    weights: Sequence[Path],
    device: str,
    workers: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    watch: StopSignal | None = None,
    compiling: str = "auto",
    compute: Compute | None = None,
) -> Environment:
    """The environment that options name; by default some workers where a GPU trains, else none.

    Raises:
        UserError: the device does not exist.
    """
    where = torch.device(find_device(device))
    if workers is None:
        workers = min(8, (os.cpu_count() or 1) - 1) if where.type == "cuda" else 0
    watch = watch or StopSignal()
    return Environment(
        data, tuple(weights), where, workers, checkpoint_seconds, watch, compiling, compute
    )
