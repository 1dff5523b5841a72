"""Parallel adapter: a bottleneck beside each MLP, or behind each block that has none."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Method, register


class Bottleneck(nn.Module):
    """s * Up(ReLU(Down(x))), Down Kaiming, Up and both biases zero.

    Args:
        width: channels D of input and output.
        bottleneck: channels r between.
        scale: s.
        channels_last: (..., D) with linear layers; otherwise (N, D, H, W) with 1x1 convolutions.

    """

    def __init__(self, width: int, bottleneck: int, scale: float, channels_last: bool) -> None:
        super().__init__()
        self.scale = scale
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if channels_last:
            self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        else:
            self.down, self.up = nn.Conv2d(width, bottleneck, 1), nn.Conv2d(bottleneck, width, 1)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            if zero is not None:
                nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return self.scale * self.up(F.relu(self.down(x)))


@register("adapter")
@dataclass(frozen=True, kw_only=True)
class Adapter(Method):
    """AdaptFormer in blocks with an MLP, a residual adapter behind blocks without one.

    Transformers and ConvNeXt, parallel to the MLP, outside its layer scale:

        y = block(x) + s * Up(ReLU(Down(LN(h))))        LN(h): what the MLP receives

    Blocks without an MLP (ResNet, MobileNetV2), on the block's output:

        y = block(x);  y <- y + s * Up(ReLU(Down(y)))    1x1 convolutions

    Parameters: per block of width D, 2 D r + r + D; ViT-B with r = 64: 1,189,632.

    Attributes:
        bottleneck: r.
        scale: s.
        lr: learning rate of the adapters.

    """

    reference: ClassVar[str] = (
        "Chen et al., AdaptFormer, NeurIPS 2022, arXiv 2205.13535; without an MLP: "
        "Rebuffi et al., CVPR 2018, arXiv 1803.10082, with the bottleneck of "
        "Houlsby et al., ICML 2019, arXiv 1902.00751"
    )

    bottleneck: int = 64
    scale: float = 0.1
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("bottleneck", self.bottleneck >= 1, "an integer of at least 1")
        self._require("scale", self.scale > 0, "greater than 0")

    def apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one bottleneck per block."""
        mlps = backbone.names("mlp")
        for block in (name for stage in backbone.stage_blocks() for name in stage):
            mlp = next((name for name in mlps if name.startswith(block + ".")), None)
            name = f"adapter_{block.replace('.', '_')}"
            if mlp is not None:
                self._beside(backbone, name, block, mlp)
            else:
                self._behind(backbone, name, block)

    def _beside(self, backbone: Backbone, name: str, block: str, mlp: str) -> None:
        channels_last = isinstance(backbone.model.get_submodule(f"{mlp}.fc1"), nn.Linear)
        adapter = Bottleneck(backbone.width(block), self.bottleneck, self.scale, channels_last)
        backbone.insert(name, adapter)
        to_nchw = channels_last and backbone.channel_axis(block) == 1
        entering: list[Tensor] = []

        def keep(h: Tensor) -> Tensor:
            entering[:] = [h]
            return h

        def add(_: Tensor, y: Tensor) -> Tensor:
            update = adapter(entering.pop())
            # Swin's MLP sees (N, H*W, D) where its block returns (N, H, W, D).
            return y + (update.permute(0, 3, 1, 2) if to_nchw else update.reshape(y.shape))

        backbone.before(mlp, keep)
        backbone.after(block, add)

    def _behind(self, backbone: Backbone, name: str, block: str) -> None:
        channels_last = backbone.channel_axis(block) == -1
        adapter = Bottleneck(backbone.width(block), self.bottleneck, self.scale, channels_last)
        backbone.insert(name, adapter)
        backbone.after(block, lambda _, y: y + adapter(y))
