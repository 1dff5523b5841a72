"""BitFit: only biases are trained."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from methods.base import Backbone, Method, Unsupported, register


@register("bitfit")
@dataclass(frozen=True, kw_only=True)
class BitFit(Method):
    """Trains only the biases.

    Trains the bias of every layer and norm:

        y = W x + b,    b trained, W frozen

    Parameters: all biases that a feature depends on. ViT-B 102,144: the 102,912 of the literature
    less the 768 of the final norm, which comes after the last feature map.

    Attributes:
        lr: learning rate of the biases.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = "Ben Zaken et al., BitFit, ACL 2022, arXiv 2106.10199"

    lr: float = 1e-3

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Unfreezes the biases."""
        for bias in self._biases(backbone):
            bias.requires_grad_(True)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the lengths of the biases."""
        return sum(bias.numel() for bias in self._biases(backbone))

    def merge(self, backbone: Backbone) -> None:
        """Nothing to fold: the trained biases are the backbone's own."""

    def _biases(self, backbone: Backbone) -> list[nn.Parameter]:
        called = {f"{name}.bias" for name in backbone.names("biased")}
        found = [
            parameter
            for name, parameter in backbone.model.named_parameters()
            # Attention with a fused layer but separate biases holds them itself, as `q_bias`.
            if name in called or name.endswith((".q_bias", ".v_bias"))
        ]
        if not found:
            raise Unsupported(f"{self.name}: {type(backbone.model).__name__} has no biases")
        return found
