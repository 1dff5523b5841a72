"""Linear probe: only the decoder is trained."""

from dataclasses import dataclass
from typing import ClassVar

from methods.base import Backbone, Method, register


@register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Method):
    """Trains only the decoder, on frozen features.

    Head-only tuning. Parameters: none here.
    """

    keeps_structure: ClassVar[bool] = True
    reference: ClassVar[str] = "-"

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Leaves the backbone as it is."""

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """None in the backbone."""
        return 0
