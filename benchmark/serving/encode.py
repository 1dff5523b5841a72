"""A mask as an answer: a PNG, or run lengths in JSON."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image


def png(mask: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG whose pixels are class indices, with a palette that shows them in their colours.

    Args:
        mask: (H, W) uint8.
        palette: (256, 3) uint8.
    """
    image = Image.fromarray(mask)
    image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # a sixth of the time of the default
    return file.getvalue()


def run_lengths(mask: np.ndarray) -> list[int]:
    """Run lengths of a binary mask as in COCO, not compressed.

    Pixels are taken column by column. The first run is of zeros, and may be 0 long.

    Args:
        mask: (H, W) bool.
    """
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]]))
    return ([0] if flat[0] else []) + lengths.tolist()


def classes(mask: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Index, name, pixels and run lengths of each class that is in a mask.

    Args:
        mask: (H, W) uint8.
        names: of the classes.
    """
    counts = np.bincount(mask.ravel(), minlength=len(names))
    return [
        {
            "id": index,
            "name": names[index],
            "pixels": int(counts[index]),
            "rle": {"size": list(mask.shape), "counts": run_lengths(mask == index)},
        }
        for index in np.flatnonzero(counts).tolist()
    ]
