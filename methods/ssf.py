"""SSF: scale and shift the features after every layer."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register
from methods.fit import require_foldable


class ScaleShift(nn.Module):
    """g * x + b on the channels, g ~ N(1, 0.02), b ~ N(0, 0.02).

    Args:
        channels: C.
        axis: the axis of the channels.

    """

    def __init__(self, channels: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.scale = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
        self.shift = nn.Parameter(torch.empty(channels).normal_(0, 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        if self.axis == 1:
            positions = (1,) * (x.ndim - 2)
            return x * self.scale.view(-1, *positions) + self.shift.view(-1, *positions)
        return x * self.scale + self.shift


@register("ssf")
@dataclass(frozen=True, kw_only=True)
class SSF(Method):
    """Trains a scale and a shift after every layer.

    Scales and shifts what linear layers, convolutions and norms return, patch embedding too:

        y = g * layer(x) + b        g, b (C)

    A layer without a bias of its own is left out, because a shift could not fold into it. In CNNs
    a norm comes right after it, which makes its pair redundant; in Swin, where patches merge, the
    norm comes before it, and its pair is all that acts there. Every pair folds into its
    layer: W <- g W, bias <- g bias + b.

    Parameters: 2 C per layer with C outputs; ViT-B 204,288.

    Attributes:
        lr: learning rate of scales and shifts.

    """

    mergeable: ClassVar[bool] = True
    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = "Lian et al., Scaling and Shifting, NeurIPS 2022, arXiv 2210.08823"

    lr: float = 3e-3

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one pair after each layer."""
        for name, layer in self._layers(backbone):
            axis = 1 if isinstance(layer, _MAPS) or _normalises_maps(layer) else -1
            pair = ScaleShift(_bias(layer).numel(), axis)
            backbone.insert(_key(name), pair)
            if isinstance(getattr(layer, "act", None), nn.Module):
                # A norm with an activation inside: after that, nothing would fold.
                backbone.before(f"{name}.act", pair)
            else:
                backbone.after(name, partial(_scaled, pair=pair))

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """2 C per layer."""
        return sum(2 * _bias(layer).numel() for _, layer in self._layers(backbone))

    @torch.no_grad()
    def merge(self, backbone: Backbone) -> None:
        """W <- g W, bias <- g bias + b, layer by layer."""
        for name, layer in self._layers(backbone):
            pair = backbone.inserted[_key(name)]
            assert isinstance(pair, ScaleShift) and isinstance(layer.weight, Tensor)
            require_foldable(name, layer)
            layer.weight.mul_(_by_output(pair.scale, layer))
            _bias(layer).mul_(pair.scale).add_(pair.shift)
        backbone.release()

    def _layers(self, backbone: Backbone) -> list[tuple[str, nn.Module]]:
        layers = [(name, backbone.model.get_submodule(name)) for name in backbone.names("biased")]
        if not layers:
            raise Unsupported(f"{self.name}: {type(backbone.model).__name__} has no biased layers")
        return layers


def _scaled(x: Tensor, y: Tensor, pair: ScaleShift) -> Tensor:
    return pair(y)


_MAPS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


def _normalises_maps(layer: nn.Module) -> bool:
    # timm's LayerNorm2d is a LayerNorm that takes and returns (N, C, H, W).
    return isinstance(layer, nn.LayerNorm) and type(layer).__name__.endswith("2d")


def _by_output(scale: Tensor, layer: nn.Module) -> Tensor:
    """The scale of each output channel, in a shape that multiplies the weight of the layer."""
    ones = (1,) * (cast(Tensor, layer.weight).ndim - 1)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        # (in, out / groups, ...), the inputs group by group.
        inputs = layer.in_channels // layer.groups
        rows = scale.view(layer.groups, -1).repeat_interleave(inputs, dim=0)
        return rows.reshape(*rows.shape, *ones[1:])
    return scale.reshape(-1, *ones)


def _bias(layer: nn.Module) -> nn.Parameter:
    assert isinstance(layer.bias, nn.Parameter)
    return layer.bias


def _key(name: str) -> str:
    return f"ssf_{name}".replace(".", "_")
