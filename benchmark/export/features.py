"""What a folder needs beside a timm model: the decoder, and how to put the two together."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from benchmark.export.agreement import Agreement, check
from benchmark.export.formats import write_json, write_tensors
from benchmark.export.graph import Entry, Network, read_graph, sizes_of, traced, write_graph
from benchmark.export.trained import Trained
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter

DECODER = "decoder.pt2"


def maps_of(model: nn.Module, backbone: StagedBackbone, pixels: Tensor) -> list[Tensor]:
    """The maps that a plain timm model gives for the decoder."""
    return cast(Any, model).forward_intermediates(
        pixels,
        indices=backbone.indices,
        intermediates_only=True,
        output_fmt="NCHW",
        norm=False,
    )


def compare_features(
    trained: Trained, segmenter: Segmenter, model: nn.Module, path: Path
) -> Agreement:
    """Compares a timm model, with the decoder that was written behind it, with the run's network.

    Raises:
        UserError: they disagree.
    """
    backbone = segmenter.backbone
    entry, decoder = Entry(backbone), read_graph(path / DECODER)

    def exported(image: Tensor) -> Tensor:
        pixels = entry(image)
        coarse = decoder(*maps_of(model, backbone, pixels))
        logits = F.interpolate(coarse, pixels.shape[-2:], mode="bilinear")
        return logits[..., : image.shape[-2], : image.shape[-1]]

    sizes = sizes_of(backbone, trained.side)
    return check(trained, Network(segmenter).eval(), exported, sizes)


class _Decoder(nn.Module):
    """A decoder that takes each map by itself."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps (N, C_i, H_i, W_i) to logits (N, K, H_1, W_1)."""
        return self.decoder(list(maps))


def write_decoder(trained: Trained, segmenter: Segmenter, path: Path) -> None:
    """Writes the decoder's weights and its graph into a folder."""
    backbone = segmenter.backbone
    state, name = segmenter.decoder.state_dict(), trained.run.spec.protocol.decoder
    write_tensors(path / "decoder.safetensors", state, {"decoder": name})
    side = 3 * (backbone.fixed_side or backbone.divisor) // (3 if backbone.fixed_side else 1)
    maps = tuple(
        torch.rand(2, channels, side // stride, side // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    )
    shapes = (tuple({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO} for _ in maps),)
    program = traced(_Decoder(segmenter.decoder).eval(), maps, shapes)
    write_graph(program, path / DECODER)


def write_task(trained: Trained, path: Path, recipe: dict[str, Any], agreement: Agreement) -> str:
    """Writes `task.json`, which says how to use what is in a folder.

    Args:
        trained: the run.
        path: the folder.
        recipe: of the timm model; see `Trained.timm_model`.
        agreement: that was found.

    Returns:
        What there is, for people.
    """
    write_json(path / "task.json", trained.about() | recipe | {"agreement": str(agreement)})
    return f"{DECODER} takes the maps of the timm model (task.json says which)"
