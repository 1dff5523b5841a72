"""Side tuning: a small network on the image, blended with the frozen features."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register


class Level(nn.Module):
    """The side network between two strides, and the blend with the frozen features there.

    Args:
        inputs: channels that come in.
        width: channels w of the side network.
        channels: C of the frozen features.
        factors: stride of each convolution; their product is that of the level.

    """

    def __init__(self, inputs: int, width: int, channels: int, factors: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for factor in factors:
            k = kernel_size(factor)
            conv = nn.Conv2d(inputs, width, k, stride=factor, padding=k // 2, bias=False)
            layers += [conv, nn.GroupNorm(1, width), nn.GELU()]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(width, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Side map of the level before and frozen map to side map and blended map."""
        x = self.layers(x)
        a = torch.sigmoid(self.alpha)
        return x, a * feature + (1 - a) * self.out(x)


def kernel_size(stride: int) -> int:
    """Of a layer with a prime stride: 3, or the stride where windows of 3 would miss pixels."""
    return max(3, stride)


def prime_factors(ratio: int) -> list[int]:
    """In rising order, the largest last; [1] for 1. A stride of 14 is 2 and then 7."""
    found, factor = [], 2
    while ratio > 1:
        while ratio % factor == 0:
            found.append(factor)
            ratio //= factor
        factor += 1
    return found or [1]


@register("side")
@dataclass(frozen=True, kw_only=True)
class Side(Method):
    """Blends frozen features with a small network on the image.

    Blends each frozen feature map B_i with one of a small convolutional network S on the image:

        feature_i = a_i B_i + (1 - a_i) Conv1x1 w->C_i (S_i),    a_i = sigmoid(alpha_i)
        S_i = layers of level i (S_{i-1}),    S_0 = image,    layer = GELU(GroupNorm(Conv(.)))

    alpha_i is learnt from 0, so a_i starts at 0.5 as published. Level i goes from stride
    t_{i-1} to t_i of the backbone (t_0 = 1): one layer for each prime factor of t_i / t_{i-1},
    with w channels, a kernel of 3 (the factor itself where that is larger) and one group in the
    norm; where the stride does not change (plain ViT) one layer without stride. The published
    side networks start from the base or are distilled from it; this one starts at random. No
    gradient enters the backbone.

    Parameters per level: sum of k k c w + 2 w over its layers (c = 3 in the first, else w), then
    w C + C + 1. ViT-B with w = 32: 157,988.

    Attributes:
        width: w.
        lr: learning rate of the side network and of alpha.

    """

    keeps_structure: ClassVar[bool] = True
    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Zhang et al., Side-Tuning: A Baseline for Network Adaptation via Additive Side "
        "Networks, ECCV 2020, arXiv 1912.13503"
    )
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"width": (16, 32, 64)}

    width: int = 32
    lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("width", self.width >= 1, "an integer of at least 1")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the side network and blends what it returns."""
        levels: list[nn.Module] = []
        for i, factors in enumerate(self._factors(backbone)):
            inputs = self.width if i else backbone.in_chans
            level = Level(inputs, self.width, backbone.channels[i], factors)
            levels.append(backbone.insert(f"level_{i + 1}", level))
        kept: list[Tensor] = []

        def keep(images: Tensor) -> Tensor:
            kept[:] = [images]
            return images

        def blend(features: list[Tensor]) -> list[Tensor]:
            x, blended = kept.pop(), []
            for level, feature in zip(levels, features, strict=True):
                x, y = level(x, feature)
                blended.append(y)
            return blended

        backbone.on_images(keep)
        backbone.on_features(blend)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the docstring's term over the four levels."""
        total, inputs, w = 0, backbone.in_chans, self.width
        for channels, factors in zip(backbone.channels, self._factors(backbone), strict=True):
            for factor in factors:
                total += kernel_size(factor) ** 2 * inputs * w + 2 * w
                inputs = w
            total += w * channels + channels + 1
        return total

    def _factors(self, backbone: Backbone) -> list[list[int]]:
        """Strides of the layers of each level."""
        steps = list(pairwise((1, *backbone.strides)))
        if any(after % before for before, after in steps):
            raise Unsupported(
                f"{self.name} needs strides that divide one another, not {backbone.strides}"
            )
        return [prime_factors(after // before) for before, after in steps]
