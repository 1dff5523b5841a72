"""Which images pass the network together.

Out of a block of consecutive images, those whose network input has one shape make batches. How
images are grouped depends on their order and shapes alone, so it is the same whenever a split is
evaluated; and the images of a batch, given alone, are that batch again, so that it can be repeated
to the bit. Both matter, because the size of a batch may change how products are rounded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmark.core.spec import Protocol
from benchmark.data.base import Example
from benchmark.engine.ranks import Ranks

IMAGES = 16
"""Images of a block on a GPU, which a single small image does not keep busy."""

Group = list[tuple[int, Example]]
"""Images in the order given, each with its number."""


class Limit(NamedTuple):
    """How much passes the network at once.

    Attributes:
        images: of a block, and so of a batch.
        pixels: of all images or windows of a batch in sum; a single one may have more.
    """

    images: int
    pixels: int


def limit_on(device: torch.device, protocol: Protocol) -> Limit:
    """The limit on a device: one image on a CPU, which gains little from more.

    On a GPU a batch has as many pixels as must fit its memory anyway, in the largest image that
    passes whole or in the batches of training.
    """
    if device.type != "cuda":
        return Limit(1, protocol.eval_max_pixels)
    return Limit(IMAGES, max(protocol.eval_max_pixels, protocol.batch_size * protocol.crop**2))


def shared_out(count: int, limit: Limit, ranks: Ranks) -> np.ndarray:
    """Which of so many images a process evaluates: whole blocks, so that batches stay the same.

    Args:
        count: of the images.
        limit: of a batch.
        ranks: the processes.
    """
    numbers = np.arange(count)
    return numbers[numbers // limit.images % ranks.count == ranks.rank]


def grouped(
    examples: Iterable[Example], shape: Callable[[Example], tuple[int, int]], limit: Limit
) -> Iterator[Group]:
    """Groups images by shape, as soon as a group is full or its block ends.

    No more than `limit.images` examples wait at any time.

    Args:
        examples: taken one by one.
        shape: (H, W) of the network input of an example.
        limit: of a batch.
    """
    waiting: dict[tuple[int, int], Group] = {}
    for number, example in enumerate(examples):
        height, width = key = shape(example)
        group = waiting.setdefault(key, [])
        group.append((number, example))
        if (len(group) + 1) * height * width > limit.pixels:
            yield waiting.pop(key)
        if (number + 1) % limit.images == 0:
            yield from waiting.values()
            waiting.clear()
    yield from waiting.values()


def spread(batches: Sequence[list[int]], count: int) -> list[list[int]]:
    """The batches of a few images spread over a split, from its first to its last.

    Args:
        batches: of a whole split, numbers of images.
        count: of the images.
    """
    last = sum(map(len, batches)) - 1
    chosen = np.linspace(0, last, count).astype(int)
    return [batch for batch in batches if np.isin(batch, chosen).any()]
