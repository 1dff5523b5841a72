"""Prediction at the label's own resolution.

An image passes the network whole where it fits, else by overlapping windows whose coarse logits
are averaged. Images of one shape pass together on a GPU (`engine.batching`); what comes after the
coarse logits is done image by image. Logits are brought to label resolution a strip of columns
at a time, and three numbers a pixel are kept of them, so memory is bounded by the strip, not by
classes x pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmark.core.spec import Protocol
from benchmark.data.base import Benchmark, Example
from benchmark.data.batches import resize_image, to_tensor
from benchmark.engine.batching import Limit, grouped, limit_on
from benchmark.engine.counts import best_class, calibration, class_counts, log_probabilities
from benchmark.models.precision import autocast, cast_frozen
from benchmark.models.segmenter import Segmenter
from benchmark.results.metrics import CLASS_COUNTS

Counts = dict[str, np.ndarray]

Scale = Callable[[int, int], float]
"""The factor by which the network sees an image resized, by its height and width."""

BOUNDARY_COUNTS = ("boundary_intersection", "boundary_union")
"""Counts of the bands inside class borders."""

STRIP = {"cpu": 2**17, "cuda": 2**26}
"""Logits of full size that are held at once: for each thread what stays in a core's own cache, or
what keeps a GPU busy."""


def evaluate(
    segmenter: Segmenter,
    benchmark: Benchmark,
    examples: Iterable[Example],
    protocol: Protocol,
    precision: str,
    full: bool = True,
    seen: Callable[[Example, np.ndarray], None] | None = None,
    passed: Callable[[list[int]], None] | None = None,
    limit: Limit | None = None,
) -> Counts:
    """Counts of every image, in order.

    Args:
        segmenter: in eval mode.
        benchmark: gives the classes and the working scale.
        examples: at native resolution.
        protocol: says when an image is cut into windows.
        precision: fp32 or bf16.
        full: also count borders and calibration; the class counts do not depend on it.
        seen: called with each prediction in order, (H, W) uint8 class indices at the label's
            resolution.
        passed: called with the numbers of the images of each batch; these images alone, in this
            order, make the same batch again.
        limit: of a batch; None = that of the device.

    Returns:
        `intersection`, `prediction`, `label`: (N, K) int64 pixels. With `full` also
        `boundary_intersection`, `boundary_union`: (N, K) int64, `nll`: (N,) summed nats,
        `bin_count`, `bin_correct`: (N, 15) int64 and `bin_confidence`: (N, 15).
    """
    limit = limit or limit_on(next(segmenter.parameters()).device, protocol)
    rows: list[Counts] = []
    early: dict[int, tuple[Example, Tensor, Counts]] = {}  # images before them still wait

    def shape(example: Example) -> tuple[int, int]:
        return input_sizes(segmenter, benchmark.scale, example.image.shape)[1]

    with torch.no_grad(), cast_frozen(segmenter, precision):
        for group in grouped(examples, shape, limit):
            if passed:
                passed([number for number, _ in group])
            images = [example.image for _, example in group]
            logits = coarse_of(segmenter, benchmark.scale, images, protocol, precision, limit)
            for (number, example), coarse in zip(group, logits, strict=True):
                early[number] = example, *_count(segmenter, benchmark, example, coarse, full)
            while len(rows) in early:
                example, predicted, row = early.pop(len(rows))
                rows.append(row)
                if seen:
                    seen(example, np.ascontiguousarray(predicted.cpu()))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def joined(parts: Sequence[tuple[np.ndarray, Counts]]) -> Counts:
    """Counts of a split from those of its parts, in the order of the images.

    Args:
        parts: numbers of images, and their counts; empty where there are no images.
    """
    numbers, counts = zip(*((images, one) for images, one in parts if len(images)), strict=True)
    order = np.argsort(np.concatenate(numbers))
    return {key: np.concatenate([one[key] for one in counts])[order] for key in counts[0]}


def input_sizes(
    segmenter: Segmenter, scale: Scale, shape: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(H, W) of the network input of an image before and after padding.

    Args:
        segmenter: that will see it.
        scale: the factor for an image of a height and a width.
        shape: of the image, height and width first.
    """
    factor = scale(shape[0], shape[1])
    height, width = (max(1, round(side * factor)) for side in shape[:2])
    return (height, width), segmenter.backbone.padded(height, width)


def network_inputs(segmenter: Segmenter, scale: Scale, images: Sequence[np.ndarray]) -> Tensor:
    """Images resized, normalised and padded to one shape: (N, C, H, W), on the device.

    Args:
        segmenter: that will see them.
        scale: the factor for an image of a height and a width.
        images: (H, W, C) uint8 each, whose network inputs have one shape.
    """
    device = next(segmenter.parameters()).device
    sizes = [input_sizes(segmenter, scale, image.shape) for image in images]
    inputs = torch.zeros(len(images), images[0].shape[2], *sizes[0][1], device=device)
    for place, array, ((height, width), _) in zip(inputs, images, sizes, strict=True):
        image = resize_image(to_tensor(array), height, width)
        place[:, :height, :width] = segmenter.normalise(image.to(device))
    return inputs


@torch.inference_mode()
def coarse_of(
    segmenter: Segmenter,
    scale: Scale,
    images: Sequence[np.ndarray],
    protocol: Protocol,
    precision: str,
    limit: Limit,
) -> Tensor:
    """Coarse logits of images whose network input has one shape.

    Args:
        segmenter: in eval mode.
        scale: the factor for an image of a height and a width.
        images: (H, W, C) uint8 each.
        protocol: says when an image is cut into windows.
        precision: fp32 or bf16.
        limit: of what passes together.

    Returns:
        (N, K, h, w) float32, of the padded network input.
    """
    inputs = network_inputs(segmenter, scale, images)
    device = inputs.device
    with autocast(device, precision):
        logits = coarse_logits(segmenter, inputs, protocol, limit.pixels)
        if protocol.tta == "flip":
            mirrored = coarse_logits(segmenter, inputs.flip(-1), protocol, limit.pixels)
            logits = (logits + mirrored.flip(-1)) / 2
        return logits


@torch.inference_mode()
def _count(
    segmenter: Segmenter, benchmark: Benchmark, example: Example, coarse: Tensor, full: bool
) -> tuple[Tensor, Counts]:
    """Prediction (H, W) uint8 and counts of an image from its coarse logits."""
    # Everything of the label's size is transposed: see `label_strips`.
    label = torch.from_numpy(np.array(example.label.T, order="C")).to(coarse.device)
    size, padded = input_sizes(segmenter, benchmark.scale, example.image.shape)
    predicted = torch.empty_like(label)
    best, true = torch.empty((2, *label.shape), device=coarse.device)
    for columns, logits in label_strips(coarse, padded, size, example.label.shape):
        predicted[columns], below = best_class(logits)
        if full:
            best[columns], true[columns] = log_probabilities(below, label[columns])
    classes = len(benchmark.classes)
    keys = CLASS_COUNTS + BOUNDARY_COUNTS if full else CLASS_COUNTS
    counts = dict(zip(keys, class_counts(predicted, label, classes, borders=full), strict=True))
    if full:
        fit = calibration(predicted, label, best, true)
        counts |= zip(("nll", "bin_count", "bin_correct", "bin_confidence"), fit, strict=True)
    return predicted.t(), {key: value.cpu().numpy() for key, value in counts.items()}


def coarse_logits(segmenter: Segmenter, images: Tensor, protocol: Protocol, pixels: int) -> Tensor:
    """Logits of whole images at the decoder's resolution.

    Args:
        segmenter: in eval mode.
        images: (N, C, H, W), normalised, of a size that the backbone's `padded` returns; no more
            than may pass together where they pass whole.
        protocol: largest image that passes whole, and the window; where the backbone takes one
            size only, that is both.
        pixels: of windows that pass together, at least one of them.

    Returns:
        (N, K, h, w) float32.
    """
    step, fixed = segmenter.backbone.divisor, segmenter.backbone.fixed_side
    height, width = images.shape[-2:]
    largest = fixed**2 if fixed else protocol.eval_max_pixels
    if height * width <= largest:
        return segmenter(images).float()
    window = fixed or _round_up(protocol.eval_window, step)
    starts = [
        (number, top, left)
        for number in range(len(images))
        for top in window_starts(height, window, step)
        for left in window_starts(width, window, step)
    ]
    together = max(1, pixels // (min(height, window) * min(width, window)))  # all of one size
    total: Tensor | None = None
    for first in range(0, len(starts), together):
        some = starts[first : first + together]
        parts = [images[n, :, top : top + window, left : left + window] for n, top, left in some]
        outputs = segmenter(torch.stack(parts)).float()
        for (number, top, left), logits in zip(some, outputs, strict=True):
            # A logit need not be a whole number of pixels wide: on patches of 14 it may be 3.5.
            side, across = logits.shape[-1], parts[0].shape[-1]
            if total is None:
                size = (height * side // across, width * side // across)
                total = logits.new_zeros(len(images), len(logits) + 1, *size)
            y, x = top * side // across, left * side // across
            area = total[number, :, y : y + logits.shape[1], x : x + logits.shape[2]]
            area[:-1] += logits
            area[-1] += 1
    assert total is not None
    return total[:, :-1] / total[:, -1:]


def window_starts(side: int, window: int, step: int) -> list[int]:
    """Starts of windows that overlap by at least a third, on multiples of `step`."""
    if side <= window:
        return [0]
    count = -(-(side - window) // (window * 2 // 3)) + 1
    starts = (round(i * (side - window) / (count - 1) / step) * step for i in range(count))
    return list(dict.fromkeys(starts))  # windows one step wide would come twice


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def label_strips(
    coarse: Tensor, padded: tuple[int, int], size: tuple[int, int], target: tuple[int, int]
) -> Iterator[tuple[slice, Tensor]]:
    """Bilinear logits at label resolution, a strip of columns at a time.

    One interpolation takes the coarse grid of the padded network input straight to label pixels
    (half-pixel centres, as `F.interpolate(align_corners=False)`). Strips are transposed: columns
    are then contiguous and copied whole, which takes a fraction of the time of single pixels.

    Args:
        coarse: (K, h, w) logits of the padded input.
        padded: (H, W) of the network input.
        size: (H, W) of the network input before padding.
        target: (H, W) of the label.

    Yields:
        Columns of the label, and their logits (K, columns, H), which may be changed.
    """
    classes, h, w = coarse.shape
    device = coarse.device
    y0, y1, wy = (x.to(device) for x in _taps(target[0], size[0] / padded[0], h))
    x0, x1, wx = _taps(target[1], size[1] / padded[1], w)
    held = STRIP["cuda"] if device.type == "cuda" else STRIP["cpu"] * torch.get_num_threads()
    width = max(1, held // (classes * target[0]))
    transposed = coarse.transpose(1, 2).contiguous()
    for left in range(0, target[1], width):
        part = slice(left, min(left + width, target[1]))
        first = int(x0[left])
        near = transposed[:, first : int(x1[part.stop - 1]) + 1]
        # Plain indexing does the same in twice the time.
        tall = torch.lerp(near.index_select(2, y0), near.index_select(2, y1), wy)
        lower, upper = (tall.index_select(1, (x[part] - first).to(device)) for x in (x0, x1))
        yield part, lower.lerp_(upper, wx[part, None].to(device))


def _taps(out: int, share: float, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper grid index and upper weight for `out` pixels over a share of the grid."""
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * (share * grid / out) - 0.5
    centre = centre.clamp(0, grid - 1)
    low = centre.floor().long()
    return low, (low + 1).clamp(max=grid - 1), (centre - low).float()


def same_class_counts(a: Counts, b: Counts) -> bool:
    """Whether two evaluations agree on every image, bit for bit."""
    return all(np.array_equal(a[key], b[key]) for key in CLASS_COUNTS)
