"""What the float64 computations of methods share."""

import torch
from torch import Tensor

from benchmark.contract.models import CLASSES, tiny
from benchmark.models.backbone import StagedBackbone
from methods import METHODS


def doubled(family: str, method: str, **fields: object) -> StagedBackbone:
    """A tuned backbone in float64 whose trained tensors are all random (none is zero)."""
    torch.manual_seed(0)
    backbone = tiny(family).double()
    METHODS[method](**fields).apply(backbone, CLASSES)
    backbone.double().eval()
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    return backbone


def tokens_of(backbone: StagedBackbone, images: Tensor) -> Tensor:
    """The tokens that enter the first block of a ViT."""
    model = backbone.model
    return model.norm_pre(model._pos_embed(model.patch_embed(images)))


def as_maps(tokens: Tensor, height: int, width: int) -> Tensor:
    n, _, d = tokens.shape
    patches = tokens[:, 1:]
    return (
        torch.stack([patches[:, y * width : (y + 1) * width] for y in range(height)], dim=1)
        .reshape(n, height, width, d)
        .movedim(-1, 1)
    )
