"""The formats that are read, and how each is recognised."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.core.errors import DataError, UserError
from benchmark.core.selectors import did_you_mean
from benchmark.data.custom.folder import files_below
from benchmark.data.importing import coco, cvat, geotiff, label_studio, labelme, voc, yolo
from benchmark.data.importing.annotated import AnnotatedSet, Source, read_json

READERS: dict[str, Callable[[Source], AnnotatedSet]] = {
    "coco": coco.read,
    "labelme": labelme.read,
    "cvat": cvat.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "label_studio": label_studio.read,
    "geotiff": geotiff.read,
}
"""By the name that `--format` takes."""

NAMELESS = ("voc", "geotiff")
"""Formats whose masks store numbers, which the user may have to name."""

_JSON = {"coco": coco.fits, "labelme": labelme.fits, "label_studio": label_studio.fits}


def detect(path: Path) -> str:
    """The format of a file or folder, from its content.

    Raises:
        UserError: it is not there, or is of none of the formats, or of several.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; name the annotation file, or its folder")
    found = sorted(set(_folder(path) if path.is_dir() else _file(path)))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(
            f"{path} is of no known format; choose one by --format ({', '.join(READERS)}), and "
            "unpack archives first"
        )
    raise DataError(
        f"{path} holds {' and '.join(found)}; say which to read by --format, or name one file"
    )


def _file(path: Path) -> Iterator[str]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = read_json(path)
        yield from (name for name, fits in _JSON.items() if fits(content))
    elif suffix == ".xml" and cvat.fits(cvat.parse(path)):
        yield "cvat"
    elif suffix in (".yaml", ".yml") and yolo.fits(yolo.read_yaml(path)):
        yield "yolo"


def _folder(path: Path) -> Iterator[str]:
    if voc.fits(path):
        yield "voc"
    if geotiff.fits(path):
        yield "geotiff"
    for file in sorted(path.glob("*.y*ml")):
        yield from _file(file)
    for suffix in (".json", ".xml"):
        # One file is enough: folders hold one for each of thousands of images.
        for file in sorted(file for file in files_below(path) if file.suffix.lower() == suffix):
            if found := list(_file(file)):
                yield from found
                break


def known(name: str) -> str:
    """A name of a format, checked.

    Raises:
        UserError: there is no such format.
    """
    name = name.lower().replace("-", "_")
    if name not in READERS:
        raise UserError(f"--format {name!r} is unknown{did_you_mean(name, READERS)}")
    return name
