"""Convpass: small convolutional bypasses beside attention and MLP."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Branch, Method, Unsupported, register


class Bypass(nn.Module):
    """Weights of one bypass; the equation is in `Convpass`.

    Args:
        width: channels D of the branch.
        bottleneck: channels r inside.

    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self.conv = nn.Conv2d(bottleneck, bottleneck, 3, padding=1)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.dirac_(self.conv.weight)
        biases = (self.down.bias, self.conv.bias, self.up.bias)
        for zero in (self.up.weight, *biases):
            nn.init.zeros_(cast(Tensor, zero))

    def single(self, x: Tensor) -> Tensor:
        """The convolution on 1x1 maps (..., r): the padding leaves only its centre tap."""
        return F.linear(x, self.conv.weight[:, :, 1, 1], self.conv.bias)


@register("convpass")
@dataclass(frozen=True, kw_only=True)
class Convpass(Method):
    """Adds a small convolutional bypass to every residual branch.

    Adds a convolutional bottleneck to what each residual branch of a block returns:

        x + part(LN x) + s Up(GELU(Conv3x3(GELU(Down(LN x))))),    Down D->r, Up r->D

    The dense 3x3 convolution (r -> r) sees the tokens as a map of any height and width. Each
    prefix token passes through it as a 1x1 map of its own, as in the published code. Down starts
    Xavier, the convolution as the identity, Up at zero. The published code has QuickGELU in place
    of GELU, and dropout 0.1 and stochastic depth, which are left out here.

    Parameters per branch: 2 D r + r + D + 9 r r + r. ViT-B with r = 8: 327,552 (two per block);
    ConvNeXt has one per block, beside the MLP.

    Attributes:
        bottleneck: r.
        scale: s, fixed; the paper picks it per task from 0.01, 0.1, 1, 10, 100.
        lr: learning rate of the bypasses.

    """

    reference: ClassVar[str] = (
        "Jie and Deng, Convolutional Bypasses Are Better Vision Transformer Adapters, 2022, "
        "arXiv 2207.07039"
    )
    tunes: ClassVar[dict[str, tuple[float, ...]]] = {"scale": (0.1, 0.3, 1.0, 3.0, 10.0)}

    bottleneck: int = 8
    scale: float = 1.0
    lr: float = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("bottleneck", self.bottleneck >= 1, "an integer of at least 1")
        self._require("scale", self.scale > 0, "greater than 0")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one bypass per residual branch."""

        def update(h: Tensor, branch: Branch, bypass: Bypass) -> Tensor:
            z = F.gelu(bypass.down(h))
            grid, prefix = backbone.to_map(branch.stage, z)
            z = backbone.from_map(bypass.conv(grid), bypass.single(prefix), z)
            return self.scale * bypass.up(F.gelu(z))

        for branch in self._branches(backbone):
            bypass = Bypass(branch.width, self.bottleneck)
            backbone.insert(f"bypass_{branch.block}_{branch.part}".replace(".", "_"), bypass)
            backbone.beside(branch, partial(update, branch=branch, bypass=bypass))

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the docstring's term over the branches."""
        r = self.bottleneck
        widths = [branch.width for branch in self._branches(backbone)]
        return sum(2 * d * r + r + d + 9 * r * r + r for d in widths)

    def _branches(self, backbone: Backbone) -> tuple[Branch, ...]:
        if not backbone.branches():
            raise Unsupported(
                f"{self.name} needs residual branches that begin with a norm; the blocks of "
                f"{type(backbone.model).__name__} have none"
            )
        return backbone.branches()
