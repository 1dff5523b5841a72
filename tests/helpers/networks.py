"""Runs with real networks that nobody trained, at their places: made in a second, not a minute."""

from pathlib import Path

import torch
from torch.nn import functional as F

from benchmark.data.task import task_of
from benchmark.engine.build import build_segmenter
from benchmark.models import delta as deltas
from benchmark.planning.catalogue import BENCHMARKS, build_method
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from tests.helpers.records import record


def store_network(
    root: Path,
    method: str = "linear",
    benchmark: str = "cells",
    backbone: str = "demo_vit",
    weights: str = "pretrained",
    precision: str = "fp32",
    **protocol: object,
) -> Path:
    """A finished run whose trained tensors are drawn at random, near their beginning.

    Returns:
        Its folder, below the results folder `root`.
    """
    spec = plan(
        Selection(
            methods=method,
            benchmarks=benchmark,
            backbones=backbone,
            weights=weights,
            protocol={"precision": precision} | protocol,
        )
    )[0]
    made = build_method(spec.method, spec.method_params)
    segmenter, pristine = build_segmenter(spec, made, (), torch.device("cpu"))
    random = torch.Generator().manual_seed(len(benchmark) + len(method))
    with torch.no_grad():
        for parameter in segmenter.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=random)
        for parameter in segmenter.decoder.parameters():
            parameter += torch.randn(parameter.shape, generator=random)
        # No class wins everywhere: masks of a single one would tell nothing.
        side = segmenter.backbone.fixed_side or 8 * segmenter.backbone.divisor
        noise = torch.randint(256, (4, 3, side // 8, side // 8), generator=random)
        blocks = noise.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)
        means = segmenter.eval()(F.pad(blocks, 2 * [0, side % 8])).mean((0, 2, 3))
        *_, bias = (one for one in segmenter.decoder.parameters() if one.shape == means.shape)
        bias -= means
    kind = BENCHMARKS.get(spec.benchmark)
    base = record(
        spec.method_label,
        spec.benchmark,
        suite=spec.suite,
        run_id=spec.run_id,
        backbone=spec.backbone,
        weights=spec.weights,
        method_params=spec.method_params,
        protocol=spec.protocol.model_dump(mode="json"),
        protocol_hash=spec.protocol.hash,
        task=task_of(kind),
    )
    folder = root / spec.folder
    folder.mkdir(parents=True)
    stored = deltas.write(segmenter, pristine, folder / "delta.safetensors")
    assert base.metrics is not None and base.costs is not None
    metrics = base.metrics.model_copy(
        update={"class_iou": dict.fromkeys(kind.classes, 0.5), "absent_classes": []}
    )
    found = {"weights_sha256": segmenter.backbone.weights_sha256, "precision": precision}
    store.write_record(
        folder,
        base.model_copy(
            update={
                "metrics": metrics,
                "costs": base.costs.model_copy(update={"stored": stored}),
                "provenance": base.provenance.model_copy(update=found),
            }
        ),
    )
    return folder
