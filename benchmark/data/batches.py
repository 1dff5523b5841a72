"""Decoded examples -> training batches: random zoom, crop and mirror from named streams."""

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmark.core.errors import DataError
from benchmark.core.seeding import stream
from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE, Benchmark, Example


def to_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, C) uint8 as (C, H, W)."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def resize_image(image: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize of an image (C, H, W) uint8."""
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


def at_working_scale(benchmark: Benchmark, example: Example) -> Example:
    """The example resized by the benchmark's own factor."""
    factor = benchmark.scale(*example.label.shape)
    height, width = (max(1, round(side * factor)) for side in example.label.shape)
    if (height, width) == example.label.shape:
        return example
    image = resize_image(to_tensor(example.image), height, width)
    label = resize_label(torch.from_numpy(np.array(example.label)), height, width)
    return Example(example.id, image.numpy().transpose(1, 2, 0), label.numpy())


@dataclass(frozen=True)
class Prefix:
    """What a batch of images became in the first stages; takes the place of the images.

    Attributes:
        outputs: of each stage, (N, ...) in the model's own layout.
        size: height and width of the images.
    """

    outputs: tuple[Tensor, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        """Images."""
        return len(self.outputs[0])

    def __getitem__(self, images: slice) -> "Prefix":
        """Some of the images."""
        return Prefix(tuple(y[images] for y in self.outputs), self.size)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Prefix":
        """On another device."""
        moved = (y.to(device, non_blocking=non_blocking) for y in self.outputs)
        return Prefix(tuple(moved), self.size)


class Batch(NamedTuple):
    """Training crops, in bytes: a quarter of what goes to the device once it is normalised there.

    Attributes:
        images: (N, C, crop, crop) uint8; or what they became in the frozen beginning of a backbone.
        labels: (N, crop, crop) uint8, 255 = void.
        ids: of the images that they were cut from.
    """

    images: Tensor | Prefix
    labels: Tensor
    ids: tuple[str, ...]


class CropParams(NamedTuple):
    """Where a training crop is cut, each number uniform in [0, 1)."""

    zoom: float
    top: float
    left: float
    mirror: float


class Crop(NamedTuple):
    """What is drawn for one training crop.

    Attributes:
        example: its index.
        place: drawn for this crop alone; None where it is one of the image's views.
        view: which one of them.
    """

    example: int
    place: CropParams | None
    view: int = 0


def view_of(id: str, view: int) -> CropParams:
    """A fixed place in an image: the same for every method, seed and share of the images."""
    return CropParams(*stream(0, "view", id, view).random(4))


def draws(
    n: int, batch_size: int, seed: int, skip: int = 0, views: int = 0
) -> Iterator[list[Crop]]:
    """Endless batches of draws over `n` examples; a number of draws that no size changes.

    Args:
        n: number of examples.
        batch_size: draws a batch.
        seed: of the run; streams `data-order` and `augmentation` are drawn from it.
        skip: batches to leave out at the beginning.
        views: of each image, of which one is drawn; 0 = a new place each time.
    """
    order = _endless_permutations(n, stream(seed, "data-order"))
    random = stream(seed, "augmentation")
    for number in itertools.count():
        batch = [
            Crop(next(order), None, int(random.integers(views)))
            if views
            else Crop(next(order), CropParams(*random.random(4)))
            for _ in range(batch_size)
        ]
        if number >= skip:
            yield batch


def own_of(drawn: Iterator[list[Crop]], places: Sequence[int] | None) -> Iterator[list[Crop]]:
    """Of each batch the draws at some places, in their order; None = all of them."""
    return drawn if places is None else ([batch[place] for place in places] for batch in drawn)


Piece = tuple[Tensor, Tensor, str]


class Crops(Dataset["Piece | DataError"]):
    """Training crops by their draws.

    Args:
        examples: at working scale.
        protocol: crop, zoom and mirror.
    """

    def __init__(self, examples: Sequence[Example], protocol: Protocol) -> None:
        self.examples, self.protocol = examples, protocol

    def __getitem__(self, crop: Crop) -> Piece | DataError:
        """Image (C, crop, crop) and label (crop, crop), uint8, and id; or why there are none.

        A worker that raised would bring its traceback along into the message.
        """
        try:
            example = self.examples[crop.example]
            place = crop.place or view_of(example.id, crop.view)
            return *cut(example, place, self.protocol), example.id
        except DataError as error:
            return error


def _stack(pieces: list[Piece | DataError]) -> Batch | DataError:
    images, labels, ids = [], [], []
    for piece in pieces:
        if isinstance(piece, DataError):
            return piece
        images.append(piece[0])
        labels.append(piece[1])
        ids.append(piece[2])
    return Batch(torch.stack(images), torch.stack(labels), tuple(ids))


def batches(
    examples: Sequence[Example],
    protocol: Protocol,
    seed: int,
    workers: int = 0,
    skip: int = 0,
    pinned: bool = False,
    places: Sequence[int] | None = None,
) -> Generator[Batch]:
    """Endless batches, the same for every method of a seed and any number of workers.

    Args:
        examples: at working scale.
        protocol: batch size, crop, zoom and mirror.
        seed: of the run.
        workers: processes that cut crops ahead; 0 = this one does.
        skip: batches to leave out at the beginning, of a resumed training.
        pinned: in memory that a GPU reads while the processor continues.
        places: in each batch, of the crops that are cut, in this order; None = all of them.

    Raises:
        DataError: an example that is decoded only now is damaged.
    """
    drawn = draws(len(examples), protocol.batch_size, seed, skip, protocol.views)
    loader = DataLoader(
        Crops(examples, protocol),
        batch_sampler=own_of(drawn, places),  # type: ignore[arg-type]
        collate_fn=_stack,
        num_workers=workers,
        # Forked ones share what is loaded already; others take 300 MB each for the libraries.
        multiprocessing_context="fork" if workers and "fork" in get_all_start_methods() else None,
        # Its own generator: the loader would draw from that of the method's dropout.
        generator=torch.Generator(),
        pin_memory=pinned,
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _endless_permutations(n: int, random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(n).tolist()


def cut(example: Example, crop: CropParams, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """One training crop: image (C, crop, crop) and label (crop, crop), uint8."""
    zoom = protocol.scale_min * (protocol.scale_max / protocol.scale_min) ** crop.zoom
    side = max(1, round(protocol.crop / zoom))
    height, width = example.label.shape
    top = int(crop.top * (max(0, height - side) + 1))
    left = int(crop.left * (max(0, width - side) + 1))
    window = slice(top, top + side), slice(left, left + side)
    image = to_tensor(example.image[window])
    label = torch.from_numpy(np.array(example.label[window]))
    missing = (0, side - label.shape[1], 0, side - label.shape[0])
    if any(missing):
        image, label = F.pad(image, missing, value=128), F.pad(label, missing, value=IGNORE)
    image = resize_image(image, protocol.crop, protocol.crop)
    label = resize_label(label, protocol.crop, protocol.crop)
    if protocol.flip and crop.mirror < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    return image, label
