"""Crops that are larger than the images they are cut from: the rest of such a crop is padding."""

import contextlib
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmark.data.base import Benchmark

LEAST = 0.1
"""Share of padding in crops from which on a smaller crop is worth a word."""

STEP, SMALLEST = 16, 32
"""px: crops are multiples of the first, as of most patches, and not below the second, the usual
stride of the coarsest level."""

MOST_READ = 200
"""Images whose size is looked up."""


class Padding(NamedTuple):
    """What crops hold besides image.

    Attributes:
        side: median shorter side of the training images as the network sees them, px.
        crop: side of a crop, px.
        share: of the pixels of a crop at zoom 1, the mean over the images.
        fitting: the largest crop that fits, px; 0 if that would be too small.
    """

    side: int
    crop: int
    share: float
    fitting: int

    def what(self, of: str = "") -> str:
        """What is wrong.

        Args:
            of: whose crop it is, as in ` of suite own`.
        """
        return (
            f"most images ({self.side} px) are smaller than the crop{of} ({self.crop} px), so "
            f"about {100 * self.share:.0f} % of a crop is padding"
        )

    @property
    def fix(self) -> str:
        """What to do."""
        if self.fitting:
            return f"add --set crop={self.fitting}"
        enlarged = -(-2 * SMALLEST // max(self.side, 1))
        return f"enlarge the images, as by `scale: {enlarged}` in the YAML file of the set"


def find_padding(sizes: np.ndarray, crop: int, patches: Iterable[int] = ()) -> Padding | None:
    """How much of the crops is padding; None where images are large enough.

    Args:
        sizes: (N, 2) height and width of training images as the network sees them, px.
        crop: side of a crop, px.
        patches: of the backbones, px: where they differ from `STEP`, a fitting crop is a multiple
            of these as well, or of these alone.
    """
    if not len(sizes):
        return None
    side = int(np.median(sizes.min(axis=1)))
    share = 1 - float((sizes / crop).clip(max=1).prod(axis=1).mean())
    if side >= crop or share < LEAST:
        return None
    patch = math.lcm(*patches)
    steps = (math.lcm(STEP, patch), patch if patch > 1 else STEP)
    fitting = next((n for step in steps if (n := side // step * step) >= SMALLEST), 0)
    return Padding(side, crop, share, fitting)


def sizes_of(benchmark: Benchmark) -> np.ndarray:
    """(N, 2) sizes of training images as the network sees them, from the heads of their labels.

    Those of `MOST_READ` images at most; none where a set has no files, or they cannot be read.

    Raises:
        DataError: the split cannot be listed.
    """
    ids = benchmark.ids("train")
    sizes = []
    for id in ids[:: -(-len(ids) // MOST_READ) or 1]:
        with contextlib.suppress(Exception):  # whatever a file that is no image triggers
            *others, label = benchmark.opened(id)
            for other in others:
                other.close()
            with label, Image.open(label) as head:
                sizes.append(seen_size(benchmark, head.height, head.width))
    return np.array(sizes).reshape(-1, 2)


def seen_size(benchmark: Benchmark, height: int, width: int) -> tuple[float, float]:
    """The size at which the network sees an image of this native size, px."""
    factor = benchmark.scale(height, width)
    return round(factor * height), round(factor * width)


def patch_of(backbone: str) -> int:
    """Side of the patches by the name of a backbone, px; 1 where the name does not tell."""
    found = re.search(r"_patch([1-9][0-9]*)_", backbone)
    return int(found[1]) if found else 1
