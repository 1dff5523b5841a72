"""What is counted of a predicted map, on the device that holds it: classes, borders, calibration.

Everything is one histogram of small numbers over all pixels; void ones fall into a bin of their
own, which is cut off, so that no pixel has to be picked out. Transposed maps give the same counts.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import IGNORE

BINS = 15
"""Equal-width confidence bins of the calibration error."""


def best_class(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Class of the largest logit, the first one among equals.

    Args:
        logits: (K, H, W), K <= 255; changed in place.

    Returns:
        Class indices (H, W) uint8, and the logits less the largest one of each pixel (K, H, W).
    """
    below = logits.sub_(logits.amax(0))
    # The index of `max(0)` in half its time on a CPU: the sign is 0 for the largest and -1 for the
    # others; k / 256 less puts the first of equals on top and says which class it is.
    order = torch.arange(len(logits), device=logits.device).view(-1, 1, 1) / 256
    return below.sign().sub_(order).amax(0).mul_(-256).byte(), below


def log_probabilities(below: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the best class and of the true one.

    Args:
        below: (K, H, W), logits less the largest one of each pixel; changed in place.
        label: (H, W) uint8 class indices, 255 = void.

    Returns:
        Both (H, W); in void, the second is that of the first class.
    """
    true = below.gather(0, label.masked_fill(label == IGNORE, 0).long()[None])[0]
    total = below.exp_().sum(0).log_()
    return -total, true - total


def class_counts(predicted: Tensor, label: Tensor, classes: int, borders: bool = False) -> Tensor:
    """Pixels per class, (3, K) int64: right ones, predicted ones, labelled ones.

    Args:
        predicted: (H, W) uint8 class indices.
        label: (H, W) uint8 class indices, 255 = void; void pixels count nowhere.
        classes: K.
        borders: add two rows, (5, K): intersection and union of the bands inside class borders. A
            class's band is its mask without the mask eroded by max(1, round(0.02 x diagonal)) steps
            of a 3x3 square; void belongs to no class, and the image's edge is a border (Cheng et
            al., Boundary IoU, CVPR 2021).
    """
    pairs = label.int().mul_(classes).add_(predicted)  # those of void come last: K <= 255
    if not borders:
        return _by_class(_histogram(pairs, classes**2).view(classes, classes))
    reach = max(1, round(0.02 * math.hypot(*label.shape)))
    labelled = predicted.masked_fill(label == IGNORE, IGNORE)
    # A pair of classes, and which of the two bands it is in: one histogram gives all counts.
    pairs.mul_(4).add_(bands(torch.stack([labelled, label]), reach))
    found = _histogram(pairs, 4 * classes**2).view(classes, classes, 4)
    ours, theirs = found[..., 1::2].sum((0, 2)), found[..., 2:].sum((1, 2))
    both = found[..., 3].diagonal()
    return torch.cat([_by_class(found.sum(2)), torch.stack([both, ours + theirs - both])])


def _by_class(confusion: Tensor) -> Tensor:
    """Right, predicted and labelled pixels (3, K) of a confusion matrix, label x prediction."""
    return torch.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def bands(maps: Tensor, reach: int) -> Tensor:
    """Pixels whose class does not fill the square around them, for all classes at once.

    Args:
        maps: (N, H, W) uint8 class indices, N <= 8; 255 = void, as are pixels outside the map.
        reach: from the middle of the square to its edge, px.

    Returns:
        (H, W) uint8, bit n set where it is so in map n.
    """
    maps = F.pad(maps, (1, 1, 1, 1), value=IGNORE)
    across, down = maps[:, :, 1:] != maps[:, :, :-1], maps[:, 1:, 1:] != maps[:, :-1, 1:]
    # A square is of one class if every block of 2x2 pixels in it is.
    mixed = (across[:, 1:] | across[:, :-1] | down).byte()
    bits = mixed[0]
    for number in range(1, len(mixed)):
        bits |= mixed[number] << number
    side = 2 * reach
    bits = F.pad(bits, (reach - 1,) * 4)
    for axis in (0, 1):
        width = 1
        while width < side:  # windows that double in width; the last two may overlap
            step = min(width, side - width)
            kept = bits.shape[axis] - step
            bits = bits.narrow(axis, 0, kept) | bits.narrow(axis, step, kept)
            width += step
    return bits


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
    void, confidence = label == IGNORE, best.exp()
    bins = (confidence * BINS).int().clamp_(max=BINS - 1)
    # Twice the bin, and one more where right: one histogram gives both.
    index = bins.mul_(2).add_(predicted == label).masked_fill_(void, 2 * BINS)
    pixels, summed = (
        _histogram(index, 2 * BINS, weight).view(BINS, 2) for weight in (None, confidence.double())
    )
    nll = -true.masked_fill(void, 0).sum(dtype=torch.float64)
    return nll, pixels.sum(1), pixels[:, 1], summed.sum(1)


def _histogram(values: Tensor, bins: int, weight: Tensor | None = None) -> Tensor:
    """How often 0 .. bins - 1 occur, or the sum of their weights, (bins,); the rest is left out."""
    weights = None if weight is None else weight.flatten()
    return torch.bincount(values.flatten(), weights, minlength=bins)[:bins]
