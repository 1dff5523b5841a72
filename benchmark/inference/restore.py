"""Stored runs as networks: backbone, method and decoder with what was trained."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from benchmark.core.errors import UserError
from benchmark.core.machine import find_device
from benchmark.core.record import Task
from benchmark.core.seeding import torch_stream
from benchmark.data.task import task_of
from benchmark.engine.build import attach
from benchmark.inference.find import Run
from benchmark.models import delta as deltas
from benchmark.models.backbone import StagedBackbone
from benchmark.models.find_weights import find_weights
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import ResolvedWeights, resolve_weights
from benchmark.planning import remembered
from benchmark.planning.catalogue import BENCHMARKS, build_method
from benchmark.results import asked

Folders = str | Path | Sequence[str | Path] | None
"""Folders with weights files; None = that of `BENCHMARK_WEIGHTS`, where it is set."""


def folders_of(weights: Folders) -> list[Path]:
    """The folders of weights that are meant."""
    if weights is None:
        weights = os.environ.get("BENCHMARK_WEIGHTS") or ()
    return [Path(weights)] if isinstance(weights, str | Path) else [Path(one) for one in weights]


def device_of(device: str | torch.device | None) -> torch.device:
    """The device that is meant; None = a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    return torch.device(find_device("auto" if device is None else str(device)))


def task_in(run: Run) -> Task:
    """What a run's network is for; of an older record, what the benchmark says now.

    Raises:
        UserError: the benchmark is not known, or has other classes now.
    """
    record = run.record
    if record.task is not None:
        return record.task
    remembered.require(record, run.root, ["benchmark"])
    task = task_of(BENCHMARKS.get(record.benchmark))
    if record.metrics is not None and tuple(record.metrics.class_iou) != task.classes:
        raise UserError(
            f"run {record.run_id} knows {len(record.metrics.class_iou)} classes of "
            f"{record.benchmark}, which now has {len(task.classes)} or others; check out the "
            "commit that its provenance names"
        )
    return task


def backbone_of(
    run: Run, task: Task, weights: Sequence[Path], device: torch.device
) -> StagedBackbone:
    """The frozen backbone of a run.

    Raises:
        UserError: its weights are not there, or are not those that it was trained on.
    """
    spec = run.spec
    with torch_stream(spec.seed, "backbone-init"):
        backbone = weights_of(run, weights).build(spec.protocol.crop, task.channels, again=False)
    check_weights(run, backbone)
    return backbone.to(device)


def weights_of(run: Run, weights: Sequence[Path]) -> ResolvedWeights:
    """The weights of a run's backbone, in the folders named or in those of its grid.

    `check_weights` tells whether the run was trained on them.

    Raises:
        UserError: they are not there.
    """
    spec = run.spec
    known = asked.folders(run.root, spec.suite)
    folders = [*weights, *(known.weights if known else ())]
    try:
        return resolve_weights(spec.backbone, spec.weights, folders)
    except UserError as error:
        if spec.weights == "none" or find_weights(spec.backbone, folders) is not None:
            raise
        looked = ", ".join(map(str, folders)) or "timm's cache"
        raise UserError(
            f"run {run.record.run_id} needs the pretrained weights of {spec.backbone}, which are "
            f"not in {looked}; name the folder that holds {spec.backbone}.safetensors with "
            "--weights DIR"
        ) from error


def check_weights(run: Run, backbone: StagedBackbone) -> None:
    """Raises UserError unless a backbone has the weights that a run was trained on."""
    recorded = run.record.provenance.weights_sha256
    if recorded is not None and recorded != backbone.weights_sha256:
        raise UserError(
            f"run {run.record.run_id} was trained on other weights of {run.spec.backbone} than "
            f"{backbone.weights_source} (SHA-256 {recorded[:12]}..., here "
            f"{str(backbone.weights_sha256)[:12]}...); name the folder of the former ones with "
            "--weights DIR, or repeat the run"
        )


def restore(run: Run, task: Task, backbone: StagedBackbone) -> Segmenter:
    """The network of a run, in eval mode, with nothing that could be trained.

    Args:
        run: done.
        task: what it is for.
        backbone: that of the run, which no method was applied to; changed in place.

    Raises:
        UserError: the trained tensors cannot be read, or do not fit.
    """
    remembered.require(run.record, run.root, ["method", "decoder"])
    device = next(backbone.parameters()).device
    method = build_method(run.spec.method, run.spec.method_params)
    segmenter = attach(backbone, run.spec, method, len(task.classes)).to(device)
    try:
        state = load_file(run.delta)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{run.delta} cannot be read ({error}); repeat the run") from error
    try:
        deltas.load_delta(segmenter, state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise UserError(f"{run.delta} does not fit the run ({error}); repeat the run") from error
    return segmenter.eval().requires_grad_(False)
