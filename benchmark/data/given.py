"""Images that a user hands over, as a path, as a Pillow image or as an array, in 8 bits.

All of them are read by `pixels.image_bytes`, as the images of a benchmark are.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageOps

from benchmark.core.errors import DataError
from benchmark.core.record import Task
from benchmark.data.files import OWN, decoded, read_with
from benchmark.data.pixels import image_bytes

Given = str | Path | BinaryIO | Image.Image | np.ndarray
"""A file, open or not, or an image: (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4)."""

_KEPT = ("1", "L", "LA", "RGB", "RGBA", "I", "F")
"""Modes of Pillow whose values are read as they are."""


def image_of(given: Given, task: Task) -> np.ndarray:
    """An image as the network of a task sees it, before it is resized.

    Args:
        given: a path; a file that is open; a Pillow image; or an array of bool, uint8 or uint16, in
            RGB, or with the channels of the task.
        task: says which bands of a file are taken, and which stored values are black and white.

    Returns:
        (H, W, C) uint8, upright.

    Raises:
        DataError: it is none of these, or cannot be read.
    """

    def decode(file: BinaryIO) -> np.ndarray:
        return image_bytes(file, task.bands, task.range)

    if isinstance(given, str | Path):
        image = read_with(Path(given), OWN, decode)
    elif isinstance(given, Image.Image):
        image = _of_array(_pillow(given), task)
    elif isinstance(given, np.ndarray):
        image = _of_array(given, task)
    elif hasattr(given, "read"):
        image = decoded(given, "the image", OWN, decode)
    else:
        raise DataError(
            f"a value of type {type(given).__name__} is no image; give a path, a Pillow image or "
            f"an array (H, W, {task.channels})"
        )
    if image.shape[2] != task.channels:
        raise DataError(f"the image has {image.shape[2]} channels, not {task.channels}")
    return image


def _pillow(image: Image.Image) -> np.ndarray:
    """The values of a Pillow image, upright."""
    try:
        turned = ImageOps.exif_transpose(image)
        if turned.mode not in _KEPT and not turned.mode.startswith("I;16"):
            turned = turned.convert("RGB")
        values = np.asarray(turned)
    except Exception as error:  # damage can raise almost any exception in the decoders
        raise DataError("the Pillow image is truncated or damaged; open it again") from error
    if turned.mode == "I" and values.size and values.min() >= 0 and values.max() < 2**16:
        return values.astype(np.uint16)  # of older releases of Pillow, for 16 bits
    return values


def _of_array(values: np.ndarray, task: Task) -> np.ndarray:
    if values.ndim not in (2, 3) or not values.size:
        raise DataError(f"an array of shape {values.shape} is no image; give (H, W, C)")
    values = np.atleast_3d(values)
    if values.dtype == np.uint8 and values.shape[2] == task.channels and task.range is None:
        return values
    if values.shape[2] not in ((1, 2, 3, 4) if task.bands is None else (task.channels,)):
        raise DataError(f"the image has {values.shape[2]} channels, not {task.channels}")
    if values.dtype.kind not in "buif":
        raise DataError(f"an array of {values.dtype} is no image; give uint8 or uint16")
    bands = None if task.bands is None else range(len(task.bands))  # they were taken already
    return decoded(_tiff(values), "the image", OWN, lambda f: image_bytes(f, bands, task.range))


def _tiff(values: np.ndarray) -> io.BytesIO:
    """The TIFF that holds an array, so that one set of rules says what is read how."""
    channels, file = values.shape[2], io.BytesIO()
    more: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    if channels in (3, 4):
        more["photometric"] = "rgb"
    if channels in (2, 4):
        more["extrasamples"] = ["unassalpha"]
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    tifffile.imwrite(file, values if channels > 1 else values[..., 0], metadata=None, **more)
    file.seek(0)
    return file
