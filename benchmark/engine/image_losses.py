"""Losses of full-size logits that are means over images, so that a batch may be taken in parts.

Each is that of segmentation_models_pytorch on one image; where that library sums a batch before it
divides, parts of a batch would not add up to the loss of the whole, whatever they are weighted by.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from benchmark.data.base import IGNORE

ImageLoss = Callable[[Tensor, Tensor], Tensor]
"""A scalar of the logits (K, H, W) and the labels (H, W) of an image; 0 where none is labelled."""

GAMMA = 2.0
"""Of the focal loss."""
SMALL = 1e-7
"""Least cardinality of a class in the Dice loss."""


def summed_over_images(logits: Tensor, labels: Tensor, loss: ImageLoss) -> Tensor:
    """Sums a loss over images whose logits are resized to the labels one at a time.

    Nothing of the labels' size is kept for the way back: the gradient of an image is brought to
    its coarse logits as soon as its loss is known.

    Args:
        logits: (N, K, h, w), float.
        labels: (N, H, W) int64, 255 = ignored.
        loss: of an image.
    """
    with torch.autocast(logits.device.type, enabled=False):
        found: Tensor = _Summed.apply(logits, labels, loss)
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, loss: ImageLoss) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(logits) if wanted else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for number, label in enumerate(labels):
            coarse = logits[number : number + 1].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                full = F.interpolate(coarse, label.shape, mode="bilinear", align_corners=False)
                value = loss(full[0], label)
            if gradient is not None and value.requires_grad:
                (own,) = torch.autograd.grad(value, coarse)
                gradient[number] = own[0]
            total += value.detach()
        ctx.save_for_backward(gradient)
        return total.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else gradient * grad, None, None


def cross_entropy(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Summed over labelled pixels, each times the weight of its class."""
    return F.cross_entropy(logits[None], label[None], weights, ignore_index=IGNORE, reduction="sum")


def dice(logits: Tensor, label: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016): a mean over all K classes, 0 for those not there.

    With probabilities p and one-hot labels y over labelled pixels, a class that the label holds
    adds 1 - 2 sum(p y) / (sum(p) + sum(y)).
    """
    probabilities, target = _labelled(logits.softmax(0), label)
    onehot = F.one_hot(target, len(logits)).T.to(logits.dtype)
    together = (probabilities * onehot).sum(1)
    cardinality = (probabilities + onehot).sum(1)
    losses = 1 - 2 * together / cardinality.clamp_min(SMALL)
    return (losses * (onehot.sum(1) > 0)).mean()


def focal(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017), a mean over classes, summed over labelled pixels.

    Each class is a yes or no of its own: (1 - p)^2 times its binary cross-entropy, where p is the
    probability of what is true. A pixel counts as much as the weight of its class.
    """
    scores, target = _labelled(logits, label)
    onehot = F.one_hot(target, len(logits)).T.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(scores, onehot, reduction="none")
    losses = ((1 - torch.exp(-entropy)) ** GAMMA * entropy).mean(0)
    return losses.sum() if weights is None else (losses * weights[target]).sum()


def lovasz(logits: Tensor, label: Tensor) -> Tensor:
    """Lovász-softmax (Berman et al., CVPR 2018), a mean over the classes that the label holds.

    The convex surrogate of 1 - IoU of a class: errors, sorted from the largest, times the steps
    that the Jaccard index loses as they are counted.
    """
    probabilities, target = _labelled(logits.softmax(0), label)
    losses = []
    for number in target.unique().tolist():
        true = (target == number).to(logits.dtype)
        errors, order = (true - probabilities[number]).abs().sort(descending=True)
        losses.append(torch.dot(errors, _jaccard_steps(true[order])))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _jaccard_steps(true: Tensor) -> Tensor:
    """How much the Jaccard loss grows with each pixel, taken from the largest error on."""
    total = true.sum()
    intersection = total - true.cumsum(0)
    union = total + (1 - true).cumsum(0)
    loss = 1 - intersection / union
    return torch.cat([loss[:1], loss[1:] - loss[:-1]])


def _labelled(values: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Values (K, P) and labels (P,) of the labelled pixels."""
    kept = label != IGNORE
    return values[:, kept], label[kept]
