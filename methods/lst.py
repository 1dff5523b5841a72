"""Ladder side tuning: a small network beside the frozen one, which no gradient enters."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register

TEMPERATURE = 0.1
LEAST_WIDTH = 8


class Rung(nn.Module):
    """One step of the ladder, s_i from h_i and s_{i-1}; the equations are in `LST`.

    Args:
        channels: C of the block.
        width: d of the side network here.
        before: its width one rung before; None on the first rung.

    """

    def __init__(self, channels: int, width: int, before: int | None) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, width, 1)
        if before is not None:
            self.gate = nn.Parameter(torch.zeros(1))
            self.carry = nn.Identity() if before == width else nn.Conv2d(before, width, 1)
        self.norm = nn.LayerNorm(width)
        self.enter, self.leave = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, h: Tensor, s: Tensor | None) -> Tensor:
        """Maps (N, C, H, W) and (N, d', H', W') to (N, d, H, W); s is None on the first rung."""
        z = self.down(h)
        if s is not None:
            g = torch.sigmoid(self.gate / TEMPERATURE)
            z = g * self.carry(resized(s, z)) + (1 - g) * z
        inner = self.norm(z.movedim(1, -1)).movedim(-1, 1)
        return z + self.leave(F.gelu(self.spatial(self.enter(inner))))


def resized(s: Tensor, like: Tensor) -> Tensor:
    """A map at the resolution of another; halving is then the mean of 2x2 positions."""
    if s.shape[-2:] == like.shape[-2:]:
        return s
    return F.interpolate(s, like.shape[-2:], mode="bilinear", align_corners=False)


@register("lst")
@dataclass(frozen=True, kw_only=True)
class LST(Method):
    """Trains a ladder of small blocks beside the frozen backbone.

    A ladder of small blocks that reads the output h_i of every frozen block i as a map:

        s_i = side_i(g_i s_{i-1} + (1 - g_i) Down_i(h_i)),    g_i = sigmoid(a_i / 0.1)
        side(z) = z + Conv1x1(GELU(DWConv3x3(Conv1x1(LN(z)))))
        feature of stage j for the decoder = h + Up_j(s),     h, s of its last block

    s_1 = side_1(Down_1(h_1)) (the paper's ladder starts one step earlier, from the embeddings); a_i
    is a learnt scalar that starts at 0; the side network has d = max(8, C // reduction) channels.
    Where the resolution changes, s_{i-1} is resized first, where d changes projected by a 1x1
    convolution. Up_j is zero at the start. The paper's side blocks are small transformer blocks;
    these are our choice for dense prediction and the same on all backbones. Every h_i is detached
    and the stages never see s, so that the backward pass never enters the backbone. Prefix tokens
    are not read.

    The published ladder starts from a pruned backbone, and its head sees Up(s) alone; ours starts
    at random and adds Up(s) to h.

    Parameters per block: C d + d (Down) + 2 d d + 14 d (side); on all but the first 1 more (gate)
    and d' d + d where its width d' before differs; per stage d C + C (Up). ViT-B: 1,421,195.

    Attributes:
        reduction: C // d.
        lr: learning rate of the side network.

    """

    keeps_structure: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Sung et al., LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer "
        "Learning, NeurIPS 2022, arXiv 2206.06522"
    )
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"reduction": (4, 8, 16)}

    reduction: int = 8
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("reduction", self.reduction >= 1, "an integer of at least 1")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the rungs and the projections after each stage."""
        rungs: dict[str, nn.Module] = {}
        for block, channels, width, before in self._rungs(backbone):
            rung = Rung(channels, width, before)
            rungs[block] = backbone.insert(f"rung_{block}".replace(".", "_"), rung)
        ups: list[nn.Module] = []
        for stage, (width, channels) in enumerate(self._ups(backbone)):
            up = nn.Conv2d(width, channels, 1)
            for parameter in up.parameters():
                nn.init.zeros_(parameter)
            ups.append(backbone.insert(f"up_{stage + 1}", up))
        outputs: dict[str, Tensor] = {}

        def keep(y: Tensor, block: str) -> Tensor:
            outputs[block] = y.detach()
            return y

        def climb(features: list[Tensor]) -> list[Tensor]:
            s, changed = None, []
            for stage, blocks in enumerate(backbone.stage_blocks()):
                for block in blocks:
                    h, _ = backbone.to_map(stage, outputs.pop(block))
                    s = rungs[block](h, s)
                feature = features[stage]
                changed.append(feature + ups[stage](resized(cast(Tensor, s), feature)))
            return changed

        for block in rungs:
            backbone.after_block(block, partial(keep, block=block))
        backbone.on_features(climb)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the docstring's terms."""
        total = sum(d * c + c for d, c in self._ups(backbone))
        for _, c, d, before in self._rungs(backbone):
            total += c * d + d + 2 * d * d + 14 * d
            if before is not None:
                total += 1 + (before * d + d if before != d else 0)
        return total

    def _width(self, channels: int) -> int:
        return max(LEAST_WIDTH, channels // self.reduction)

    def _rungs(self, backbone: Backbone) -> list[tuple[str, int, int, int | None]]:
        """Block, its channels, width of the side network there and one block before."""
        blocks = [block for stage in backbone.stage_blocks() for block in stage]
        channels = [backbone.width(block) for block in blocks]
        widths = [self._width(c) for c in channels]
        return list(zip(blocks, channels, widths, [None, *widths[:-1]], strict=True))

    def _ups(self, backbone: Backbone) -> list[tuple[int, int]]:
        """Width of the side network and channels at the end of each stage."""
        stages = backbone.stage_blocks()
        if not all(stages):
            raise Unsupported(f"{self.name} needs a block in each of the four stages")
        widths = [self._width(backbone.width(blocks[-1])) for blocks in stages]
        return list(zip(widths, backbone.channels, strict=True))
