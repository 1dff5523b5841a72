"""Drawing of annotated shapes into a label."""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmark.core.errors import UserError, shown

UNLABELLED, VOID = -1, -2
"""Values of a canvas besides the numbers of the categories."""

_LONGEST = 4_000_000
"""An outline that is longer than this, in px, is no outline; it would take gigabytes to draw."""


def library(name: str) -> Any:
    """A module of a library that reading annotations takes.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(
            f"reading annotations takes {package}, which is not installed; "
            "pip install 'petseg-bench[import]'"
        ) from error


class Canvas:
    """A label on which shapes are drawn: later ones cover earlier ones.

    Attributes:
        label: (H, W) int16, number of the category, `UNLABELLED` or `VOID`.
        empty: how many shapes have covered no pixel.
    """

    def __init__(self, height: int, width: int) -> None:
        self.label = np.full((height, width), UNLABELLED, np.int16)
        self.empty = 0

    def polygons(self, rings: Sequence[Sequence[float]], value: int) -> None:
        """Draws the union of polygons, as pycocotools' `annToMask` does.

        A polygon that crosses or touches itself is filled by the even-odd rule. Parts outside the
        image are cut off.

        Args:
            rings: x and y of the vertices in turn, px; the centre of the first pixel is
                (0.5, 0.5).
            value: what to draw.

        Raises:
            ValueError: the coordinates are no polygon.
        """
        drawn = [self._polygon(ring, value) for ring in rings]
        self.empty += not any(drawn)

    def box(self, left: float, top: float, right: float, bottom: float, value: int) -> None:
        """Draws an axis-aligned rectangle."""
        self.polygons([[left, top, right, top, right, bottom, left, bottom]], value)

    def mask(self, inside: np.ndarray, value: int, left: int = 0, top: int = 0) -> None:
        """Draws the pixels of a mask (h, w) bool with its upper left corner at (left, top)."""
        self.empty += not self._mask(inside, value, left, top)

    def check_size(self, width: int, height: int) -> None:
        """Checks that a mask has the size of the image.

        Raises:
            ValueError: it has not.
        """
        if self.label.shape != (height, width):
            raise ValueError(
                f"the mask is {width}x{height} px, but its image is "
                f"{self.label.shape[1]}x{self.label.shape[0]}"
            )

    def _mask(self, inside: np.ndarray, value: int, left: int, top: int) -> bool:
        height, width = self.label.shape
        rows = slice(max(0, -top), max(0, height - top))
        columns = slice(max(0, -left), max(0, width - left))
        inside = inside[rows, columns]
        top, left = max(0, top), max(0, left)
        self.label[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = value
        return bool(inside.any())

    def _polygon(self, ring: Sequence[float], value: int) -> bool:
        if len(ring) % 2:
            raise ValueError(f"a polygon has {len(ring)} coordinates, not pairs of x and y")
        points = np.array(ring, np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise ValueError("a coordinate of a polygon is not a finite number")
        size = np.array(self.label.shape[::-1])
        if ((points < -size) | (points > 2 * size)).any():
            raise ValueError(
                f"a polygon is far outside its image of {size[0]}x{size[1]} px; was the image "
                "resized after it was annotated?"
            )
        if len(points) < 3:
            return False
        if np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() > _LONGEST:
            raise ValueError(f"the outline of a polygon is longer than {_LONGEST:,} px")
        coco = library("pycocotools.mask")
        drawn = coco.decode(coco.frPyObjects([points.ravel().tolist()], size[1], size[0])[0])
        # Only the bounding box, since an image may hold hundreds of shapes.
        left, top = np.floor(points.min(axis=0)).astype(int).clip(min=0).tolist()
        right, bottom = np.ceil(points.max(axis=0)).astype(int).clip(min=0).tolist()
        return self._mask(drawn[top:bottom, left:right] > 0, value, left, top)


def ellipse(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0
) -> list[float]:
    """The outline of an ellipse as a polygon of 360 vertices.

    Args:
        x: of the centre, px.
        y: of the centre, px.
        radius_x: px.
        radius_y: px.
        degrees: by which it is turned clockwise.
    """
    turn = np.linspace(0, 2 * math.pi, 360, endpoint=False)
    outline = np.stack([x + radius_x * np.cos(turn), y + radius_y * np.sin(turn)], axis=1)
    return turned(outline.ravel().tolist(), x, y, degrees)


def turned(ring: Sequence[float], x: float, y: float, degrees: float) -> list[float]:
    """A polygon turned clockwise around a point."""
    # Exact for no turn, so that rectangles keep whole coordinates.
    if not degrees:
        return list(ring)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = np.array(ring, np.float64).reshape(-1, 2) - (x, y)
    return (points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)).ravel().tolist()


def runs(counts: Sequence[int], height: int, width: int, column_major: bool) -> np.ndarray:
    """A run-length encoded mask: lengths of runs of 0 and 1 in turn, beginning with 0.

    Returns:
        (height, width) bool.

    Raises:
        ValueError: the runs do not make up the mask.
    """
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError(
            f"the runs of an RLE mask make up {shown(sum(counts))} pixels, not {width}x{height}"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.array(counts, np.int64))
    return flat.reshape(width, height).T if column_major else flat.reshape(height, width)


_BLOCK = 1 << 20
"""Pixels that are looked up at a time."""


def looked_up(values: np.ndarray, numbers: Mapping[int, int]) -> np.ndarray:
    """What the values of a mask stand for.

    Args:
        values: (H, W) of any type of whole numbers.
        numbers: what is drawn for each value; has at least one.

    Returns:
        (H, W) int16.

    Raises:
        ValueError: a value is none of them.
    """
    keys = np.array(sorted(numbers), np.int64)
    drawn = np.array([numbers[key] for key in keys.tolist()], np.int16)
    label = np.empty(values.size, np.int16)
    flat = values.reshape(-1)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.int64)
        place = np.searchsorted(keys, block).clip(max=len(keys) - 1)
        unknown = keys[place] != block
        if unknown.any():
            raise ValueError(f"the value {int(block[unknown][0])} of its mask has no name")
        label[start : start + _BLOCK] = drawn[place]
    return label.reshape(values.shape)
