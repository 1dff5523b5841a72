"""One small random model of each family, and a segmenter around it."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.engine.losses import segmentation_loss
from benchmark.models.backbone import StagedBackbone
from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import create_timm_model
from methods import Method

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {"depth": 5, "embed_dim": 24, "num_heads": 2}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 4)},
    ),
    "convnext": ("convnext_tiny", {"dims": (16, 20, 24, 28), "depths": (1, 1, 2, 1)}),
    "convnext_conv": ("convnext_atto", {"dims": (16, 20, 24, 28), "depths": (1, 1, 2, 1)}),
    "resnet": ("resnet10t", {"channels": (8, 12, 16, 20)}),
    "bottleneck": ("resnet26", {"channels": (8, 10, 12, 14)}),
    "mobilenet": ("mobilenetv2_035", {}),
}

CLASSES = 4

KINDS = ("vit", "swin", "resnet")
"""One family of each kind of backbone."""


def tiny(family: str, seed: int = 0) -> StagedBackbone:
    """A frozen random backbone; the same one for the same seed.

    Parameters are drawn at random: initial values such as a layer scale of 1e-6 or a zero gain
    would hide what a method does.
    """
    name, kwargs = FAMILIES[family]
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = create_timm_model(name, kwargs)
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                torch.nn.init.uniform_(parameter, 0.5, 1.0)
        return StagedBackbone(model, name=family)


def tiny_segmenter(family: str, method: Method, seed: int = 0, drawn: int = 1) -> Segmenter:
    """A tuned segmenter; the backbone comes from `seed`, what the method draws from `drawn`."""
    with torch.random.fork_rng():
        backbone = tiny(family, seed)
        torch.manual_seed(drawn)
        method.apply(backbone, CLASSES)
        torch.manual_seed(seed + 2)
        return Segmenter(backbone, LinearDecoder(backbone.channels, backbone.strides, CLASSES))


class Unequal:
    """Training data of which the classes take unequal shares."""

    def class_frequencies(self) -> Tensor:
        """1 : 2 : ... : K."""
        counts = torch.arange(1.0, CLASSES + 1)
        return counts / counts.sum()


def batch(size: tuple[int, int] = (64, 96), n: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and labels (N, H, W) that depend on them; some pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, size[0] // 16, size[1] // 16, generator=generator)
    images = F.interpolate(coarse, size)
    labels = images.argmax(1)
    labels[:, :3] = 255
    return images, labels


def train_steps(segmenter: Segmenter, method: Method, steps: int) -> float:
    """Trains on one batch with AdamW at the method's own rates.

    Returns:
        The loss before the last step; gradients of it are kept.

    """
    images, labels = batch()
    groups = method.parameter_groups(segmenter.backbone)
    decoder = {"params": [p for p in segmenter.decoder.parameters() if p.requires_grad], "lr": 1e-2}
    optimiser = torch.optim.AdamW([*groups, decoder])
    value = float("nan")
    segmenter.train()
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss = loss_of(segmenter, method, images, labels)
        loss.backward()
        optimiser.step()
        method.after_step(segmenter.backbone, step, steps)
        value = loss.item()
    return value


def loss_of(segmenter: Segmenter, method: Method, images: Tensor, labels: Tensor) -> Tensor:
    """Segmentation loss with the method's own."""
    loss = segmentation_loss(segmenter(images), labels)
    extra = method.auxiliary_loss(segmenter.backbone, labels)
    return loss if extra is None else loss + extra
