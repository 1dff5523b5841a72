"""Labelme JSON: one file for each image, beside it or elsewhere in the folder.

Polygons, rectangles, circles and masks are drawn in the order of the file, later ones over earlier
ones, as Labelme's own converters do; lines and points have no area. `__ignore__` is void. Folders
named train, val and test are splits.

Source: https://github.com/wkentaro/labelme, `labelme/utils/shape.py` and `examples/`.
"""

import base64
import binascii
import io
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, Field

from benchmark.core.errors import DataError, shown
from benchmark.data.importing.annotated import (
    AnnotatedSet,
    Number,
    Picture,
    Shape,
    Source,
    check,
    name_of,
    read_json,
    split_named,
)
from benchmark.data.importing.images import Named
from benchmark.data.importing.raster import VOID, Canvas, ellipse

_IGNORE = "__ignore__"
_NO_AREA = ("line", "linestrip", "point", "points")


class _Shape(BaseModel):
    label: Annotated[str, BeforeValidator(name_of)]
    points: list[tuple[Number, Number]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class _Labelme(BaseModel):
    shapes: list[_Shape]
    imagePath: str
    imageHeight: Annotated[int, Field(gt=0)] | None = None
    imageWidth: Annotated[int, Field(gt=0)] | None = None


def fits(content: Any) -> bool:
    """Whether the content of a JSON file is of this format."""
    return isinstance(content, dict) and content.keys() >= {"shapes", "imagePath"}


def read(source: Source) -> AnnotatedSet:
    """Reads a file, or all files of a folder.

    Raises:
        DataError: a file does not fit the format; images are missing.
    """
    files = [(path, read_json(path)) for path in source.files(".json")]
    contents = [
        (path, check(_Labelme, content, str(path)))
        for path, content in files
        if source.path.is_file() or fits(content)
    ]
    if not contents:
        raise DataError(f"{source.path} holds no Labelme JSON; name the folder that holds it")
    names = {shape.label for _, content in contents for shape in content.shapes}
    categories = sorted(names - {_IGNORE})
    numbers = {name: k for k, name in enumerate(categories)} | {_IGNORE: VOID}
    result = AnnotatedSet(categories, [])
    without_area = 0
    named = [Named(content.imagePath, str(path)) for path, content in contents]
    if source.images.given:
        images = source.images.find(named, source.path)
    else:
        images = [source.images.beside(one, Path(one.where).parent) for one in named]
    for image, (path, content) in zip(images, contents, strict=True):
        shapes = []
        for k, shape in enumerate(content.shapes, 1):
            if shape.shape_type in _NO_AREA:
                without_area += 1
                continue
            where = f"{path}: shape {k} ({shown(shape.label)})"
            shapes.append(Shape(where, partial(_draw, shape, numbers[shape.label])))
        width, height = content.imageWidth, content.imageHeight
        size = None if width is None or height is None else (width, height)
        result.pictures.append(Picture(image, str(path), shapes, _split(path, source), size))
    if without_area:
        result.notes.append(f"{without_area} lines and points have no area, and are left out")
    return result


def _split(path: Path, source: Source) -> Any:
    """The split after which a folder above the file is named."""
    if source.path.is_file():
        return None
    folders = path.relative_to(source.path).parts[:-1]
    return next((split for split in map(split_named, folders) if split), None)


def _draw(shape: _Shape, value: int, canvas: Canvas) -> None:
    points, kind = shape.points, shape.shape_type or "polygon"
    if kind in ("polygon", "oriented_rectangle"):
        canvas.polygons([[number for point in points for number in point]], value)
        return
    if len(points) != 2:
        raise ValueError(f"a {kind} has {len(points)} points, not 2")
    (x, y), (right, bottom) = points
    if kind == "rectangle":
        canvas.box(x, y, right, bottom, value)
    elif kind == "circle":
        radius = math.hypot(right - x, bottom - y)
        canvas.polygons([ellipse(x, y, radius, radius)], value)
    elif kind == "mask":
        size = (round(right) - round(x) + 1, round(bottom) - round(y) + 1)
        canvas.mask(_mask(shape.mask or "", size), value, round(x), round(y))
    else:
        raise ValueError(
            f"{shown(kind)} is not a known kind of shape (polygon, rectangle, "
            "oriented_rectangle, circle, mask)"
        )


def _mask(text: str, size: tuple[int, int]) -> np.ndarray:
    """A mask of a width and height."""
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            found = image.size
            if found == size:
                return np.array(image.convert("L")) > 0
    except (
        binascii.Error,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError("its mask is not a PNG in base64") from error
    raise ValueError(
        f"its mask is {found[0]}x{found[1]} px, but its corners say {size[0]}x{size[1]}"
    )
