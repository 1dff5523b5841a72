"""Masks as files: label PNGs that say where they came from, and overlays to look at."""

import io
import json
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


def mask_png(mask: np.ndarray, palette: np.ndarray, note: dict[str, Any] | None = None) -> bytes:
    """A mask as PNG with a palette: the value of a pixel is its class index.

    Args:
        mask: (H, W) uint8 class indices.
        palette: (256, 3) uint8, RGB of each class index.
        note: what the file says about itself, as JSON.
    """
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes())
    text = PngInfo()
    if note is not None:
        text.add_text(NOTE, json.dumps(note))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


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
    mixed = (1 - OPACITY) * as_rgb(image) + OPACITY * palette[mask]
    return np.rint(mixed).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    """An image (H, W, 3) uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
