"""The machine that cells run on, and what is found out about it before the first one."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.catalogue import BENCHMARKS, build_method
from benchmark.data.base import Benchmark, Split
from benchmark.data.cache import Progress as Decoding
from benchmark.data.cache import open_split
from benchmark.data.examples import Examples
from benchmark.data.seal import check_seal
from benchmark.errors import UserError
from benchmark.interrupt import Watch
from benchmark.machine import find_device
from benchmark.models.weights import build_backbone, check_weights
from benchmark.spec import RunSpec
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
        compiling: whether networks are compiled, one of `benchmark.compiling.CHOICES`.
    """

    data: Path | None = None
    weights: Sequence[Path] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    checkpoint_seconds: float | None = 60.0
    watch: Watch = field(default_factory=Watch)
    compiling: str = "auto"


@functools.cache
def open_benchmark(name: str, root: Path | None) -> Benchmark:
    """The benchmark, once a process."""
    return BENCHMARKS.get(name)(root)


_OPEN: dict[tuple[str, Path | None, Split], Examples] = {}


def decoded(
    name: str, root: Path | None, split: Split, progress: Decoding | None = None
) -> Examples:
    """A split, opened once a process; training images at the benchmark's working scale."""
    check_seal(name, split)  # one that is open already, too
    key = (name, root, split)
    if key not in _OPEN:
        scaled = split == "train"
        _OPEN[key] = open_split(open_benchmark(name, root), split, scaled, progress)
    return _OPEN[key]


def preflight(
    cells: Sequence[RunSpec], environment: Environment, progress: Decoding | None = None
) -> dict[str, str]:
    """Finds out, before anything is trained or written, what would stop cells.

    Data is read last, because that takes longest.

    Args:
        cells: what is to be run.
        environment: where.
        progress: told about the decoding of splits that are not in the cache.

    Returns:
        By run id why a method cannot act on a backbone.

    Raises:
        Interrupted: a signal came; what was decoded in part is given up.
        UserError: weights or data are missing or damaged; a backbone cannot be staged or does not
            take the crop; a hyperparameter does not fit a backbone.
    """
    for name, kind in dict.fromkeys((cell.backbone, cell.weights) for cell in cells):
        check_weights(name, kind, environment.weights)
        divisor = build_backbone(name, kind, environment.weights).divisor
        for crop in {cell.protocol.crop for cell in cells if cell.backbone == name}:
            if crop % divisor:
                near = max(divisor, crop // divisor * divisor)
                raise UserError(
                    f"crop={crop} is no multiple of {divisor}, which backbone {name!r} needs; "
                    f"use --set crop={near} or --set crop={near + divisor}"
                )
    refusals = _refusals(cells, environment)

    def watched(what: str, done: int, total: int) -> None:
        environment.watch.check_signal(f"while {what} was decoded")
        if progress:
            progress(what, done, total)

    for name, split in dict.fromkeys((cell.benchmark, cell.protocol.eval_split) for cell in cells):
        decoded(name, environment.data, "train", watched)
        decoded(name, environment.data, split, watched)
    return refusals


def prepare(
    data: Path | None,
    weights: Sequence[Path],
    device: str,
    workers: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    watch: Watch | None = None,
    compiling: str = "auto",
) -> Environment:
    """The environment that options name; by default some workers where a GPU trains, else none.

    Raises:
        UserError: the device does not exist.
    """
    where = torch.device(find_device(device))
    if workers is None:
        workers = min(8, (os.cpu_count() or 1) - 1) if where.type == "cuda" else 0
    watch = watch or Watch()
    return Environment(data, tuple(weights), where, workers, checkpoint_seconds, watch, compiling)


def _refusals(cells: Sequence[RunSpec], environment: Environment) -> dict[str, str]:
    """Applies every method once to every backbone that it is asked for."""
    tried: dict[tuple[str, ...], str] = {}
    for cell in cells:
        key = (cell.method_label, cell.backbone, cell.weights)
        if key not in tried:
            tried[key] = _refusal(cell, environment)
    found = {c.run_id: tried[c.method_label, c.backbone, c.weights] for c in cells}
    return {run_id: reason for run_id, reason in found.items() if reason}


def _refusal(cell: RunSpec, environment: Environment) -> str:
    method = build_method(cell.method, cell.method_params)
    backbone = build_backbone(cell.backbone, cell.weights, environment.weights)
    try:
        method.tune(backbone, len(BENCHMARKS.get(cell.benchmark).classes))
    except Unsupported as reason:
        return str(reason)
    except ValueError as error:
        raise UserError(f"{error} (backbone {cell.backbone!r})") from error
    except Exception:
        # A fault of the method's code stops its own cells only: they will fail with a traceback.
        return ""
    return ""
