"""The loss of a batch, and the losses of a training, read from the device only now and then."""

import math

import torch
from torch import Tensor

from benchmark.core.interrupt import Diverged
from benchmark.data.base import IGNORE
from methods.pixelwise import upsampled_cross_entropy

NAMED_IMAGES = 64
"""Images of a batch without a finite loss that are named."""


def segmentation_loss(logits: Tensor, labels: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over labelled pixels; zero where a batch has none.

    Args:
        logits: (N, K, h, w), resized to the labels.
        labels: (N, H, W) int64, 255 = ignored.
        pixels: labelled pixels of the batch that these are a part of; None = these are all of it.
    """
    total = upsampled_cross_entropy(logits.float(), labels, IGNORE)
    return total / (labelled(labels) if pixels is None else pixels)


def labelled(labels: Tensor) -> Tensor:
    """Number of labelled pixels, at least 1."""
    return (labels != IGNORE).sum().clamp(min=1)


class Losses:
    """Those of a training, which are added to its curve when they are looked at.

    Args:
        curve: a dict a step.
        every: steps after which they are due.
    """

    def __init__(self, curve: list[dict[str, float]], every: int = 1) -> None:
        self._curve, self._every = curve, every
        self.waiting: list[tuple[int, tuple[str, ...], Tensor]] = []

    @property
    def are_due(self) -> bool:
        """Whether enough of them wait."""
        return len(self.waiting) >= self._every

    def add(self, step: int, ids: tuple[str, ...], found: Tensor) -> None:
        """Of a step on some images: the loss, the loss in total and the gradient's norm, (3,)."""
        self.waiting.append((step, ids, found))

    def look(self) -> None:
        """Adds what waits to the curve.

        Raises:
            Diverged: one of the numbers is infinite, or none.
        """
        if not self.waiting:
            return
        values = torch.stack([found for *_, found in self.waiting]).tolist()
        for (step, ids, _), (loss, total, norm) in zip(self.waiting, values, strict=True):
            for what, value in (("loss", total), ("norm of the gradient", norm)):
                if not math.isfinite(value):
                    raise _diverged(f"the {what} is {value}", step, ids)
            self._curve.append({"step": step, "loss": loss, "total": total})
        self.waiting.clear()


def _diverged(what: str, step: int, ids: tuple[str, ...]) -> Diverged:
    names = ", ".join(ids[:NAMED_IMAGES])
    more = len(ids) - NAMED_IMAGES
    return Diverged(
        f"{what} at step {step}, on {names}{f' and {more} more' if more > 0 else ''}; lower the "
        "learning rate, or look at these images"
    )
