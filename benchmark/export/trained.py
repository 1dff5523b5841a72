"""A finished run as what is exported: its network, and what a file has to say about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark.core.files import file_sha256
from benchmark.core.record import Task
from benchmark.data.task import palette_of
from benchmark.inference.find import Run, find_run
from benchmark.inference.predictor import Predictor
from benchmark.inference.restore import (
    Folders,
    backbone_of,
    folders_of,
    restore,
    task_in,
    weights_of,
)
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter
from benchmark.planning.catalogue import build_method
from methods.base import Method

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: its folder and its record.
        task: what it is for.
        method: with the settings of the run.
        weights: folders with weights files.
        data: data root; None = none is named.
    """

    run: Run
    task: Task
    method: Method
    weights: Sequence[Path] = ()
    data: Path | None = None

    def segmenter(self) -> Segmenter:
        """Its network, restored once more: in eval mode, in fp32, on the CPU.

        Raises:
            UserError: see `restore`.
        """
        return restore(self.run, self.task, self.backbone())

    def predictor(self) -> Predictor:
        """What `predict` computes of images that are resized already, on the CPU.

        Raises:
            UserError: see `restore`.
        """
        record = self.run.record
        sha256 = file_sha256(self.run.delta)
        return Predictor(record, self.task, self.segmenter(), lambda height, width: 1.0, sha256)

    def backbone(self) -> StagedBackbone:
        """The frozen backbone, as it is before a method is applied.

        Raises:
            UserError: see `backbone_of`.
        """
        return backbone_of(self.run, self.task, self.weights, CPU)

    def timm_model(self, backbone: StagedBackbone) -> tuple[nn.Module, dict[str, Any]]:
        """The timm model of the backbone whole, and how somebody else makes it.

        Args:
            backbone: that of the run, whose frozen weights it gets.

        Returns:
            The model, in eval mode, and `timm_model`, `timm_kwargs`, `indices`, `mean` and `std`:
            with these, `timm.create_model(timm_model, num_classes=0, **timm_kwargs)` gives it, and
            `forward_intermediates` of normalised images the maps for the decoder.

        Raises:
            UserError: see `ResolvedWeights.build`.
        """
        channels = self.task.channels
        resolved = weights_of(self.run, self.weights)
        side = backbone.fixed_side
        try:
            arguments = resolved.recipe(side, channels)
        except TypeError:  # its class takes no size: it has one already
            side = None
            arguments = resolved.recipe(None, channels)
        model = resolved.whole(side, channels)
        # Random weights are those of the run; others are these already.
        model.load_state_dict(self.backbone().model.state_dict(), strict=False)
        recipe = {
            "timm_model": resolved.timm_model,
            "timm_kwargs": arguments,
            "indices": backbone.indices,
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "divisor": backbone.divisor,
        }
        return model.eval().requires_grad_(False), recipe

    @property
    def side(self) -> int:
        """Height and width of the crops that it was trained on, px."""
        return self.run.spec.protocol.crop

    def about(self) -> dict[str, Any]:
        """What a file says about itself."""
        record = self.run.record
        colours = palette_of(self.task, record.benchmark)[: len(self.task.classes)]
        return {
            "run_id": record.run_id,
            "benchmark": record.benchmark,
            "backbone": record.backbone,
            "backbone_weights": record.provenance.weights,
            "method": record.method,
            "decoder": self.run.spec.protocol.decoder,
            "miou": None if record.metrics is None else round(record.metrics.miou, 4),
            "classes": list(self.task.classes),
            "palette": ["#" + bytes(rgb.tolist()).hex() for rgb in colours],
            "scale": self.task.scale,
            "shorter_side": self.task.shorter_side,
        }


def open_run(
    run: str | Path,
    results: str | Path = "results",
    weights: Folders = None,
    data: Path | None = None,
) -> Trained:
    """A finished run to export.

    Args:
        run: as `benchmark.load` takes it.
        results: the results folder that ids are looked up in.
        weights: folders with pretrained weights.
        data: data root, whose test images are compared; None = that of no files.

    Raises:
        UserError: there is no such run, it is not done, or its trained tensors are missing.
    """
    found = find_run(run, results)
    task = task_in(found)
    method = build_method(found.spec.method, found.spec.method_params)
    return Trained(found, task, method, tuple(folders_of(weights)), data)
