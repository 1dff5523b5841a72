"""Images that strangers send: what is no image, or too large, is refused before it is decoded."""

import io

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.files import OWN, decoded
from benchmark.data.pixels import TooLarge, pixels_of
from benchmark.inference.predictor import Predictor

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"RIFF")
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
    try:
        count: int = decoded(io.BytesIO(body), "the image", OWN, pixels_of)
        if count > most:
            raise Refused(413, f"the image has {count} pixels; at most {most} are taken")
        return predictor.read(io.BytesIO(body))
    except DataError as error:
        # "fetch it again from your own source" is of no use to who sent it.
        status = 413 if isinstance(error.__cause__, TooLarge) else 422
        raise Refused(status, str(error).partition(";")[0]) from error
