"""From the name of a run to a network in use."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmark.core.files import file_sha256
from benchmark.core.record import Task
from benchmark.data.task import scale_of
from benchmark.inference.find import Run, find_run
from benchmark.inference.predictor import Predictor
from benchmark.inference.restore import (
    Folders,
    backbone_of,
    device_of,
    folders_of,
    restore,
    task_in,
)
from benchmark.models.segmenter import Segmenter
from benchmark.planning import remembered
from benchmark.planning.catalogue import BENCHMARKS


def load(
    run: str | Path,
    *,
    results: str | Path = "results",
    weights: Folders = None,
    device: str | torch.device | None = None,
) -> Predictor:
    """A finished run as a network that labels images.

    On the CPU of the run, with as many threads, it gives the masks that the run was scored on, bit
    for bit; on a GPU up to rounding, because there the evaluation passes several images at once.

    Args:
        run: a run id, or its first characters; or the folder of a run, wherever it is.
        results: the results folder, or its URL, that ids are looked up in.
        weights: folders with pretrained weights; None = that of `BENCHMARK_WEIGHTS`, where it is
            set. Then timm's cache is asked.
        device: None = a GPU where there is one.

    Raises:
        UserError: there is no such run, it is not done, or what it needs is missing or another:
            trained tensors, pretrained weights, a plug-in file.

    Example:
        >>> network = load("3f2a")  # doctest: +SKIP
        >>> mask = network.predict("street.jpg")  # doctest: +SKIP
        >>> network.classes[mask[0, 0]]  # doctest: +SKIP
        'sky'
    """
    found = find_run(run, results)
    task = task_in(found)
    backbone = backbone_of(found, task, folders_of(weights), device_of(device))
    return predictor_of(found, task, restore(found, task, backbone))


def predictor_of(
    run: Run, task: Task, segmenter: Segmenter, casts: Mapping[int, Tensor] | None = None
) -> Predictor:
    """A restored network with what using it needs; `casts` as `Predictor` takes them.

    Raises:
        UserError: how images are resized is not known.
    """
    code = None
    if task.scale is None and task.shorter_side is None:
        remembered.require(run.record, run.root, ["benchmark"])
        code = BENCHMARKS.get(run.record.benchmark)
    scale = scale_of(task, code)
    return Predictor(run.record, task, segmenter, scale, file_sha256(run.delta), casts)
