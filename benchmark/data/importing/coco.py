"""COCO JSON: `images`, `annotations` and `categories`, with polygons and RLE masks.

A file, or a folder with one file for each split (`annotations/instances_{train,val}2017.json`,
`{train,valid,test}/_annotations.coco.json`).

Annotations are drawn in the order of the file, later ones over earlier ones. The polygons of one
annotation are united. Crowds, and what is marked `ignore`, are void where nothing else is.

Source: https://cocodataset.org/#format-data, and pycocotools for how RLE strings are packed.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from benchmark.core.errors import DataError, shown
from benchmark.data.base import Split
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
    unique,
)
from benchmark.data.importing.images import Named
from benchmark.data.importing.raster import VOID, Canvas, runs

Id = int | str


class _Image(BaseModel):
    id: Id
    file_name: str
    width: Annotated[int, Field(gt=0)] | None = None
    height: Annotated[int, Field(gt=0)] | None = None


class _Category(BaseModel):
    id: Id
    name: Annotated[str, BeforeValidator(name_of)]


class _Rle(BaseModel):
    size: tuple[int, int]
    counts: list[int] | str


class _Polygons(BaseModel):
    segmentation: list[list[Number]]


class _Annotation(BaseModel):
    id: Id | None = None
    image_id: Id
    category_id: Id
    # Checked when it is drawn: a file may hold millions of numbers.
    segmentation: Any = None
    iscrowd: bool = False
    ignore: bool = False


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def fits(content: Any) -> bool:
    """Whether the content of a JSON file is of this format."""
    return isinstance(content, dict) and content.keys() >= {"images", "annotations", "categories"}


def read(source: Source) -> AnnotatedSet:
    """Reads a file, or the files of a folder.

    Raises:
        DataError: a file does not fit the format, or contradicts itself; images are missing.
    """
    result = AnnotatedSet([], [])
    bare = 0
    for path, split in _files(source):
        content = check(_Coco, read_json(path), str(path))
        bare += _read(path, content, split, source, result)
    if bare and not any(picture.shapes for picture in result.pictures):
        raise DataError(
            f"{source.path}: no annotation has a segmentation, as in sets of boxes; export "
            "polygons or masks"
        )
    if bare:
        result.notes.append(f"{bare} annotations without a segmentation are left out")
    return result


def _files(source: Source) -> list[tuple[Path, Split | None]]:
    """The files to read, and the split of each."""
    paths = source.files(".json")
    if len(paths) == 1:
        return [(paths[0], None)]
    paths = [path for path in paths if fits(read_json(path))]
    # The official folder holds captions and keypoints of the same images, too.
    paths = [path for path in paths if path.name.startswith("instances")] or paths
    if not paths:
        raise DataError(f"{source.path} has no COCO JSON; name the file itself")
    if len(paths) == 1:
        return [(paths[0], None)]
    splits: dict[Split, Path] = {}
    for path in paths:
        split = split_named(path.stem) or split_named(path.parent.name)
        if split is None:
            raise DataError(
                f"{path}: its name says no split, beside {len(paths) - 1} others; name files after "
                "train, val and test, or import one of them"
            )
        if split in splits:
            raise DataError(
                f"{splits[split]} and {path} are both of {split}; move one elsewhere, or import "
                "one of them"
            )
        splits[split] = path
    return [(path, split) for split, path in splits.items()]


def _read(
    path: Path, content: _Coco, split: Split | None, source: Source, result: AnnotatedSet
) -> int:
    """Adds a file to what was read; returns how many annotations have no segmentation."""
    unique([category.name for category in content.categories], str(path))
    numbers: dict[Id, int] = {}
    for category in sorted(content.categories, key=lambda one: (isinstance(one.id, str), one.id)):
        if category.id in numbers:
            raise DataError(
                f"{path}: two categories have the id {shown(category.id)}; export it again"
            )
        if category.name not in result.categories:
            result.categories.append(category.name)
        numbers[category.id] = result.categories.index(category.name)
    shapes: dict[Id, list[tuple[bool, Shape]]] = {image.id: [] for image in content.images}
    if len(shapes) < len(content.images):
        raise DataError(f"{path}: two images have the same id; export it again")
    bare = 0
    for count, one in enumerate(content.annotations, 1):
        where = f"{path}: annotation {shown(count if one.id is None else one.id)}"
        if one.image_id not in shapes:
            raise DataError(
                f"{where} is of image {shown(one.image_id)}, which is not listed; remove it"
            )
        if one.category_id not in numbers:
            raise DataError(
                f"{where} is of category {shown(one.category_id)}, which is not listed; add "
                "the category"
            )
        if not one.segmentation:
            bare += 1
            continue
        crowd = one.iscrowd or one.ignore
        value = VOID if crowd else numbers[one.category_id]
        draw = partial(_draw, one.segmentation, value, where)
        shapes[one.image_id].append((not crowd, Shape(where, draw)))
    if _are_shares(content.annotations):
        raise DataError(
            f"{path}: all coordinates are between 0 and 1, as shares of the images' sides; export "
            "them in pixels"
        )
    hints = [path.stem.removeprefix("instances_"), *([split] if split else [])]
    named = [Named(one.file_name, f"{path}: image {shown(one.id)}") for one in content.images]
    found = source.images.find(named, path.parent, hints)
    for image, file, (_, where) in zip(content.images, found, named, strict=True):
        size = None if image.width is None or image.height is None else (image.width, image.height)
        # Crowds first: what else is annotated there covers them.
        ordered = [shape for _, shape in sorted(shapes[image.id], key=lambda pair: pair[0])]
        result.pictures.append(Picture(file, where, ordered, split, size))
    return bare


def _are_shares(annotations: list[_Annotation]) -> bool:
    """Whether no coordinate of any polygon is beyond the first pixel."""
    polygons = [one.segmentation for one in annotations if isinstance(one.segmentation, list)]
    rings = [ring for rings in polygons for ring in rings if isinstance(ring, list)]
    return any(rings) and all(
        isinstance(x, int | float) and 0 <= x <= 1 for ring in rings for x in ring
    )


def _draw(segmentation: Any, value: int, where: str, canvas: Canvas) -> None:
    if not isinstance(segmentation, dict):
        polygons = check(_Polygons, {"segmentation": segmentation}, where)
        canvas.polygons(polygons.segmentation, value)
        return
    rle = check(_Rle, segmentation, where)
    height, width = rle.size
    canvas.check_size(width, height)
    counts = rle.counts if isinstance(rle.counts, list) else unpacked(rle.counts)
    canvas.mask(runs(counts, height, width, column_major=True), value)


def unpacked(text: str) -> list[int]:
    """The runs in a packed RLE string.

    A run is written in groups of five bits, the lowest first; the sixth bit says that another group
    follows. From the fourth run on, the difference to the run before the last is written.

    pycocotools reads beyond the end of damaged strings, so they never reach it.

    Raises:
        ValueError: it is none.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("the string of an RLE mask is damaged")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the string of an RLE mask is cut off")
    return counts
