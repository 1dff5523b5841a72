"""Masks in the layout of PASCAL VOC: `JPEGImages/` and `SegmentationClass/*.png`.

`labelmap.txt` (`name:r,g,b:...` a line, as CVAT writes it) names colours; `class_names.txt` (as
Labelme writes it) names indices of the palette. Without either, `--classes` names the indices, and
in a folder called VOC2007 to VOC2012 they are VOC's own. Index 255, VOC's border colour, and
classes called `ignored` or `__ignore__` are void. `ImageSets/Segmentation/{train,val,test}.txt` are
the splits; where there are such lists, masks that none of them names are left out.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.core.errors import DataError, on_one_line, shown
from benchmark.data.base import IGNORE, SPLITS, Split
from benchmark.data.custom.folder import files_by_stem
from benchmark.data.importing.annotated import (
    AnnotatedSet,
    Picture,
    Shape,
    Source,
    categories_of,
    read_text,
    unique,
)
from benchmark.data.importing.raster import VOID, Canvas, looked_up
from benchmark.data.sets.classes import class_names

MASKS = ("SegmentationClass", "SegmentationClassPNG")
_BORDER = (224, 224, 192)
_IGNORED = ("ignored", "__ignore__")


def fits(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return any((folder / name).is_dir() for name in MASKS)


def read(source: Source) -> AnnotatedSet:
    """Reads a folder.

    Raises:
        DataError: an image or mask is missing, or nothing names the values of masks.
    """
    root = source.path
    there = [root / name for name in MASKS if (root / name).is_dir()]
    if not there:
        raise DataError(f"{root} holds no {MASKS[0]}; name the folder that does")
    folder = source.images.root if source.images.given else root / "JPEGImages"
    masks, images = files_by_stem(there[-1], suffixes=(".png",)), files_by_stem(folder)
    if not masks:
        raise DataError(f"{there[-1]} holds no PNG masks; export the set as segmentation masks")
    names, colours = _labelmap(root)
    categories, numbers = categories_of(names or _names(source), _IGNORED)
    numbers.setdefault(IGNORE, VOID)
    by_colour = {colours[value]: numbers[value] for value in colours}
    by_colour.setdefault(_packed(_BORDER), VOID)
    lists, result = _lists(root), AnnotatedSet(categories, [], complete=True)
    listed = {id for ids in lists.values() for id in ids}
    for id, split in _ids(lists, masks):
        if id not in masks:
            raise DataError(
                f"{root}: the mask of {shown(id)} is missing, but it is listed; remove it "
                "from the list"
            )
        if id not in images:
            raise DataError(
                f"{masks[id]} has no image in {folder}; put it there, or name the folder by "
                "--images"
            )
        draw = partial(_draw, masks[id], numbers, by_colour if colours else None)
        shapes = [Shape(str(masks[id]), draw)]
        result.pictures.append(Picture(images[id], str(masks[id]), shapes, split))
    if lists and len(masks) > len(listed):
        result.notes.append(f"{len(masks) - len(listed)} masks that no list names are left out")
    return result


def _names(source: Source) -> dict[int, str]:
    """Names of the indices of masks without a label map.

    Raises:
        DataError: nothing says them.
    """
    path = source.path / "class_names.txt"
    if source.names:
        return source.names
    if path.is_file():
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        unique(names, str(path))
        # Labelme counts from -1, the number of pixels to ignore, which 8 bits store as 255.
        return dict(enumerate(names[1:] if names[:1] == ["__ignore__"] else names))
    if re.fullmatch(r"VOC20(0[7-9]|1[0-2])", source.path.resolve().name):
        return dict(enumerate(class_names("voc2012")))
    raise DataError(
        f"{source.path}: nothing names the classes; add labelmap.txt, or use --classes "
        "background,road,..."
    )


def _labelmap(root: Path) -> tuple[dict[int, str], dict[int, int]]:
    """Names and packed colours by index; empty where there is no label map.

    Raises:
        DataError: a line is damaged.
    """
    path = root / "labelmap.txt"
    names: dict[int, str] = {}
    colours: dict[int, int] = {}
    lines = read_text(path).splitlines() if path.is_file() else []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, colour = line.split(":")[0].strip(), re.match(r"[^:]*:(\d+),(\d+),(\d+)(:|$)", line)
        rgb = tuple(int(part[:4]) for part in colour.groups()[:3]) if colour else ()
        if not rgb or max(rgb) > 255:
            raise DataError(
                f"{path}: {shown(line)} is not a name with a colour; write road:128,64,128::"
            )
        if _packed(rgb) in colours.values():
            raise DataError(
                f"{path}: the colour of {shown(name)} is also that of another class; choose "
                "a different one"
            )
        colours[len(names)] = _packed(rgb)
        names[len(names)] = name
    unique(list(names.values()), str(path))
    return names, colours


def _packed(rgb: tuple[int, ...]) -> int:
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def _lists(root: Path) -> dict[Split, list[str]]:
    folder = root / "ImageSets" / "Segmentation"
    paths = {split: folder / f"{split}.txt" for split in SPLITS}
    return {
        split: [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
        for split, path in paths.items()
        if path.is_file()
    }


def _ids(lists: dict[Split, list[str]], masks: dict[str, Path]) -> list[tuple[str, Split | None]]:
    if not lists:
        return [(id, None) for id in masks]
    return [(id, split) for split, ids in lists.items() for id in ids]


def _draw(
    path: Path, numbers: dict[int, int], by_colour: dict[int, int] | None, canvas: Canvas
) -> None:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            canvas.check_size(*image.size)
            mode, table = image.mode, image.getpalette("RGB") or []
            values = np.array(image.convert("RGB") if mode in ("RGB", "RGBA") else image)
    except ValueError:
        raise
    except Exception as error:
        # Decoders report damage by whatever exception the damage happens to trigger.
        raise ValueError(f"it cannot be read ({on_one_line(error)})") from error
    if values.ndim == 3:
        if by_colour is None:
            raise ValueError("it stores colours, and no labelmap.txt names them")
        r, g, b = np.moveaxis(values.astype(np.int32), -1, 0)
        canvas.label[:] = looked_up(r << 16 | g << 8 | b, by_colour)
        return
    if mode == "P" and by_colour is not None:
        colours = [_packed(tuple(table[k : k + 3])) for k in range(0, len(table) - 2, 3)]
        numbers = {k: by_colour[rgb] for k, rgb in enumerate(colours) if rgb in by_colour}
    elif mode not in ("P", "L"):
        raise ValueError(f"it has mode {mode}, not a palette or one channel of 8 bits")
    canvas.label[:] = looked_up(values, numbers)
