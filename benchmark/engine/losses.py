"""The loss of a batch, and the losses of a training, read from the device only now and then."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.core.interrupt import Diverged
from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE
from benchmark.engine import image_losses
from benchmark.engine.image_losses import summed_over_images
from benchmark.engine.ranks import ALONE, Ranks
from methods.base import TrainingData
from methods.pixelwise import upsampled_cross_entropy

NAMED_IMAGES = 64
"""Images of a batch without a finite loss that are named."""


@dataclass(frozen=True)
class Criterion:
    """The segmentation loss of a protocol; the losses of the parts of a batch add up to its own.

    Attributes:
        loss: `ce`, `ce+dice`, `focal` or `lovasz`; see `Protocol.loss`.
        weights: of the classes (K,) in the losses of pixels; None = equal.
    """

    loss: str = "ce"
    weights: Tensor | None = None

    @classmethod
    def of(cls, protocol: Protocol, data: TrainingData | None = None) -> "Criterion":
        """The criterion of a protocol.

        Args:
            protocol: loss and class weights.
            data: of the run; needed where classes are weighted.

        Raises:
            ValueError: classes are to be weighted, and nothing is known of the data.
        """
        if protocol.class_weights == "none":
            return cls(protocol.loss)
        if data is None:
            raise ValueError("class_weights=balanced asks for the training data")
        return cls(protocol.loss, balanced(data.class_frequencies()))

    def __call__(self, logits: Tensor, labels: Tensor, batch: "Total | None" = None) -> Tensor:
        """The loss of a batch, or what a part of it adds; zero where nothing is labelled.

        Args:
            logits: (N, K, h, w); they are resized to the labels.
            labels: (N, H, W) int64, 255 = ignored.
            batch: size of the batch that these are a part of; None = these are all of it.
        """
        batch, logits = batch or self.total(labels), logits.float()
        weights = None if self.weights is None else self.weights.to(logits)
        if self.loss == "lovasz":
            return summed_over_images(logits, labels, image_losses.lovasz) / batch.images
        if self.loss == "focal":
            focal = partial(image_losses.focal, weights=weights)
            return summed_over_images(logits, labels, focal) / batch.weight
        if weights is None:
            entropy = upsampled_cross_entropy(logits, labels, IGNORE)
        else:
            weighted = partial(image_losses.cross_entropy, weights=weights)
            entropy = summed_over_images(logits, labels, weighted)
        loss = entropy / batch.weight
        if self.loss == "ce+dice":
            loss = loss + summed_over_images(logits, labels, image_losses.dice) / batch.images
        return loss

    def total(self, labels: Tensor) -> "Total":
        """What the losses of the parts of a batch are divided by.

        Args:
            labels: of the whole batch, (N, H, W).
        """
        pixels = labelled(labels)
        if self.weights is None:
            return Total(len(labels), pixels, pixels)
        each = self.weights.to(labels.device)[labels[labels != IGNORE]]
        return Total(len(labels), pixels, each.sum() if len(each) else torch.ones_like(pixels))

    def shared_total(self, labels: Tensor, images: int, ranks: Ranks) -> "Total":
        """As `total`, of a batch that processes share; a mean of their means would not be it.

        Args:
            labels: of the images of this process.
            images: of the batch.
            ranks: the processes.
        """
        own = weight = (labels != IGNORE).sum().double()
        if self.weights is not None:
            weight = self.weights.to(labels.device)[labels[labels != IGNORE]].double().sum()
        pixels, weight = ranks.sum(torch.stack([own, weight]))
        counted = pixels.clamp(min=1).long()
        if self.weights is None:
            return Total(images, counted, counted)
        return Total(images, counted, torch.where(pixels > 0, weight, 1).float())


@dataclass(frozen=True)
class Total:
    """Size of a batch.

    Attributes:
        images: their number.
        pixels: those that are labelled, at least 1.
        weight: sum of their classes' weights.
    """

    images: int
    pixels: Tensor
    weight: Tensor


def balanced(frequencies: Tensor) -> Tensor:
    """Weights (K,) that make every class count alike: 1 / (K f), for K classes that occur.

    A class that does not occur has weight 0.

    Args:
        frequencies: shares f (K,) of the labelled pixels.
    """
    occur = frequencies > 0
    return torch.where(occur, 1 / (occur.sum() * frequencies.clamp_min(1e-12)), 0)


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; zero where there are none."""
    return Criterion()(logits, labels)


def labelled(labels: Tensor) -> Tensor:
    """Number of labelled pixels, at least 1."""
    return (labels != IGNORE).sum().clamp(min=1)


class Losses:
    """Those of a training, which are added to its curve when they are looked at.

    Args:
        curve: a dict a step.
        every: steps after which they are due.
        ranks: the processes that share each batch.
    """

    def __init__(self, curve: list[dict[str, float]], every: int = 1, ranks: Ranks = ALONE) -> None:
        self._curve, self._every, self._ranks = curve, every, ranks
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
                    every = sum(self._ranks.gather(ids), ())
                    raise _diverged(f"the {what} is {value}", step, every)
            self._curve.append({"step": step, "loss": loss, "total": total})
        self.waiting.clear()


def _diverged(what: str, step: int, ids: tuple[str, ...]) -> Diverged:
    names = ", ".join(ids[:NAMED_IMAGES])
    more = len(ids) - NAMED_IMAGES
    return Diverged(
        f"{what} at step {step}, on {names}{f' and {more} more' if more > 0 else ''}; lower the "
        "learning rate, or look at these images"
    )
