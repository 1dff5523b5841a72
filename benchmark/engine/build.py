"""A segmenter of a run: backbone, method and decoder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.core.seeding import torch_stream
from benchmark.core.spec import RunSpec
from benchmark.models import delta as deltas
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import build_backbone
from benchmark.planning.catalogue import BENCHMARKS, DECODERS
from methods.base import Method


def build_segmenter(
    spec: RunSpec, method: Method, weights: Sequence[Path], device: torch.device
) -> tuple[Segmenter, deltas.Pristine]:
    """Backbone, method and decoder of a run, each from its own random stream.

    Args:
        spec: backbone, its weights, benchmark, decoder and seed.
        method: that is applied.
        weights: folders with weight files.
        device: where the segmenter will be.

    Returns:
        The segmenter, and what the backbone was before the method touched it.
    """
    benchmark = BENCHMARKS.get(spec.benchmark)
    classes = len(benchmark.classes)
    with torch_stream(spec.seed, "backbone-init"):
        backbone = build_backbone(
            spec.backbone, spec.weights, weights, spec.protocol.crop, benchmark.channels
        )
    pristine = deltas.snapshot(backbone)
    return attach(backbone, spec, method, classes).to(device), pristine


def attach(backbone: StagedBackbone, spec: RunSpec, method: Method, classes: int) -> Segmenter:
    """Applies a run's method to a backbone, and puts its decoder behind; both as they begin.

    Args:
        backbone: a fresh one; changed in place.
        spec: decoder and seed.
        method: that is applied.
        classes: of the task.
    """
    with torch_stream(spec.seed, "method-init"):
        method.apply(backbone, classes)
    with torch_stream(spec.seed, "decoder-init"):
        build = DECODERS.get(spec.protocol.decoder)
        decoder = build(backbone.channels, backbone.strides, classes)
    return Segmenter(backbone, decoder)
