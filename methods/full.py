"""Full fine-tuning: everything is trained."""

from dataclasses import dataclass
from typing import ClassVar

from methods.base import Backbone, Method, register


@register("full")
@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Trains every parameter of the backbone.

    Parameters: all of the backbone. BatchNorm statistics are updated, too.

    Attributes:
        lr: learning rate of the backbone.

    """

    reference: ClassVar[str] = "-"

    lr: float = 1e-4

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Unfreezes the backbone."""
        backbone.model.requires_grad_(True)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """All parameters."""
        return sum(p.numel() for p in backbone.model.parameters())
