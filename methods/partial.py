"""Partial fine-tuning: the last blocks are trained."""

from dataclasses import dataclass
from typing import ClassVar

from methods.base import Backbone, Method, register


@register("partial")
@dataclass(frozen=True, kw_only=True)
class Partial(Method):
    """Trains the last blocks of the backbone.

    Every parameter of the last k blocks is trained.

    Parameters: those of the blocks; one block of ViT-B: 7,087,872. Features of earlier stages
    stay as they are, and the forward pass up to the first trained block needs no gradient.

    Attributes:
        blocks: k.
        lr: learning rate of the blocks.

    """

    reference: ClassVar[str] = "Yosinski et al., NeurIPS 2014, arXiv 1411.1792"
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"blocks": (1, 2, 4)}

    blocks: int = 1
    lr: float = 3e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("blocks", self.blocks >= 1, "an integer of at least 1")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Unfreezes the blocks."""
        for block in self._last(backbone):
            backbone.model.get_submodule(block).requires_grad_(True)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """All parameters of the last k blocks."""
        blocks = [backbone.model.get_submodule(block) for block in self._last(backbone)]
        return sum(p.numel() for block in blocks for p in block.parameters())

    def _last(self, backbone: Backbone) -> list[str]:
        every = [block for stage in backbone.stage_blocks() for block in stage]
        self._require(
            "blocks",
            self.blocks <= len(every),
            f"at most {len(every)}, the blocks of {type(backbone.model).__name__}",
        )
        return every[-self.blocks :]
