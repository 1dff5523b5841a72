"""Masks as files: label PNGs that say where they came from, and overlays to look at."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark.data.palette import as_rgb

NOTE = "petseg-bench"
"""Name of the text in a PNG that says where a mask came from."""

OPACITY = 0.5
"""Of the classes in an overlay."""


def mask_png(
    mask: np.ndarray,
    palette: np.ndarray,
    note: dict[str, Any] | None = None,
    stored: np.ndarray | None = None,
) -> bytes:
    """A mask as PNG.

    Args:
        mask: (H, W) uint8 class indices.
        palette: (256, 3) uint8, RGB of each class index.
        note: what the file says about itself, as JSON.
        stored: what a pixel stores of each class, (K,) or (K, 3) uint8; None = its index, shown in
            the colours of the palette.
    """
    picture = Image.fromarray(mask if stored is None else stored[mask])
    if stored is None:
        picture.putpalette(palette.tobytes())
    text = PngInfo()
    if note is not None:
        text.add_text(NOTE, json.dumps(note))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def mask_in(path: Path, stored: np.ndarray | None = None) -> np.ndarray:
    """The class indices (H, W) uint8 in a file of `mask_png`; `stored` as there."""
    with Image.open(path) as picture:
        pixels = np.array(picture)
    if stored is None:
        return pixels
    if stored.ndim == 1:
        fits = pixels[..., None] == stored
    else:
        fits = (pixels[..., None, :] == stored).all(-1)
    return np.argmax(fits, -1).astype(np.uint8)


def stored_values(values: Sequence[int | str]) -> np.ndarray:
    """What pixels store of each class, as `mask_png` takes it.

    Args:
        values: indices 0 to 255, or colours `#RRGGBB`.
    """
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.uint8)
    return np.array([list(bytes.fromhex(str(value)[1:])) for value in values], np.uint8)


def note_in(path: Path) -> dict[str, Any] | None:
    """What a mask's file says about itself; None where `mask_png` did not write it."""
    try:
        with Image.open(path) as picture:
            note = json.loads(picture.info[NOTE])
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        return None
    return note if isinstance(note, dict) else None


def overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """An image with the colours of its classes over it.

    Args:
        image: (H, W, C) uint8; of more than three channels, the first three are shown.
        mask: (H, W) uint8 class indices.
        palette: (256, 3) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    # A class in black, as the background is by custom, would only darken the image.
    opacity = np.where(palette.any(1), OPACITY, 0.0)[mask][..., None]
    mixed = (1 - opacity) * as_rgb(image) + opacity * palette[mask]
    return np.rint(mixed).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
