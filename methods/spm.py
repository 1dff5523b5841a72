"""SPM: semantic-aware prompt matchers between frozen stages."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Method, register
from methods.pixelwise import upsampled_cross_entropy

IGNORED = 255


class PromptMatcher(nn.Module):
    """One matcher; the equations are in `SPM`.

    Args:
        channels: C of the stage.
        width: d.
        num_classes: K.
        recurrence: T.
        semantic: guidance by the interim map; otherwise by a uniform one.
        feedback: whether the prompt is added; without it only the interim map is computed.

    """

    def __init__(
        self,
        channels: int,
        width: int,
        num_classes: int,
        recurrence: int,
        semantic: bool,
        feedback: bool,
    ) -> None:
        super().__init__()
        self.recurrence, self.semantic, self.feedback = recurrence, semantic, feedback
        self.interim_maps: list[Tensor] = []
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.interim = nn.Conv2d(width, num_classes, 1)
        if feedback:
            self.guide = nn.Conv2d(num_classes, width, 1)
            self.spatial = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
            self.mix = nn.Conv2d(2 * width, width, 1)
            self.expand = nn.Conv2d(width, channels, 1)
            nn.init.zeros_(self.expand.weight)
            nn.init.zeros_(cast(Tensor, self.expand.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; keeps the interim maps (N, K, H, W) in training."""
        self.interim_maps = []
        x = x.movedim(1, -1)
        for _ in range(self.recurrence if self.feedback else 1):
            h = F.gelu(_pointwise(self.squeeze, x))
            m = _pointwise(self.interim, h)
            if self.training:
                self.interim_maps.append(m.movedim(-1, 1))
            if self.feedback:
                classes = m.softmax(-1) if self.semantic else torch.full_like(m, 1 / m.shape[-1])
                g = _pointwise(self.guide, classes)
                p = self.spatial(torch.cat([h, g], dim=-1).movedim(-1, 1)).movedim(1, -1)
                x = x + _pointwise(self.expand, F.gelu(_pointwise(self.mix, F.gelu(p))))
        return x.movedim(-1, 1)


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of a map (N, H, W, C), as the product that it is: it needs no copies."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


@register("spm")
@dataclass(frozen=True, kw_only=True)
class SPM(Method):
    """Changes features between frozen stages, guided by coarse maps.

    Turns the output of a frozen stage into the input that the next stage should have.

    A documented reconstruction of the inter-stage prompt-matched framework: the idea is the
    paper's, layer widths and counts are ours. At a boundary with map x (N, C, H, W), for
    t = 1..T with shared weights:

        h = GELU(Conv1x1 C->d (x))
        m_t = Conv1x1 d->K (h)                       interim semantic map, supervised
        g = Conv1x1 K->d (softmax(m_t))              guidance
        p = Conv1x1 d->C (GELU(Conv1x1 2d->d (GELU(DWConv3x3([h; g])))))    last one zero-init
        x <- x + p

        loss = CE(final) + aux_weight * mean over boundaries and t of CE(upsample m_t, y)

    Parameters per boundary, for any T: 2 C d + C + d + 2 d K + K + d + 20 d + 2 d d + d.

    Attributes:
        width: d.
        recurrence: T.
        aux_weight: weight of the auxiliary loss.
        guidance: `semantic`, or `none`: same parameters, but a uniform map in place of
            softmax(m_t) and no auxiliary loss. The layer d->K then gets no gradient.
        feedback: `on`, or `off`: nothing is added to x, auxiliary losses only, and the layers
            after m_t do not exist. Frozen features and the decoder are those of a linear probe.
        placement: boundaries, "1+2+3" = after stages 1, 2 and 3; "4" is before the decoder only.
        lr: learning rate of the matchers.

    """

    keeps_structure: ClassVar[bool] = True
    reference: ClassVar[str] = "arXiv 2208.10159 (abstract); reconstruction"
    tunes: ClassVar[dict[str, tuple[int | float, ...]]] = {
        "width": (32, 64, 128),
        "aux_weight": (0.1, 0.2, 0.4, 0.8),
    }

    width: int = 64
    recurrence: int = 2
    aux_weight: float = 0.4
    guidance: Literal["semantic", "none"] = "semantic"
    feedback: Literal["on", "off"] = "on"
    placement: str = "1+2+3"
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("width", self.width >= 1, "an integer of at least 1")
        self._require("recurrence", self.recurrence >= 1, "an integer of at least 1")
        self._require("aux_weight", self.aux_weight >= 0, "0 or greater")
        numbers = re.fullmatch(r"[1-4]([+][1-4])*", str(self.placement)) and self._stages()
        ordered = bool(numbers) and numbers == sorted(set(numbers or []))
        self._require("placement", ordered, "stages from 1 to 4 in order, such as 1+2+3")
        supervised = self.guidance == "semantic" and self.aux_weight > 0
        self._require(
            "feedback",
            self.feedback == "on" or supervised,
            "on where guidance is none or aux_weight is 0 (nothing would be trained)",
        )

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one matcher per boundary."""
        for stage in self._stages():
            matcher = PromptMatcher(
                backbone.channels[stage - 1],
                self.width,
                num_classes,
                self.recurrence,
                semantic=self.guidance == "semantic",
                feedback=self.feedback == "on",
            )
            backbone.insert(f"matcher_{stage}", matcher)
            backbone.at_boundary(stage - 1, matcher)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The sum of the docstring's term over the boundaries; less without feedback."""
        d, k = self.width, num_classes
        widths = [backbone.channels[stage - 1] for stage in self._stages()]
        if self.feedback == "off":
            return sum(c * d + d + d * k + k for c in widths)
        return sum(2 * c * d + c + d + 2 * d * k + k + d + 20 * d + 2 * d * d + d for c in widths)

    def without_gradient(self) -> tuple[str, ...]:
        """Without guidance nothing is asked of the interim map."""
        return (".interim.",) if self.guidance == "none" else ()

    def auxiliary_loss(self, backbone: Backbone, labels: Tensor) -> Tensor | None:
        """Weighted mean cross-entropy of the interim maps, upsampled to the labels."""
        if self.guidance == "none" or self.aux_weight == 0:
            return None
        matchers = [cast(PromptMatcher, backbone.inserted[f"matcher_{s}"]) for s in self._stages()]
        maps = [m.float() for matcher in matchers for m in matcher.interim_maps]
        by_size: dict[torch.Size, list[Tensor]] = {}
        for m in maps:
            by_size.setdefault(m.shape, []).append(m)
        losses = [
            upsampled_cross_entropy(torch.stack(same), labels, IGNORED) for same in by_size.values()
        ]
        # Clamped: a batch without a labelled pixel has loss 0, not 0 / 0.
        labelled = (labels != IGNORED).sum().clamp(min=1)
        return self.aux_weight * torch.stack(losses).sum() / (len(maps) * labelled)

    def _stages(self) -> list[int]:
        return [int(number) for number in str(self.placement).split("+")]
