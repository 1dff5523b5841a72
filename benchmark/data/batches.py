"""Decoded examples -> training batches: random zoom, crop and mirror from named streams."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import IGNORE, Benchmark, Example
from benchmark.seeding import stream
from benchmark.spec import Protocol


def to_tensors(example: Example) -> tuple[Tensor, Tensor]:
    """Image (3, H, W) uint8 and label (H, W) uint8."""
    image = torch.from_numpy(np.ascontiguousarray(example.image.transpose(2, 0, 1)))
    return image, torch.from_numpy(example.label)


def resize_image(image: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize of an image (3, H, W) uint8."""
    if image.shape[1:] == (height, width):
        return image
    resized = F.interpolate(
        image[None].float(), (height, width), mode="bilinear", antialias=True
    ).round_()
    return resized[0].clamp_(0, 255).byte()


def resize_label(label: Tensor, height: int, width: int) -> Tensor:
    """Nearest-neighbour resize of a label (H, W) uint8."""
    if label.shape == (height, width):
        return label
    return F.interpolate(label[None, None], (height, width), mode="nearest-exact")[0, 0]


def at_working_scale(benchmark: Benchmark, example: Example) -> tuple[Tensor, Tensor]:
    """The example resized by the benchmark's own factor, as tensors."""
    image, label = to_tensors(example)
    factor = benchmark.scale(*label.shape)
    height, width = (max(1, round(side * factor)) for side in label.shape)
    return resize_image(image, height, width), resize_label(label, height, width)


class Normalise:
    """Bytes to the values that the backbone was pretrained on; shared by training and inference.

    Args:
        mean: per channel, of images in [0, 1].
        std: per channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = 255 * torch.tensor(mean).view(3, 1, 1)
        self.std = 255 * torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 -> float32."""
        return (image.float() - self.mean) / self.std


def batches(
    examples: Sequence[tuple[Tensor, Tensor]],
    normalise: Normalise,
    protocol: Protocol,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches, the same for every method of a seed.

    Args:
        examples: image (3, H, W) uint8 and label (H, W) uint8 at working scale.
        normalise: maps bytes to the backbone's input.
        protocol: batch size, crop, zoom and mirror.
        seed: of the run; streams `data-order` and `augmentation` are drawn from it.

    Yields:
        Images (N, 3, crop, crop) float32 and labels (N, crop, crop) int64.
    """
    order = _endless_permutations(len(examples), stream(seed, "data-order"))
    random = stream(seed, "augmentation")
    while True:
        crops = [
            _random_crop(*examples[next(order)], protocol, random)
            for _ in range(protocol.batch_size)
        ]
        images = torch.stack([image for image, _ in crops])
        labels = torch.stack([label for _, label in crops])
        yield normalise(images), labels.long()


def _endless_permutations(n: int, random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(n).tolist()


def _random_crop(
    image: Tensor, label: Tensor, protocol: Protocol, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    # A constant number of draws a crop keeps the stream aligned whatever the image's size.
    zoom_at, top_at, left_at, mirror_at = random.random(4)
    zoom = protocol.scale_min * (protocol.scale_max / protocol.scale_min) ** zoom_at
    side = max(1, round(protocol.crop / zoom))
    height, width = label.shape
    top = int(top_at * (max(0, height - side) + 1))
    left = int(left_at * (max(0, width - side) + 1))
    image = image[:, top : top + side, left : left + side]
    label = label[top : top + side, left : left + side]
    missing = (0, side - label.shape[1], 0, side - label.shape[0])
    if any(missing):
        image, label = F.pad(image, missing, value=128), F.pad(label, missing, value=IGNORE)
    image = resize_image(image, protocol.crop, protocol.crop)
    label = resize_label(label, protocol.crop, protocol.crop)
    if protocol.flip and mirror_at < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    return image, label
