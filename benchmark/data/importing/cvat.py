"""CVAT for images 1.1: `annotations.xml`, images beside it or in `images/`.

Polygons, masks, boxes and ellipses are drawn in the order of `z_order`, those of one level in the
order of the file; lines, points, skeletons and cuboids have no area. Subsets named after train,
val and test are splits.

Source: https://docs.cvat.ai/docs/other/xml_format/
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from benchmark.core.errors import DataError, on_one_line, shown
from benchmark.data.importing.annotated import (
    AnnotatedSet,
    Number,
    Picture,
    Shape,
    Source,
    check,
    name_of,
    read_text,
    split_named,
    unique,
)
from benchmark.data.importing.images import Named
from benchmark.data.importing.raster import Canvas, ellipse, library, runs, turned


class _Label(BaseModel):
    name: Annotated[str, BeforeValidator(name_of)]


class _Image(BaseModel):
    name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    subset: str = ""


class _Shape(BaseModel):
    label: Annotated[str, BeforeValidator(name_of)]
    z_order: int = 0
    rotation: Number = 0

    def draw(self, value: int, canvas: Canvas) -> None:
        raise NotImplementedError


def _pairs(text: object) -> object:
    return [pair.split(",") for pair in text.split(";")] if isinstance(text, str) else text


def _numbers(text: object) -> object:
    return text.split(",") if isinstance(text, str) else text


class _Polygon(_Shape):
    points: Annotated[list[tuple[Number, Number]], BeforeValidator(_pairs)]

    def draw(self, value: int, canvas: Canvas) -> None:
        canvas.polygons([[number for point in self.points for number in point]], value)


class _Box(_Shape):
    xtl: Number
    ytl: Number
    xbr: Number
    ybr: Number

    def draw(self, value: int, canvas: Canvas) -> None:
        x, y, right, bottom = self.xtl, self.ytl, self.xbr, self.ybr
        ring = [x, y, right, y, right, bottom, x, bottom]
        canvas.polygons([turned(ring, (x + right) / 2, (y + bottom) / 2, self.rotation)], value)


class _Ellipse(_Shape):
    cx: Number
    cy: Number
    rx: Number
    ry: Number

    def draw(self, value: int, canvas: Canvas) -> None:
        canvas.polygons([ellipse(self.cx, self.cy, self.rx, self.ry, self.rotation)], value)


class _Mask(_Shape):
    rle: Annotated[list[int], BeforeValidator(_numbers)]
    left: int
    top: int
    width: int
    height: int

    def draw(self, value: int, canvas: Canvas) -> None:
        height, width = canvas.label.shape
        right, bottom = self.left + self.width, self.top + self.height
        if (
            min(self.left, self.top, self.width, self.height) < 0
            or right > width
            or bottom > height
        ):
            raise ValueError(f"the mask does not lie within its image of {width}x{height} px")
        inside = runs(self.rle, self.height, self.width, column_major=False)
        canvas.mask(inside, value, self.left, self.top)


_AREAS: dict[str, type[_Shape]] = {
    "polygon": _Polygon,
    "box": _Box,
    "ellipse": _Ellipse,
    "mask": _Mask,
}
_NO_AREA = ("polyline", "points", "skeleton", "cuboid")
_OTHER_TYPES = (*_NO_AREA, "tag")


def fits(root: Any) -> bool:
    """Whether the root element of an XML file is of this format."""
    return root.tag == "annotations"


def parse(path: Path) -> Any:
    """The root element of an XML file.

    Raises:
        DataError: it cannot be read or parsed, or declares entities.
    """
    library("defusedxml")
    elements = library("defusedxml.ElementTree")
    try:
        return elements.fromstring(read_text(path), forbid_dtd=True)
    except DataError:
        raise
    except Exception as error:
        # What is forbidden is a ValueError; damage is whatever the parser makes of it.
        raise DataError(
            f"{path} is not plain XML ({on_one_line(error)}); export it again"
        ) from error


def read(source: Source) -> AnnotatedSet:
    """Reads a file, or the `annotations.xml` of a folder.

    Raises:
        DataError: it does not fit the format; images are missing.
    """
    paths = [path for path in source.files(".xml") if source.path.is_file() or fits(parse(path))]
    if len(paths) != 1:
        raise DataError(f"{source.path} holds {len(paths)} CVAT files; name the one to import")
    path = paths[0]
    root = parse(path)
    if not fits(root):
        raise DataError(f"{path} is not a CVAT file; export it as CVAT for images 1.1")
    if root.find("track") is not None:
        raise DataError(f"{path} is CVAT for video; export it as CVAT for images 1.1")
    categories = _categories(root, path)
    numbers = {name: k for k, name in enumerate(categories)}
    result = AnnotatedSet(categories, [])
    subsets: dict[str, list[tuple[_Image, Named, list[Shape]]]] = {}
    without_area = 0
    for element in root.iterfind("image"):
        image = check(_Image, dict(element.attrib), f"{path}: image")
        where = f"{path}: image {shown(image.name)}"
        shapes: list[tuple[int, Shape]] = []
        for k, child in enumerate(element, 1):
            without_area += child.tag in _NO_AREA
            if child.tag not in _AREAS:
                continue
            here = f"{where}: {child.tag} {k}"
            shape = check(_AREAS[child.tag], dict(child.attrib), here)
            if shape.label not in numbers:
                raise DataError(
                    f"{here}: its label {shown(shape.label)} is not listed; export it again"
                )
            shapes.append((shape.z_order, Shape(here, partial(shape.draw, numbers[shape.label]))))
        ordered = [shape for _, shape in sorted(shapes, key=lambda pair: pair[0])]
        subsets.setdefault(image.subset, []).append((image, Named(image.name, where), ordered))
    for subset, images in subsets.items():
        # Each subset is exported to a folder of its own.
        found = source.images.find([named for _, named, _ in images], path.parent, [subset])
        for file, (image, named, ordered) in zip(found, images, strict=True):
            size = (image.width, image.height)
            result.pictures.append(Picture(file, named.where, ordered, split_named(subset), size))
    if without_area:
        result.notes.append(
            f"{without_area} lines, points, skeletons and cuboids have no area, and are left out"
        )
    return result


def _categories(root: Any, path: Path) -> list[str]:
    """The labels that the file lists, but for those of shapes without an area."""
    names = []
    for label in root.iterfind("meta//labels/label"):
        if label.findtext("type") not in _OTHER_TYPES and label.find("parent") is None:
            names.append(check(_Label, {"name": label.findtext("name")}, f"{path}: label").name)
    unique(names, str(path))
    return names
