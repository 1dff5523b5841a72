"""RepAdapter: a linear bottleneck in front of a layer, foldable into it."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register
from methods.fit import require_fit


class LinearBottleneck(nn.Module):
    """x + s * Up(Down(x)) over the last axis; Up has g groups, Down Xavier, Up and biases zero.

    Args:
        width: D.
        bottleneck: r.
        groups: g; divides D and r.
        scale: s.

    """

    def __init__(self, width: int, bottleneck: int, groups: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, bottleneck)
        self.up_weight = nn.Parameter(torch.zeros(groups, width // groups, bottleneck // groups))
        self.up_bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        parts = self.down(x).unflatten(-1, (self.up_weight.shape[0], -1))
        up = torch.einsum("...gr,gdr->...gd", parts, self.up_weight).flatten(-2)
        return x + self.scale * (up + self.up_bias)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """M (D, D) and m (D) with forward(x) = M x + m."""
        up = torch.block_diag(*self.up_weight)
        eye = torch.eye(up.shape[0], dtype=up.dtype, device=up.device)
        shift = up @ self.down.bias + self.up_bias
        return eye + self.scale * up @ self.down.weight, self.scale * shift


@register("repadapter")
@dataclass(frozen=True, kw_only=True)
class RepAdapter(Method):
    """Trains linear adapters that fold into the next layer.

    A linear adapter in front of attention and MLP, which inference need not keep:

        layer(x + s Up(Down(x)))        Up in g groups; layer: qkv or fc1

    As everything is linear, it folds into the layer: with M = I + s Up Down and m = s (Up b_down +
    b_up), W <- W M and bias <- bias + W m.

    The published code has dropout 0.1, which is left out here, and on ConvNeXt also adapts the
    input of conv_dw.

    Parameters per layer: D r + r for Down, D r / g + D for Up. ViT-B with r = 8, g = 2: 239,808.

    Attributes:
        bottleneck: r, a multiple of g.
        groups: g.
        scale: s.
        lr: learning rate of the adapters.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = "Luo et al., RepAdapter, arXiv 2302.08106"
    tunes: ClassVar[dict[str, tuple[float, ...]]] = {"scale": (0.1, 0.3, 1.0, 3.0, 10.0)}

    bottleneck: int = 8
    groups: int = 2
    scale: float = 1.0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("groups", self.groups >= 1, "an integer of at least 1")
        divides = self.bottleneck >= 1 and self.bottleneck % max(1, self.groups) == 0
        self._require("bottleneck", divides, f"a multiple of groups={self.groups}")
        self._require("scale", self.scale > 0, "greater than 0")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one adapter in front of each qkv and fc1."""
        for name, layer in self._layers(backbone):
            adapter = LinearBottleneck(layer.in_features, self.bottleneck, self.groups, self.scale)
            backbone.insert(_key(name), adapter)
            backbone.before(name, adapter)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """Sum of D r + r + D r / g + D."""
        r, g = self.bottleneck, self.groups
        widths = [layer.in_features for _, layer in self._layers(backbone)]
        return sum(d * r + r + d * r // g + d for d in widths)

    @torch.no_grad()
    def merge(self, backbone: Backbone) -> None:
        """Folds M and m into each layer."""
        for name, layer in self._layers(backbone):
            matrix, shift = cast(LinearBottleneck, backbone.inserted[_key(name)]).matrix()
            layer.bias.add_(layer.weight @ shift)
            layer.weight.copy_(layer.weight @ matrix)
        backbone.release()

    def _layers(self, backbone: Backbone) -> list[tuple[str, nn.Linear]]:
        names = sorted([*backbone.names("qkv"), *backbone.names("fc1")])
        layers = [(name, backbone.model.get_submodule(name)) for name in names]
        linear = [
            (name, layer)
            for name, layer in layers
            if isinstance(layer, nn.Linear) and layer.bias is not None
        ]
        if not linear:
            raise Unsupported(
                f"{self.name} acts in front of linear qkv and fc1 layers with a bias; "
                f"{type(backbone.model).__name__} has none"
            )
        for name, layer in linear:
            width = layer.in_features
            allowed = f"at most {width}, the width of {name}"
            require_fit(self, "bottleneck", self.bottleneck <= width, allowed)
            allowed = f"a divisor of {width}, the width of {name}"
            require_fit(self, "groups", width % self.groups == 0, allowed)
        return linear


def _key(name: str) -> str:
    return f"rep_{name}".replace(".", "_")
