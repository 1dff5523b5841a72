"""Adapters: small bottlenecks beside or after the parts of a block."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Branch, Method, Unsupported, register


class Bottleneck(nn.Module):
    """Up(act(Down(x))) over the last axis; Down Kaiming, Up and both biases zero.

    Args:
        width: channels D of input and output.
        bottleneck: channels r between.
        gelu: GELU as activation; otherwise ReLU.

    """

    def __init__(self, width: int, bottleneck: int, gelu: bool) -> None:
        super().__init__()
        self.act = F.gelu if gelu else F.relu
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        return self.up(self.act(self.down(x)))


class ScaledBottleneck(Bottleneck):
    """c * Up(GELU(Down(x))) with a learnt scale c (D) that starts at 1."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__(width, bottleneck, gelu=True)
        self.channel_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        return self.channel_scale * super().forward(x)


@register("adapter")
@dataclass(frozen=True, kw_only=True)
class Adapter(Method):
    """Adds small bottleneck adapters to every block.

    Four published places for a bottleneck A(h) = Up(act(Down(h))), of width D and r inside:

        adaptformer     x + MLP(LN x) + s A(LN x)         ReLU; beside the MLP
        houlsby         x + part(LN x) + A(part(LN x))    GELU; after attention and after the MLP
        pfeiffer        the same, after the MLP only
        adapter-plus    y + c * A(y), y = block(x)        GELU; c learnt per channel, starts at 1

    In a block without an MLP (ResNet, MobileNetV2) `adaptformer` is y + s A(y), y = block(x), a
    residual adapter; in ConvNeXt it is outside the layer scale. Only Up (and the biases) are zero
    at the start: with both projections zero only a bias would ever change.

    Departures: AdaptFormer's code feeds its adapter the stream before the norm (ours is the
    paper's equation) and has dropout 0.1. The code of Adapters Strike Back draws both projections
    from N(0, 0.01), trains the norms in `houlsby`, and has r = 8 and stochastic depth. `pfeiffer`
    follows the VPT code; Adapters Strike Back calls it "intermediate".

    Parameters: a bottleneck has 2 D r + r + D (`adapter-plus`: D more). One per block, `houlsby`
    two. ViT-B with r = 64: adaptformer 1,189,632.

    Attributes:
        form: which of the four.
        bottleneck: r.
        scale: s of adaptformer.
        lr: learning rate of the adapters.

    """

    reference: ClassVar[str] = (
        "Chen et al., AdaptFormer, NeurIPS 2022, arXiv 2205.13535; Houlsby et al., ICML 2019, "
        "arXiv 1902.00751; Pfeiffer et al., EACL 2021, arXiv 2005.00247; Steitz and Roth, "
        "Adapters Strike Back, CVPR 2024, arXiv 2406.06820; in CNNs Rebuffi et al., CVPR 2018, "
        "arXiv 1803.10082"
    )
    tunes: ClassVar[dict[str, tuple[int | float, ...]]] = {
        "bottleneck": (16, 32, 64, 128),
        "scale": (0.1, 0.3, 1.0, 3.0),
    }

    form: Literal["adaptformer", "houlsby", "pfeiffer", "adapter-plus"] = "adaptformer"
    bottleneck: int = 64
    scale: float = 0.1
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("bottleneck", self.bottleneck >= 1, "an integer of at least 1")
        self._require("scale", self.scale > 0, "greater than 0")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the bottlenecks."""
        branches, blocks = self._places(backbone)
        for branch in branches:
            adapter = self._adapter(branch.width)
            backbone.insert(f"adapter_{branch.block}_{branch.part}".replace(".", "_"), adapter)
            if self.form == "adaptformer":
                backbone.beside(branch, partial(_update, adapter=adapter, scale=self.scale))
            else:
                backbone.behind(branch, partial(_after_branch, adapter=adapter))
        scale = self.scale if self.form == "adaptformer" else 1.0
        for block in blocks:
            adapter = self._adapter(backbone.width(block))
            backbone.insert(f"adapter_{block}".replace(".", "_"), adapter)
            backbone.after_block(block, partial(_after_block, adapter=adapter, scale=scale))

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """Sum of 2 D r + r + D, with the learnt scale D more."""
        branches, blocks = self._places(backbone)
        widths = [*(branch.width for branch in branches), *map(backbone.width, blocks)]
        more = 1 if self.form == "adapter-plus" else 0
        r = self.bottleneck
        return sum(2 * d * r + r + d + more * d for d in widths)

    def _adapter(self, width: int) -> Bottleneck:
        if self.form == "adapter-plus":
            return ScaledBottleneck(width, self.bottleneck)
        return Bottleneck(width, self.bottleneck, gelu=self.form != "adaptformer")

    def _places(self, backbone: Backbone) -> tuple[list[Branch], list[str]]:
        """The branches to change, and the blocks to attach after."""
        every = [block for stage in backbone.stage_blocks() for block in stage]
        if self.form == "adapter-plus":
            return [], every
        parts = {branch.part for branch in backbone.branches()}
        wanted = {"attention", "mlp"} if self.form == "houlsby" else {"mlp"}
        if self.form != "adaptformer" and not wanted <= parts:
            raise Unsupported(
                f"{self.name}[form={self.form}] needs blocks with a residual branch for "
                f"{' and '.join(sorted(wanted))}; those of {type(backbone.model).__name__} have "
                f"{' and '.join(sorted(parts)) or 'none'}"
            )
        branches = [branch for branch in backbone.branches() if branch.part in wanted]
        held = {branch.block for branch in branches}
        return branches, [b for b in every if b not in held] if self.form == "adaptformer" else []


def _update(h: Tensor, adapter: Bottleneck, scale: float) -> Tensor:
    return scale * adapter(h)


def _after_branch(y: Tensor, x: Tensor, adapter: Bottleneck) -> Tensor:
    return y + adapter(y)


def _after_block(y: Tensor, adapter: Bottleneck, scale: float) -> Tensor:
    return y + scale * adapter(y)
