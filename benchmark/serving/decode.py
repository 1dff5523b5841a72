"""Images that strangers send: what is no image, or too large, is refused before it is decoded."""

import io
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.inference.predictor import Predictor

_TIFF = (b"II*\0", b"MM\0*")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", *_TIFF, b"RIFF")
"""Of JPEG, PNG, BMP, TIFF and WebP. Pillow knows dozens of formats more, and starts other programs
for some."""


class Refused(Exception):
    """Why an image is not taken.

    Args:
        status: of HTTP.
        reason: one line.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def read_image(predictor: Predictor, body: bytes, most: int) -> np.ndarray:
    """The pixels of an image file, as a task's network sees them before they are resized.

    Args:
        predictor: of the task.
        body: the file.
        most: pixels that are taken.

    Returns:
        (H, W, C) uint8.

    Raises:
        Refused: it is no image, damaged, too large, or has other channels than the task.
    """
    if not body.startswith(_BEGINNINGS):
        raise Refused(422, "the body is no JPEG, PNG, BMP, TIFF or WebP file")
    count = _pixels(body)
    if count > most:
        raise Refused(413, f"the image has {count} pixels; at most {most} are taken")
    try:
        return predictor.read(io.BytesIO(body))
    except DataError as error:
        # "fetch it again from your own source" is of no use to who sent it.
        raise Refused(422, str(error).partition(";")[0]) from error


def _pixels(body: bytes) -> int:
    """Pixels of an image by its header, not decoded; of a TIFF those of all pages."""
    try:
        if body.startswith(_TIFF):
            with tifffile.TiffFile(io.BytesIO(body)) as tiff:
                pages: Any = tiff.pages
                return sum(int(page.imagelength) * int(page.imagewidth) for page in pages)
        with Image.open(io.BytesIO(body)) as image:
            return image.width * image.height
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise Refused(413, f"the image has more than {most} million pixels") from error
    except Exception as error:  # damage can raise almost any exception in the decoders
        raise Refused(422, "the image is truncated or damaged") from error
