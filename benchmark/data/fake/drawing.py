"""Labels of bars, and pictures whose colours follow them, so that a few steps learn something."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 56)


def blocks(values: list[int], seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8 of vertical bars, each value at least once, rolled sideways by the seed."""
    bars = np.array(values, dtype=np.uint8)[np.arange(size[1]) * len(values) // size[1]]
    return np.tile(np.roll(bars, 5 * seed), (size[0], 1))


def picture(label: np.ndarray, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 whose colours follow the label."""
    rng = np.random.default_rng(seed)
    palette = np.random.default_rng(0).integers(0, 256, (256, 3))
    noise = rng.integers(-20, 21, (*label.shape, 3))
    return (palette[label] + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Writes an image; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_mat(path: Path, content: dict[str, object]) -> None:
    """Writes a MATLAB file into a folder that is there."""
    from scipy.io import savemat  # slow to load

    savemat(path, content)
