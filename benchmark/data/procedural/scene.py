"""What the five procedural benchmarks share: the canvas, the light and the splits."""

import hashlib
from abc import abstractmethod
from typing import ClassVar

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, SPLITS, Benchmark, Split
from benchmark.data.procedural.textures import Rng, Size, grid


def stream(*parts: object) -> Rng:
    """A random stream of its own for these parts, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))


class Canvas:
    """An image and its labels, painted from back to front.

    Args:
        pixels: (H, W, 3) float, the backdrop, which is of class 0.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.image = np.array(pixels, np.float32)
        self.label = np.zeros(self.image.shape[:2], np.uint8)

    def paint(self, mask: np.ndarray, pixels: np.ndarray, label: int | None = None) -> None:
        """Covers `mask` with (H, W, 3) or (3,) colours; `label` None leaves the labels."""
        where = np.nonzero(mask)
        self.image[where] = pixels if pixels.ndim == 1 else pixels[where]
        if label is not None:
            self.label[where] = label


def light(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Photographs a painted image: uneven light, exposure, tint of the lamp, blur, sensor noise."""
    from scipy import ndimage  # slow to load, and names and classes need none of it

    size = image.shape[0], image.shape[1]
    y, x = grid(size)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    ramp = np.cos(angle) * (y / size[0] - 0.5) + np.sin(angle) * (x / size[1] - 0.5)
    gain = (rng.uniform(0.9, 1.1, 3) * rng.uniform(0.75, 1.1)).astype(np.float32)
    out = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.75, 1.35)) * gain
    out *= (1 + 2 * depth * ramp).astype(np.float32)[..., None]
    out = ndimage.gaussian_filter(out, (0.5, 0.5, 0), truncate=2.0)
    out += np.float32(rng.uniform(0.01, 0.035)) * rng.standard_normal(out.shape, np.float32)
    return (np.clip(out, 0, 1) * 255).astype(np.uint8)


def void_borders(rng: Rng, label: np.ndarray) -> np.ndarray:
    """Labels with the borders between classes void in some places, as annotators leave them."""
    edge = np.zeros(label.shape, bool)
    edge[1:] |= label[1:] != label[:-1]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    coarse = rng.random((label.shape[0] // 12 + 1, label.shape[1] // 12 + 1)) < 0.35
    here = coarse.repeat(12, 0).repeat(12, 1)[: label.shape[0], : label.shape[1]]
    return np.where(edge & here, np.uint8(IGNORE), label)


class Procedural(Benchmark):
    """A benchmark whose every example is drawn from its id.

    Class attributes:
        size: height and width of its images in pixels.
        counts: examples per split.
    """

    size: ClassVar[Size] = (108, 108)
    counts: ClassVar[dict[Split, int]] = {"train": 96, "val": 16, "test": 32}
    folder = None
    origin = "generated from a seed; no files"
    licence = "Apache-2.0"

    @property
    def fingerprint(self) -> str:
        """See `Benchmark.fingerprint`: only the code decides the examples."""
        return "generated"

    def ids(self, split: Split) -> list[str]:
        """Ids such as `train/0007`."""
        return [f"{split}/{index:04d}" for index in range(self.counts[split])]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws the example.

        Raises:
            DataError: there is no such example.
        """
        if id not in {known for split in SPLITS for known in self.ids(split)}:
            raise DataError(f"{self.name}: there is no example {id!r}; ids look like train/0007")
        rng = stream(self.name, id)
        canvas = self.draw(rng)
        return light(rng, canvas.image), void_borders(rng, canvas.label)

    @abstractmethod
    def draw(self, rng: Rng) -> Canvas:
        """Paints one scene."""
