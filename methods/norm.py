"""Norm tuning: only scales and shifts of the normalisation layers are trained."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from methods.base import Backbone, Method, Unsupported, register


@register("norm")
@dataclass(frozen=True, kw_only=True)
class Norm(Method):
    """Trains only scale and shift of the normalisation layers.

    Trains the affine parameters of every LayerNorm, GroupNorm and BatchNorm:

        y = g * (x - mean) / std + b,    g and b trained

    The running statistics of BatchNorm stay those of the pretraining. Parameters: 2 C per norm in
    front of a feature map. ViT-B 36,864: the 38,400 of the literature less the 2 * 768 of the
    final norm, which comes after the last feature map.

    Attributes:
        lr: learning rate of the norms.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Frankle et al., Training BatchNorm and Only BatchNorm, ICLR 2021, arXiv 2003.00152; "
        "Basu et al., AAAI 2024, arXiv 2304.01467"
    )

    lr: float = 3e-2

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Unfreezes the affine parameters."""
        for parameter in self._affine(backbone):
            parameter.requires_grad_(True)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """Scales and shifts of the norms."""
        return sum(parameter.numel() for parameter in self._affine(backbone))

    def merge(self, backbone: Backbone) -> None:
        """Nothing to fold: the trained values are the backbone's own."""

    def _affine(self, backbone: Backbone) -> list[nn.Parameter]:
        norms = [backbone.model.get_submodule(name) for name in backbone.names("norm")]
        if not norms:
            raise Unsupported(f"{self.name}: {type(backbone.model).__name__} has no affine norms")
        return [parameter for norm in norms for parameter in norm.parameters(recurse=False)]
