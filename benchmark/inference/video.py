"""Frames of videos, read and written with PyAV (extra `video`)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from benchmark.core.errors import DataError, UserError, on_one_line
from benchmark.core.files import draft_beside

CODECS = ("libx264", "mpeg4")
"""Of written videos; the first that PyAV was built with."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: from 0.
        image: (H, W, 3) uint8, upright.
        time: presentation time in units of `base`; None = not known.
        base: unit of `time` in seconds, a fraction.
        rate: frames a second of the video, a fraction; None = not known.
    """

    number: int
    image: np.ndarray
    time: int | None
    base: Any
    rate: Any


def require_av() -> Any:
    """The package PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            "videos need the package PyAV; install it: python -m pip install 'petseg-bench[video]'"
        ) from None
    return av


def frames(path: Path) -> Iterator[Frame]:
    """The frames of the first video stream, in order.

    Raises:
        DataError: the file cannot be read, or is damaged from some frame on.
    """
    av, number = require_av(), 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                image = frame.to_ndarray(format="rgb24")
                turned = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
                yield Frame(number, turned, frame.pts, frame.time_base, stream.average_rate)
    except av.FFmpegError as error:
        where = f"after frame {number} " if number else ""
        raise DataError(
            f"{path} is truncated or damaged {where}({on_one_line(error)}); export it again"
        ) from error


class Writer:
    """Writes a video of frames of one size; it is there when the block ends without an exception.

    Args:
        path: of the MP4 file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = draft_beside(path)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "Writer":
        self._container = require_av().open(str(self._draft), "w", format="mp4")
        return self

    def write(self, frame: Frame, image: np.ndarray) -> None:
        """Adds an image (H, W, 3) uint8 at the time of a frame."""
        av = require_av()
        height, width = image.shape[:2]
        if self._stream is None:
            self._stream = self._container.add_stream(_codec(av), rate=frame.rate or 25)
            # The colours of two by two pixels are one, so that sides are even.
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            if frame.base is not None:
                self._stream.codec_context.time_base = frame.base
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.pts, picture.time_base = frame.time, frame.base
        self._container.mux(self._stream.encode(picture))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                self._draft.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._draft.unlink(missing_ok=True)


def _codec(av: Any) -> str:
    return next(name for name in CODECS if name in av.codecs_available)
