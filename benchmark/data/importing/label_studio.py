"""Label Studio's JSON export: a list of tasks with brush masks, polygons, rectangles and ellipses.

Regions are drawn in the order of the file, later ones over earlier ones. Of several annotations of
a task the ground truth counts, else the last one; cancelled ones and predictions never do.

Source: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks; how brush
masks are packed: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
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
)
from benchmark.data.importing.images import Images, Named
from benchmark.data.importing.raster import Canvas, ellipse, turned

_KINDS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")
_UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts in front of the name of a file that is uploaded."""


class _Annotation(BaseModel):
    result: list[dict[str, Any]]
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(BaseModel):
    id: int | str | None = None
    data: dict[str, Any]
    annotations: list[_Annotation]


class _Tasks(BaseModel):
    tasks: list[_Task]


class _Label(BaseModel):
    name: Annotated[str, BeforeValidator(name_of)]


class _Region(BaseModel):
    original_width: Annotated[int, Field(gt=0)]
    original_height: Annotated[int, Field(gt=0)]
    image_rotation: Number = 0
    value: dict[str, Any]


class _Area(BaseModel):
    def draw(self, value: int, canvas: Canvas) -> None:
        raise NotImplementedError


class _Brush(_Area):
    rle: list[Annotated[int, Field(ge=0, le=255)]]

    def draw(self, value: int, canvas: Canvas) -> None:
        height, width = canvas.label.shape
        canvas.mask(unpacked(self.rle, height, width), value)


class _Polygon(_Area):
    points: list[tuple[Number, Number]]

    def draw(self, value: int, canvas: Canvas) -> None:
        canvas.polygons(
            [_pixels([number for pair in self.points for number in pair], canvas)], value
        )


class _Rectangle(_Area):
    x: Number
    y: Number
    width: Number
    height: Number
    rotation: Number = 0

    def draw(self, value: int, canvas: Canvas) -> None:
        right, bottom = self.x + self.width, self.y + self.height
        corners = (self.x, self.y, right, self.y, right, bottom, self.x, bottom)
        ring = _pixels(corners, canvas)
        canvas.polygons([turned(ring, ring[0], ring[1], self.rotation)], value)


class _Ellipse(_Area):
    x: Number
    y: Number
    radiusX: Number
    radiusY: Number
    rotation: Number = 0

    def draw(self, value: int, canvas: Canvas) -> None:
        x, y, radius_x, radius_y = _pixels((self.x, self.y, self.radiusX, self.radiusY), canvas)
        canvas.polygons([ellipse(x, y, radius_x, radius_y, self.rotation)], value)


_MODELS: dict[str, type[_Area]] = {
    "rle": _Brush,
    "points": _Polygon,
    "radiusX": _Ellipse,
    "height": _Rectangle,
}
"""By a field that only regions of the kind have, the rectangle's last."""


def _pixels(percent: Sequence[float], canvas: Canvas) -> list[float]:
    """Alternating x and y in percent of the image's sides, in px."""
    height, width = canvas.label.shape
    return [number / 100 * (height if k % 2 else width) for k, number in enumerate(percent)]


def fits(content: Any) -> bool:
    """Whether the content of a JSON file is of this format."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in content
        )
    )


class _Found(NamedTuple):
    where: str
    name: str
    size: tuple[int, int]
    area: _Area


def read(source: Source) -> AnnotatedSet:
    """Reads an export.

    Raises:
        DataError: it does not fit the format; images are missing.
    """
    paths = source.files(".json")
    if len(paths) != 1:
        raise DataError(f"{source.path} holds {len(paths)} JSON files; name the one to import")
    path = paths[0]
    content = read_json(path)
    if not fits(content):
        raise DataError(
            f"{path} is not a list of tasks with `data` and `annotations`; export it from Label "
            "Studio as JSON, not as JSON-MIN"
        )
    tasks = check(_Tasks, {"tasks": content}, str(path)).tasks
    several = skipped = 0
    chosen: list[tuple[str, _Task, list[_Found]]] = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}: task {shown(number if task.id is None else task.id)}"
        kept = [one for one in task.annotations if not one.was_cancelled]
        if not kept:
            skipped += 1
            continue
        several += len(kept) > 1
        annotation = next((one for one in kept if one.ground_truth), kept[-1])
        chosen.append((where, task, list(_regions(annotation, where))))
    categories = sorted({region.name for _, _, regions in chosen for region in regions})
    result = AnnotatedSet(categories, [])
    named = [Named(_name(task, where, source.images), where) for where, task, _ in chosen]
    images = source.images.find(named, path.parent, foreign=True)
    for image, (where, _, regions) in zip(images, chosen, strict=True):
        shapes = [
            Shape(region.where, partial(region.area.draw, categories.index(region.name)))
            for region in regions
        ]
        sizes = {region.size for region in regions}
        if len(sizes) > 1:
            raise DataError(
                f"{where}: its regions are of images of different sizes; label it again"
            )
        result.pictures.append(Picture(image, where, shapes, size=next(iter(sizes), None)))
    if skipped:
        result.notes.append(f"{skipped} tasks without an annotation are left out")
    if several:
        result.notes.append(
            f"{several} tasks have several annotations: the ground truth is taken, else the last"
        )
    return result


def _regions(annotation: _Annotation, where: str) -> Iterator[_Found]:
    for k, result in enumerate(annotation.result, 1):
        kind = result.get("type")
        if kind not in _KINDS:
            continue  # choices, text, key points
        here = f"{where}: region {k}"
        region = check(_Region, result, here)
        labels = region.value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1:
            raise DataError(f"{here} has not exactly one label; correct it in Label Studio")
        if region.image_rotation % 360:
            raise DataError(
                f"{here}: the image is turned by {region.image_rotation:g} degrees in Label "
                "Studio; turn it back there, or turn the image file"
            )
        model = next((model for name, model in _MODELS.items() if name in region.value), None)
        if model is None:
            raise DataError(f"{here} has no area; export it again")
        name = check(_Label, {"name": labels[0]}, here).name
        size = (region.original_width, region.original_height)
        yield _Found(here, name, size, check(model, region.value, here))


def _name(task: _Task, where: str, images: Images) -> str:
    """The image of a task, which names it by an address of its server."""
    texts = [value for value in task.data.values() if isinstance(value, str)]
    address = task.data.get("image")
    if not isinstance(address, str):
        if len(texts) != 1:
            raise DataError(f"{where}: its data have no `image`; name the image so")
        address = texts[0]
    try:
        parts = urlsplit(address)
        # Files that a local storage serves are named in the query.
        name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    except ValueError as error:
        raise DataError(
            f"{where}: {shown(address)} is not the address of an image; correct it"
        ) from error
    folder, slash, last = name.rpartition("/")
    if not images.has(last):
        last = _UPLOADED.sub("", last, count=1) if _UPLOADED.match(last) else last
    return folder + slash + last


def unpacked(data: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask in a packed brush: pixels whose alpha is not 0.

    Packed are the RGBA values of all pixels, as a stream of bits: how many there are (32 bits), the
    bits of one less 1 (5), four sizes of counts less 1 (4 each), and items. An item says whether it
    is a run (1), which size its count has (2), the count less 1, and one value if it is a run, else
    as many as the count says.

    Args:
        data: bytes.
        height: of the image.
        width: of the image.

    Returns:
        (height, width) bool.

    Raises:
        ValueError: the data are damaged, or of an image of another size.
    """
    bits = np.unpackbits(np.array(data, np.uint8))
    text = (bits + ord("0")).tobytes().decode()
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(text):
            raise ValueError("the brush mask is cut off")
        return int(text[at - count : at], 2)

    total, word, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        raise ValueError(f"the brush mask has {total / 4:g} pixels, not {width}x{height}")
    if word != 8:
        raise ValueError(f"the brush mask has values of {word} bits, not 8")
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        kind = take(3)
        count = take(sizes[kind & 3]) + 1
        if count > total - done:
            raise ValueError("the brush mask is damaged: it has more pixels than its image")
        if kind & 4:
            values[done : done + count] = take(8)
        else:
            if at + 8 * count > len(bits):
                raise ValueError("the brush mask is cut off")
            values[done : done + count] = np.packbits(bits[at : at + 8 * count])
            at += 8 * count
        done += count
    return values.reshape(height, width, 4)[..., 3] > 0
