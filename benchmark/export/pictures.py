"""What an exported network is tried on: crops of test images, or drawn ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from benchmark.core.errors import UserError
from benchmark.data.base import read_example
from benchmark.data.batches import resize_image, to_tensor
from benchmark.export.trained import Trained
from benchmark.planning import remembered
from benchmark.planning.catalogue import BENCHMARKS

MOST = 3
"""Test images that crops are cut from, in turn."""

Size = tuple[int, int, int]
"""N, H and W of a batch."""


@dataclass(frozen=True)
class Pictures:
    """Images as the network sees them: resized as the benchmark asks for.

    Attributes:
        source: what they are, for people.
        batches: (N, H, W, C) uint8 each.

    """

    source: str
    batches: tuple[np.ndarray, ...]

    def __str__(self) -> str:
        sizes = (f"{len(one)} x {one.shape[1]}x{one.shape[2]}" for one in self.batches)
        return f"{self.source} ({', '.join(sizes)} px)"


def pictures_of(trained: Trained, sizes: Iterable[Size]) -> Pictures:
    """Crops of the images that the run was scored on; drawn images where these are not here.

    Args:
        trained: the run.
        sizes: of the batches.
    """
    name, split = trained.run.record.benchmark, trained.run.spec.protocol.eval_split
    try:
        images = _images(trained)
    except (UserError, OSError):
        return drawn(sizes, trained.task.channels, f"drawn images: those of {name} are not here")
    place, batches = 0, []
    for count, height, width in sizes:
        chosen = [images[(place + k) % len(images)] for k in range(count)]
        place += count
        batches.append(np.stack([_crop(image, height, width) for image in chosen]))
    return Pictures(f"crops of {split} images of {name}", tuple(batches))


def drawn(sizes: Iterable[Size], channels: int, source: str = "drawn images") -> Pictures:
    """Patches of colour with noise: on noise alone every class would be as likely as the others."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for count, height, width in sizes:
        coarse = torch.rand(count, channels, 4, 5, generator=generator)
        image = F.interpolate(coarse, (height, width), mode="bicubic")
        image += 0.1 * torch.randn(image.shape, generator=generator)
        image = (255 * image).round_().clamp_(0, 255).byte()
        batches.append(image.permute(0, 2, 3, 1).contiguous().numpy())
    return Pictures(source, tuple(batches))


def _images(trained: Trained) -> Sequence[np.ndarray]:
    """Some images (H, W, C) of the split that the run was scored on.

    Raises:
        UserError: the benchmark is not known, or its data are not here.
        OSError: they cannot be read.
    """
    record = trained.run.record
    remembered.recall(trained.run.root, [record.benchmark])
    benchmark = BENCHMARKS.get(record.benchmark)(trained.data)
    ids = benchmark.ids(trained.run.spec.protocol.eval_split)
    images = []
    for id in ids[:: max(1, len(ids) // MOST)][:MOST]:
        image = read_example(benchmark, id).image
        if image.shape[2] != trained.task.channels:
            raise UserError(f"{record.benchmark} has images of other channels now")
        factor = benchmark.scale(*image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        images.append(resize_image(to_tensor(image), height, width).permute(1, 2, 0).numpy())
    if not images:
        raise UserError(f"{record.benchmark} has no images")
    return images


def _crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image (H, W, C); one that is too small goes on as in a mirror."""
    more = [
        max(0, wanted - side) for wanted, side in zip((height, width), image.shape, strict=False)
    ]
    image = np.pad(image, [(n // 2, n - n // 2) for n in more] + [(0, 0)], mode="symmetric")
    top, left = (
        (side - wanted) // 2 for wanted, side in zip((height, width), image.shape, strict=False)
    )
    return image[top : top + height, left : left + width]
