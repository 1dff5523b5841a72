"""What is counted of a predicted map, on the device where it lies: classes, borders, calibration.

Everything is one count of small numbers over all pixels; void ones fall into a bin of their own,
which is cut off, so that no pixel has to be picked out.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import IGNORE

BINS = 15
"""Equal-width confidence bins of the calibration error."""


def class_counts(predicted: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels per class, (3, K) int64: right ones, predicted ones, labelled ones.

    Args:
        predicted: (H, W) uint8 class indices.
        label: (H, W) uint8 class indices, 255 = void; void pixels count nowhere.
        classes: K.
    """
    pairs = label.int() * classes + predicted  # those of void come last: K <= 255
    confusion = _histogram(pairs, classes**2).view(classes, classes)
    return torch.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def boundary_counts(predicted: Tensor, label: Tensor, classes: int) -> Tensor:
    """Intersection and union of the bands inside class borders, (2, K) int64 pixels.

    A class's band is its mask without the mask eroded by max(1, round(0.02 x diagonal)) steps of a
    3x3 square; void belongs to no class, and the image's edge is a border (Cheng et al., Boundary
    IoU, CVPR 2021).

    Args:
        predicted: (H, W) uint8 class indices.
        label: (H, W) uint8 class indices, 255 = void.
        classes: K.
    """
    reach = max(1, round(0.02 * math.hypot(*label.shape)))
    predicted = predicted.masked_fill(label == IGNORE, IGNORE)
    ours, theirs = (x.masked_fill(~band(x, reach), IGNORE) for x in (predicted, label))
    both = _histogram(ours.masked_fill(ours != theirs, IGNORE), classes)
    return torch.stack([both, _histogram(ours, classes) + _histogram(theirs, classes) - both])


def band(classes: Tensor, reach: int) -> Tensor:
    """Pixels whose class does not fill the square around them, for all classes at once.

    Args:
        classes: (H, W) uint8 class indices, 255 = void.
        reach: from the middle of the square to its edge, px.

    Returns:
        (H, W) bool; what lies outside the map is void.
    """
    padded = F.pad(classes, (reach, reach, reach, reach), value=IGNORE)
    side = 2 * reach + 1
    return _sliding(torch.maximum, padded, side) != _sliding(torch.minimum, padded, side)


def _sliding(extreme: Callable[[Tensor, Tensor], Tensor], values: Tensor, side: int) -> Tensor:
    """The extreme of every square inside a map, by windows that double in width."""
    for axis in (0, 1):
        width = 1
        while width < side:
            step = min(width, side - width)  # two windows may overlap: the extreme is the same
            kept = values.shape[axis] - step
            values = extreme(values.narrow(axis, 0, kept), values.narrow(axis, step, kept))
            width += step
    return values


def log_probabilities(logits: Tensor, top: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the best class and of the true one.

    Args:
        logits: (K, H, W).
        top: (H, W), the largest logit of each pixel.
        label: (H, W) uint8 class indices, 255 = void.

    Returns:
        Both (H, W); in void, the second is that of the first class.
    """
    below = logits - top
    true = below.gather(0, label.masked_fill(label == IGNORE, 0).long()[None])[0]
    total = below.exp_().sum(0).log_()
    return -total, true - total


def calibration(
    predicted: Tensor, label: Tensor, best: Tensor, true: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How well the probabilities fit.

    Args:
        predicted: (H, W) uint8 class indices.
        label: (H, W) uint8 class indices, 255 = void; void pixels count nowhere.
        best: (H, W) log-probability of the predicted class.
        true: (H, W) log-probability of the labelled class; of any class in void.

    Returns:
        Summed negative log-likelihood () in nats, and of each confidence bin the pixels (15,)
        int64, the right ones (15,) int64 and their summed confidence (15,); sums are float64.
    """
    valid = label != IGNORE
    confidence = best.exp()
    bins = (confidence * BINS).int().clamp(max=BINS - 1)
    # Twice the bin, and one more where right: one count gives both.
    index = torch.where(valid, 2 * bins + (predicted == label), 2 * BINS)
    pixels, summed = (
        _histogram(index, 2 * BINS, weight).view(BINS, 2) for weight in (None, confidence.double())
    )
    nll = -torch.where(valid, true, 0).sum(dtype=torch.float64)
    return nll, pixels.sum(1), pixels[:, 1], summed.sum(1)


def _histogram(values: Tensor, bins: int, weight: Tensor | None = None) -> Tensor:
    """How often 0 .. bins - 1 occur, or the sum of their weights, (bins,); the rest is left out."""
    weights = None if weight is None else weight.flatten()
    return torch.bincount(values.flatten(), weights, minlength=bins)[:bins]
