"""Visual prompt tuning: learnt tokens beside the patches, or learnt pixels around the image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from methods.base import Backbone, Method, Unsupported, register
from methods.fit import require_fit
from methods.vpt_frame import Frame, frame_images
from methods.vpt_tokens import Prompts, prompt_sequence, require_free_tokens
from methods.vpt_windows import prompt_windows, require_windows


@register("vpt")
@dataclass(frozen=True, kw_only=True)
class VPT(Method):
    """Trains prompt tokens, or a frame of pixels in a CNN.

    Puts p learnt tokens between the prefix tokens and the patch tokens of a plain ViT.

    Deep: every block i has tokens of its own, and what it makes of them is dropped:

        [c_i; _; E_i] = block_i([c_{i-1}; P_i; E_{i-1}])        L * p * D parameters

    Shallow: the tokens enter before block 1 and go through all blocks:

        [c_i; Z_i; E_i] = block_i([c_{i-1}; Z_{i-1}; E_{i-1}]),  Z_0 = P        p * D parameters

    At the end of a stage the prompts are taken out, so that features are patches only; the
    shallow ones are put back before the next stage. With D = 768, L = 12: 92,160 for p = 10.

    Prompts have no position: where attention turns tokens by rotary positions, they stay as they
    are, like prefix tokens.

    In Swin every window sees the same prompts, without a position: the relative bias and the mask
    are zero for them. Shallow ones leave attention as the mean over the windows, go through the
    MLP, and are repeated four times where patches merge. Parameters: p times the width of each
    block, or of the first.

    A CNN has no tokens. There, learnt pixels frame the image and the frame is cut off the
    features: in_chans * 2 pad * (2 length + 2 pad) parameters.

    Departures from the published code: its default is 5 shallow tokens, trained with SGD. In Swin
    it draws all stages from the bound of the first, ours from that of each stage's width. In CNNs
    its frame starts in U(0, 1) and is normalised as an image.

    Attributes:
        tokens: prompts per layer, p.
        depth: `deep` or `shallow`; a CNN knows only the frame and refuses `shallow`.
        pad: CNN: thickness of the frame in px, a multiple of the largest stride.
        length: CNN: image side in px that the frame is stored for; else it is resized.
        lr: learning rate of the prompts.

    """

    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = "Jia et al., Visual Prompt Tuning, ECCV 2022, arXiv 2203.12119"
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"tokens": (5, 10, 20, 50)}

    tokens: int = 10
    depth: Literal["deep", "shallow"] = "deep"
    pad: int = 32
    length: int = 224
    lr: float = 3e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("tokens", self.tokens >= 1, "an integer of at least 1")
        self._require("pad", self.pad >= 1, "an integer of at least 1")
        self._require("length", self.length >= 1, "an integer of at least 1")

    def without_weight_decay(self) -> tuple[str, ...]:
        """All prompts."""
        return ("inserted.prompts.",)

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Picks tokens of the sequence (plain), of the windows (Swin), or a frame (CNN)."""
        if backbone.kind == "cnn":
            self._require_frame(backbone)
            frame = Frame(self.pad, self.length, backbone.in_chans)
            backbone.insert("prompts", frame)
            frame_images(backbone, frame)
            return
        windows = backbone.kind == "hierarchical"
        (require_windows if windows else require_free_tokens)(self.name, backbone)
        prompts = Prompts(self._widths(backbone), self.tokens, backbone.strides[0] ** 2)
        backbone.insert("prompts", prompts)
        (prompt_windows if windows else prompt_sequence)(backbone, prompts, self.depth == "deep")

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """P times the widths of the prompted layers; the frame's pixels in a CNN."""
        if backbone.kind == "cnn":
            return backbone.in_chans * 2 * self.pad * (2 * self.length + 2 * self.pad)
        return self.tokens * sum(self._widths(backbone))

    def _widths(self, backbone: Backbone) -> list[int]:
        """Widths of the layers with prompts of their own."""
        widths = [backbone.width(name) for stage in backbone.stage_blocks() for name in stage]
        return widths if self.depth == "deep" else widths[:1]

    def _require_frame(self, backbone: Backbone) -> None:
        if self.depth == "shallow":
            raise Unsupported(f"{self.name} has one form on a CNN, without depth=shallow")
        stride = max(backbone.strides)
        allowed = f"a multiple of {stride}, the largest stride"
        require_fit(self, "pad", self.pad % stride == 0, allowed)
