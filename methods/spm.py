"""SPM: prompt matchers in front of frozen stages, guided by a semantic map that is handed on."""

import re
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Method, TrainingData, Unsupported, register
from methods.pixelwise import upsampled_cross_entropy

IGNORED = 255

RAREST = 1e-6
"""Frequency that M(0) gives to a class at least: one without a pixel has no logarithm."""


class ClassPrior(nn.Module):
    """M(0): logits of a map that is the same at every place; see `SPM`.

    Args:
        num_classes: K.

    """

    logits: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(num_classes))

    def forward(self) -> Tensor:
        """The map (1, 1, 1, K), of one place that stands for all."""
        return self.logits.view(1, 1, 1, -1)


class PromptMatcher(nn.Module):
    """One matcher; the equations are in `SPM`.

    Args:
        channels: C of the map in front of the stage.
        width: d.
        num_classes: K.
        recurrence: T.
        semantic: guidance by the map that is handed on; otherwise by a uniform one.
        feedback: whether the prompt is added; without it only the map is refined, once.

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
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.interim = nn.Conv2d(width, num_classes, 1)
        if feedback:
            self.guide = nn.Conv2d(num_classes, width, 1)
            self.spatial = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
            self.mix = nn.Conv2d(2 * width, width, 1)
            self.expand = nn.Conv2d(width, channels, 1)
            nn.init.zeros_(self.expand.weight)
            nn.init.zeros_(cast(Tensor, self.expand.bias))

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Changes a map of features and refines the semantic map.

        Args:
            x: (N, C, H, W).
            m: logits (N, h, w, K); (1, 1, 1, K) where all places are equal.

        Returns:
            (N, C, H, W), and the semantic map (N, H, W, K) after each round.

        """
        x, m = x.movedim(1, -1), _resized(m, x.shape[-2], x.shape[-1])
        squeezed = _pointwise(self.squeeze, x)
        if not self.feedback:
            return x.movedim(-1, 1), [m + _pointwise(self.interim, F.gelu(squeezed))]
        maps: list[Tensor] = []
        prompts: list[Tensor] = []
        for _ in range(self.recurrence):
            if prompts:
                squeezed = squeezed + self._squeezed_prompt(prompts[-1])
            h = F.gelu(squeezed)
            prompts.append(self._prompt(h, m))
            m = m + _pointwise(self.interim, h)
            maps.append(m)
        bias = cast(Tensor, self.expand.bias) * len(prompts)
        x = x + F.linear(sum(prompts[1:], prompts[0]), self.expand.weight.flatten(1), bias)
        return x.movedim(-1, 1), maps

    def _prompt(self, h: Tensor, m: Tensor) -> Tensor:
        """The prompt (N, H, W, d) before its last convolution."""
        classes = m.softmax(-1) if self.semantic else torch.full_like(m, 1 / m.shape[-1])
        g = _pointwise(self.guide, classes).expand_as(h)
        p = self.spatial(torch.cat([h, g], dim=-1).movedim(-1, 1)).movedim(1, -1)
        return F.gelu(_pointwise(self.mix, F.gelu(p)))

    def _squeezed_prompt(self, prompt: Tensor) -> Tensor:
        """What `squeeze` makes of `expand(prompt)`, without the C channels between the two.

        Both are linear, so their product, d x d, is applied, and x itself is changed only once.
        """
        squeeze, expand = self.squeeze.weight.flatten(1), self.expand.weight.flatten(1)
        return F.linear(prompt, squeeze @ expand, squeeze @ cast(Tensor, self.expand.bias))


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of a map (N, H, W, C), as the product that it is: it needs no copies."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _resized(m: Tensor, height: int, width: int) -> Tensor:
    """A map (N, h, w, K) at another size, bilinearly; one of a single place stands for any."""
    if m.shape[1:3] in ((1, 1), (height, width)):
        return m
    size = (height, width)
    return F.interpolate(m.movedim(-1, 1), size, mode="bilinear").movedim(1, -1)


@register("spm")
@dataclass(frozen=True, kw_only=True)
class SPM(Method):
    """Changes what frozen stages receive, guided by a semantic map that is handed on.

    A matcher in front of every stage i = 1..N turns the output of the stage before (of the
    embedding, where i = 1) into the input that the stage should have. It also takes the semantic
    map M(i-1) and hands on M(i). None is behind the last stage.

    With x (N, C, H, W) and m = M(i-1), resized to (H, W), for t = 1..T with shared weights:

        h = GELU(Conv1x1 C->d (x))
        g = Conv1x1 K->d (softmax(m))                guidance
        p = Conv1x1 d->C (GELU(Conv1x1 2d->d (GELU(DWConv3x3([h; g])))))    last one zero-init
        x <- x + p
        m <- m + Conv1x1 d->K (h)                    logits, supervised

        loss = CE(final) + aux_weight * mean over i and t of CE(upsample m, y)

    M(0) is the logarithm of the class frequencies of the training split at every place; it is
    stored with the task (K numbers).

    From the paper: where the matchers are, that a map is handed on from one to the next, that M(0)
    comes from the class frequencies, and that prompts are learnt recurrently. A reconstruction: the
    layers of a matcher, d, T, the auxiliary loss and its weight. The paper gives none of these.

    Parameters of a matcher, for any T: (2 C d + C + d) + (2 d K + K + d) + 20 d + (2 d d + d) =
    2 d (C + K + d) + C + K + 23 d. C is that of the embedding and of all stages but the last. With
    d = 64 and K = 2, 11, 19, 150: ResNet-101 279,112, 283,756, 287,884, 355,480; Swin-T 138,760,
    143,404, 147,532, 215,128; ViT-B 435,976, 440,620, 444,748, 512,344.

    Attributes:
        width: d.
        recurrence: T.
        aux_weight: weight of the auxiliary loss.
        guidance: `semantic`, or `none`: same parameters, but a uniform map in place of softmax(m)
            and no auxiliary loss. The layer d->K then gets no gradient.
        feedback: `on`, or `off`: nothing is added to x, auxiliary losses only, m is refined once,
            and the layers of the prompt do not exist. Frozen features and the decoder are those of
            a linear probe.
        carry: `on`, or `off`: every matcher starts from M(0), not from the map before.
        prior: M(0) from class `frequencies`, or `uniform`.
        placement: `every` = in front of every stage. Or behind the embedding (0) and stages:
            "1+2+3" leaves out the embedding.
        lr: learning rate of the matchers.

    """

    keeps_structure: ClassVar[bool] = True
    reference: ClassVar[str] = "arXiv 2208.10159 (abstract and figure 1); reconstruction"
    tunes: ClassVar[dict[str, tuple[int | float, ...]]] = {
        "width": (32, 64, 128),
        "aux_weight": (0.1, 0.2, 0.4, 0.8),
    }

    width: int = 64
    recurrence: int = 2
    aux_weight: float = 0.4
    guidance: Literal["semantic", "none"] = "semantic"
    feedback: Literal["on", "off"] = "on"
    carry: Literal["on", "off"] = "on"
    prior: Literal["frequencies", "uniform"] = "frequencies"
    placement: str = "every"
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("width", self.width >= 1, "an integer of at least 1")
        self._require("recurrence", self.recurrence >= 1, "an integer of at least 1")
        self._require("aux_weight", self.aux_weight >= 0, "0 or greater")
        numbers = re.fullmatch(r"[0-3]([+][0-3])*", str(self.placement)) and self._listed()
        ordered = bool(numbers) and numbers == sorted(set(numbers or []))
        self._require(
            "placement",
            ordered or self.placement == "every",
            "every, or numbers from 0 (behind the embedding) to 3 in order, such as 1+2+3",
        )
        supervised = self.guidance == "semantic" and self.aux_weight > 0
        self._require(
            "feedback",
            self.feedback == "on" or supervised,
            "on where guidance is none or aux_weight is 0 (nothing would be trained)",
        )

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts one matcher at each place, and M(0)."""
        prior = cast(ClassPrior, backbone.insert("prior", ClassPrior(num_classes)))
        for place, channels in self._places(backbone).items():
            matcher = PromptMatcher(
                channels,
                self.width,
                num_classes,
                self.recurrence,
                semantic=self.guidance == "semantic",
                feedback=self.feedback == "on",
            )
            backbone.insert(f"matcher_{place}", matcher)
            match = partial(self._match, backbone, prior, matcher)
            if place:
                backbone.at_boundary(place - 1, match)
            else:
                backbone.at_embedding(match)

    def _match(
        self, backbone: Backbone, prior: ClassPrior, matcher: PromptMatcher, x: Tensor
    ) -> Tensor:
        maps: list[Tensor] = backbone.pass_state.get("maps", [])
        x, made = matcher(x, maps[-1] if maps and self.carry == "on" else prior())
        backbone.pass_state["maps"] = maps + made if matcher.training else made
        return x

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The docstring's sum over the matchers; less without feedback."""
        d, k = self.width, num_classes
        widths = self._places(backbone).values()
        if self.feedback == "off":
            return sum(c * d + d + d * k + k for c in widths)
        return sum(2 * d * (c + k + d) + c + k + 23 * d for c in widths)

    def before_training(self, backbone: Backbone, data: TrainingData) -> None:
        """M(0) becomes the logarithm of the class frequencies."""
        if self.prior == "frequencies":
            logits = cast(ClassPrior, backbone.inserted["prior"]).logits
            logits.copy_(data.class_frequencies().clamp(min=RAREST).log())

    def without_gradient(self) -> tuple[str, ...]:
        """Without guidance, or a loss on a map that guides nothing, d->K gets none."""
        unused = self.guidance == "none" or (self.aux_weight == 0 and self.recurrence == 1)
        return (".interim.",) if unused else ()

    def auxiliary_loss(self, backbone: Backbone, labels: Tensor) -> Tensor | None:
        """Weighted mean cross-entropy of the semantic maps, upsampled to the labels."""
        if self.guidance == "none" or self.aux_weight == 0:
            return None
        by_size: dict[torch.Size, list[Tensor]] = {}
        maps: list[Tensor] = backbone.pass_state["maps"]
        for m in maps:
            by_size.setdefault(m.shape, []).append(m)
        losses = [
            upsampled_cross_entropy(torch.stack(same).float().movedim(-1, 2), labels, IGNORED)
            for same in by_size.values()
        ]
        # Clamped: a batch without a labelled pixel has loss 0, not 0 / 0.
        labelled = (labels != IGNORED).sum().clamp(min=1)
        return self.aux_weight * torch.stack(losses).sum() / (len(maps) * labelled)

    def _listed(self) -> list[int]:
        return [int(number) for number in str(self.placement).split("+")]

    def _places(self, backbone: Backbone) -> dict[int, int]:
        """Channels at the places of the matchers; 0 is behind the embedding, i behind stage i."""
        widths = (backbone.embedding_channels, *backbone.channels[:-1])
        listed = range(len(widths)) if self.placement == "every" else self._listed()
        if max(listed) >= len(widths):
            raise Unsupported(
                f"placement={self.placement} needs a stage after stage {max(listed)}, but there "
                f"are {len(widths)} stages in {type(backbone.model).__name__}"
            )
        return {place: widths[place] for place in listed}
