"""YOLO segmentation: `data.yaml`, and for each image a text file with a polygon a line.

`data.yaml` has `names` and, for train, val and test, a folder of images, a list of images (.txt),
or several of these, relative to `path`, or to its own folder. The label of `images/a/1.jpg` is
`labels/a/1.txt`, with lines of a class number and x and y in turn, in shares of width and height.
An image without a label file, or with an empty one, is background. Polygons are drawn in the order
of the file, later ones over earlier ones.

Source: https://docs.ultralytics.com/datasets/segment/
"""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator

from benchmark.core.errors import DataError, UserError, shown
from benchmark.core.yaml_file import read_mapping
from benchmark.data.base import SPLITS, Split
from benchmark.data.custom.folder import IMAGES, files_below
from benchmark.data.importing.annotated import (
    AnnotatedSet,
    Picture,
    Shape,
    Source,
    check,
    name_of,
    read_text,
    unique,
)
from benchmark.data.importing.images import exists
from benchmark.data.importing.raster import Canvas

_BEYOND = 0.5
"""By which share of its side a polygon may leave the image before it is taken for pixels."""


def _listed(names: object) -> object:
    return dict(enumerate(names)) if isinstance(names, list) else names


def _several(value: object) -> object:
    return value if isinstance(value, list | None) else [value]


_Places = Annotated[list[str] | None, BeforeValidator(_several)]


class _Yolo(BaseModel):
    names: Annotated[dict[int, Annotated[str, BeforeValidator(name_of)]], BeforeValidator(_listed)]
    path: str | None = None
    nc: int | None = None
    train: _Places = None
    val: _Places = None
    test: _Places = None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        DataError: it cannot be read or parsed.
    """
    try:
        return read_mapping(path, str(path), "fields", "train: images/train")
    except UserError as error:
        raise DataError(f"{error}; correct the file") from error


def fits(content: Any) -> bool:
    """Whether the content of a YAML file is of this format."""
    return (
        isinstance(content, dict)
        and bool({"names", "nc"} & content.keys())
        and bool({"train", "val"} & content.keys())
    )


def read(source: Source) -> AnnotatedSet:
    """Reads a `data.yaml`.

    Raises:
        DataError: it does not fit the format; images are missing; a label has no image.
    """
    path = _described(source)
    said = read_yaml(path)
    if isinstance(said, dict) and "names" not in said:
        raise DataError(f"{path}: names is missing; write the classes, as in `names: [road, car]`")
    content = check(_Yolo, said, str(path))
    if content.nc not in (None, len(content.names)):
        raise DataError(
            f"{path}: nc says {content.nc} classes, but names lists {len(content.names)}; correct "
            "one of them"
        )
    unique(list(content.names.values()), str(path))
    numbers = {stored: k for k, stored in enumerate(sorted(content.names))}
    result = AnnotatedSet([content.names[stored] for stored in numbers], [])
    base = source.images.root if source.images.given else path.parent
    if content.path and not source.images.given:
        inside = _within(base, content.path, base)
        # Often a folder of the machine that the set was made on.
        base = inside if inside and inside.is_dir() else base
    labels: dict[Path, bool] = {}
    taken: dict[Path, Split] = {}
    for split in SPLITS:
        places = getattr(content, split)
        for place in places or ():
            found = _place(place, base, path)
            if taken.setdefault(found, split) != split:
                raise DataError(
                    f"{path}: {taken[found]} and {split} are the same images, {found}; name others "
                    f"for {split}, or leave it out"
                )
            images = _images(found, base)
            if not images:
                raise DataError(f"{path}: {split}: there are no images in {found}; add some")
            for image in images:
                label = _label(image)
                # Only the labels of a folder that was taken as a whole all need an image.
                labels[label] = found.is_dir() and label.parent != image.parent
                draws = [Shape(str(label), partial(_draw, label, numbers))]
                shapes = draws if label.exists() else []
                result.pictures.append(Picture(image, str(path), shapes, split))
    if labels and not any(label.exists() for label in labels):
        first = min(labels)
        raise DataError(
            f"{path}: no image has a label, such as {first}; put the text files into {first.parent}"
        )
    for folder in sorted({label.parent for label, whole in labels.items() if whole}):
        for text in sorted(folder.glob("*.txt")):
            if text not in labels and text.name != "classes.txt":
                raise DataError(f"{text} has no image; put the image back, or remove the label")
    return result


def _described(source: Source) -> Path:
    if source.path.is_file():
        return source.path
    found = [source.path / name for name in ("data.yaml", "data.yml", "dataset.yaml")]
    there = [path for path in found if path.is_file()]
    if not there:
        raise DataError(f"{source.path} holds no data.yaml; name the YAML file itself")
    return there[0]


def _within(base: Path, name: str, root: Path) -> Path | None:
    """A path relative to a folder; None where it leads out of the root."""
    full = os.path.normpath(os.path.join(os.path.abspath(base), name.replace("\\", "/")))
    inside = os.path.relpath(full, os.path.abspath(root))
    return None if inside.split(os.sep)[0] == ".." else root / inside


def _place(place: str, base: Path, path: Path) -> Path:
    """The folder or list that a place names.

    Raises:
        DataError: it is not there, or leads out of the folder.
    """
    # Exports by Roboflow say `../train/images` of the folder beside the YAML file.
    tried = [place, *([place[3:]] if place.startswith("../") else [])]
    inside = [found for name in tried if (found := _within(base, name, base)) is not None]
    if not inside:
        raise DataError(
            f"{path}: {shown(place)} leads out of {base}; name the folder that holds it by --images"
        )
    found = next((found for found in inside if exists(found)), None)
    if found is None:
        raise DataError(f"{path}: {shown(place)} is missing in {base}; correct it, or use --images")
    return found


def _images(found: Path, base: Path) -> list[Path]:
    """The images of a folder or list.

    Raises:
        DataError: one of them is not there, or leads out of the folder.
    """
    if found.is_dir():
        return sorted(path for path in files_below(found) if path.suffix.lower() in IMAGES)
    images = []
    for line in read_text(found).splitlines():
        if not line.strip():
            continue
        near = found.parent if line.startswith("./") else base
        image = _within(near, line.strip(), base)
        if image is None:
            raise DataError(
                f"{found}: {shown(line.strip())} leads out of {base}; name the folder that "
                "holds it by --images"
            )
        if not exists(image):
            raise DataError(
                f"{found}: {shown(line.strip())} is missing; put it there, or remove it from "
                "the list"
            )
        images.append(image)
    return images


def _label(image: Path) -> Path:
    """The label file of an image: in `labels` in place of the last folder `images`, else beside."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _draw(label: Path, numbers: dict[int, int], canvas: Canvas) -> None:
    height, width = canvas.label.shape
    for k, line in enumerate(read_text(label).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            stored, shares = float(words[0]), np.array(words[1:], np.float64)
        except ValueError as error:
            raise ValueError(f"line {k} holds more than numbers") from error
        if stored not in numbers:
            raise ValueError(
                f"line {k} is of class {shown(words[0])}, which has no name in the YAML file"
            )
        if len(shares) == 4:
            raise ValueError(f"line {k} is a box, not a polygon; export the set for segmentation")
        if len(shares) < 6 or len(shares) % 2:
            raise ValueError(f"line {k} has {len(shares)} coordinates, which make no polygon")
        # NaN is within nothing.
        if not ((shares >= -_BEYOND) & (shares <= 1 + _BEYOND)).all():
            raise ValueError(f"line {k} has coordinates that are not between 0 and 1")
        ring = (shares.reshape(-1, 2) * (width, height)).ravel().tolist()
        canvas.polygons([ring], numbers[int(stored)])
