"""Mona: adapters that look at several scales, after attention and after the MLP."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Branch, Method, register

KERNELS = (3, 5, 7)


class MonaLayer(nn.Module):
    """What one Mona adds to a map; the equations are in `Mona`.

    Args:
        width: channels D of the map.
        bottleneck: channels r inside.

    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.normed_scale = nn.Parameter(torch.full((width,), 1e-6))
        self.input_scale = nn.Parameter(torch.ones(width))
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(bottleneck, bottleneck, k, padding=k // 2, groups=bottleneck) for k in KERNELS
        )
        self.pointwise = nn.Conv2d(bottleneck, bottleneck, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, D, H, W) to the same shape."""
        x = x.movedim(1, -1)
        x = self.normed_scale * self.norm(x) + self.input_scale * x
        z = self.down(x).movedim(-1, 1)
        z = z + torch.stack([conv(z) for conv in self.depthwise]).mean(0)
        z = z + self.pointwise(z)
        return self.up(F.gelu(z).movedim(1, -1)).movedim(-1, 1)


@register("mona")
@dataclass(frozen=True, kw_only=True)
class Mona(Method):
    """Adds multi-scale convolutional adapters after every branch.

    Changes the residual stream x after attention and after the MLP of each block:

        x <- x + Up(GELU(pw(dw(Down(g * LN(x) + gx * x)))))
        dw(z) = z + (DWConv3x3(z) + DWConv5x5(z) + DWConv7x7(z)) / 3,    pw(z) = z + Conv1x1(z)

    Down D->r, Up r->D; g and gx are learnt per channel and start at 1e-6 and 1; LN has an affine
    of its own. pw is residual in the published code. Nothing starts at zero, so the features
    change before the first step. The dropout (0.1) of the published code is left out. Prefix
    tokens are left unchanged. Blocks without these two branches (CNNs) have one Mona, after the
    block.

    Parameters of one: 2 D r + 5 D + r r + 88 r. ViT-B with r = 64, two per block: 2,684,928.

    Attributes:
        bottleneck: r.
        lr: learning rate of the adapters.

    """

    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Yin et al., 5%>100%: Breaking Performance Shackles of Full Fine-Tuning on Visual "
        "Recognition Tasks, CVPR 2025, arXiv 2408.08345"
    )
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"bottleneck": (32, 64, 128)}

    bottleneck: int = 64
    lr: float = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("bottleneck", self.bottleneck >= 1, "an integer of at least 1")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one Mona after each inner branch and one after each block."""

        def update(x: Tensor, stage: int, layer: MonaLayer) -> Tensor:
            grid, prefix = backbone.to_map(stage, x)
            return backbone.from_map(layer(grid), torch.zeros_like(prefix), x)

        def after_branch(y: Tensor, x: Tensor, stage: int, layer: MonaLayer) -> Tensor:
            # The stream after a branch is x + y, and what is added to y is added to it.
            return y + update(x + y, stage, layer)

        def after_block(x: Tensor, stage: int, layer: MonaLayer) -> Tensor:
            return x + update(x, stage, layer)

        def insert(name: str, width: int) -> MonaLayer:
            layer = MonaLayer(width, self.bottleneck)
            backbone.insert(f"mona_{name}".replace(".", "_"), layer)
            return layer

        for branch in self._inner(backbone):
            layer = insert(f"{branch.block}_{branch.part}", branch.width)
            backbone.behind(branch, partial(after_branch, stage=branch.stage, layer=layer))
        for stage, blocks in enumerate(backbone.stage_blocks()):
            for block in blocks:
                layer = insert(block, backbone.width(block))
                backbone.after_block(block, partial(after_block, stage=stage, layer=layer))

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the docstring's term over the inner branches and the blocks."""
        r = self.bottleneck
        widths = [branch.width for branch in self._inner(backbone)]
        widths += [backbone.width(block) for stage in backbone.stage_blocks() for block in stage]
        return sum(2 * d * r + 5 * d + r * r + 88 * r for d in widths)

    def _inner(self, backbone: Backbone) -> list[Branch]:
        """Branches that another one of the same block follows."""
        branches = backbone.branches()
        return [a for a, b in pairwise(branches) if a.block == b.block]
