"""Writes an annotated set as a folder of images and labels, and the YAML file that describes it."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from PIL import Image

from benchmark.core.errors import DataError, UserError, printable, shown
from benchmark.core.files import make_folder, write_atomic
from benchmark.core.processes import tag
from benchmark.data.base import IGNORE, SPLITS, Split, carve
from benchmark.data.importing.annotated import AnnotatedSet, Picture, Source, is_name
from benchmark.data.importing.formats import NAMELESS, READERS, detect, known
from benchmark.data.importing.images import Images, image_size
from benchmark.data.importing.raster import UNLABELLED, VOID, Canvas
from benchmark.data.palette import VOID as VOID_COLOUR
from benchmark.data.palette import voc_colours

FRACTIONS = (0.6, 0.1, 0.3)
"""Of train, val and test where a format has no splits."""

BACKGROUND = ("background", "_background_")
"""Categories that unlabelled pixels belong to, where a set has one."""

Unlabelled = Literal["background", "void"]
Progress = Callable[[int, int], None]
"""Called with the number of images written, and of all."""


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        form: the format that was read.
        description: the YAML file.
        counts: images of each split.
        notes: what was decided or left out, a line each.
    """

    form: str
    description: Path
    counts: dict[Split, int]
    notes: tuple[str, ...]


def convert(
    path: Path,
    to: Path,
    form: str | None = None,
    images: Path | None = None,
    names: dict[int, str] | None = None,
    unlabelled: Unlabelled = "background",
    progress: Progress | None = None,
) -> Imported:
    """Reads annotations, draws labels, and writes them with links to the images.

    Nothing is left behind if it fails.

    Args:
        path: file or folder of annotations.
        to: the YAML file to write; images and labels go into the folder of its name beside it.
        form: name of the format; None = found from the content.
        images: folder of the images; None = that of the annotations.
        names: of the values of masks, for formats that do not name them.
        unlabelled: what pixels are that no annotation covers.
        progress: called after each image.

    Raises:
        UserError: the request cannot be met.
        DataError: the annotations are damaged or contradict themselves, or images are missing.
    """
    folder = _target(to)
    if not path.exists():
        raise UserError(f"{path} does not exist; name the annotation file, or its folder")
    form = known(form) if form else detect(path)
    if names and form not in NAMELESS:
        raise UserError(f"--classes: {form} names its classes itself; leave it out")
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images}: no such folder; correct the path")
    source = Source(path, Images(images or _root(path), images is not None), names)
    read = READERS[form](source)
    notes = list(read.notes)
    classes, table = _classes(read, unlabelled, path)
    splits = _splits(read.pictures, path, notes)
    draft = folder.with_name(f".{folder.name}.{tag()}")
    content: dict[str, object] = {"name": to.stem, "folder": folder.name, "classes": classes}
    if unlabelled == "void":  # as was asked for: an audit need not doubt it
        content["void"] = [IGNORE]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    comment = f"# Imported from {printable(str(path))} ({form}) by `data import`.\n"
    make_folder(folder.parent)
    written = draft
    try:
        _write(splits, draft, folder, table, notes, progress)
        os.replace(draft, folder)
        written = folder
        write_atomic(to, (comment + text).encode())
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise
    return Imported(form, to, {split: len(splits[split]) for split in SPLITS}, tuple(notes))


def _target(to: Path) -> Path:
    """The folder beside the YAML file.

    Raises:
        UserError: one of them exists already, or the name cannot be that of a benchmark.
    """
    if to.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"--to {to}: its name must end in .yaml")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", to.stem):
        raise UserError(f"--to {to}: its name may hold letters, digits, - and _ only")
    folder = to.with_suffix("")
    for path in (to, folder):
        if os.path.lexists(path):
            raise UserError(f"--to {to}: {path} exists already; choose another name")
    return folder


def _root(path: Path) -> Path:
    """Where images are looked for: the folder, or that of the file."""
    if path.is_dir():
        return path
    # As in `coco/annotations/instances_val2017.json` beside `coco/val2017/`.
    return path.parent.parent if path.parent.name in ("annotations", "labels") else path.parent


def _classes(
    read: AnnotatedSet, unlabelled: Unlabelled, path: Path
) -> tuple[list[str], np.ndarray]:
    """Names of the classes, and the stored value of what a canvas holds, from its end for < 0."""
    classes = list(read.categories)
    rest = next((k for k, name in enumerate(classes) if name.lower() in BACKGROUND), None)
    shift = 0
    if unlabelled == "void":
        rest = IGNORE
    elif rest is None and not read.complete:
        classes, rest, shift = ["background", *classes], 0, 1
    if len(classes) > IGNORE:
        raise DataError(
            f"{path} has {len(read.categories)} categories, but labels of 8 bits hold {IGNORE} "
            "classes with the background; merge some"
        )
    for name in classes:
        if not is_name(name):
            raise DataError(f"{path}: {shown(name)} cannot be the name of a class; rename it")
    if not classes:
        raise DataError(f"{path} has no category; annotate the images first")
    table = np.zeros(len(read.categories) + 2, np.uint8)
    table[: len(read.categories)] = np.arange(len(read.categories)) + shift
    table[UNLABELLED] = IGNORE if rest is None else rest
    table[VOID] = IGNORE
    return classes, table


def _splits(
    pictures: Sequence[Picture], path: Path, notes: list[str]
) -> dict[Split, list[Picture]]:
    """The pictures of each split: the format's own, or drawn by a fixed seed.

    Raises:
        DataError: they are too few, or an image is listed twice.
    """
    seen: dict[str, Picture] = {}
    for picture in pictures:
        first = seen.setdefault(os.path.realpath(picture.image), picture)
        if first is not picture:
            raise DataError(
                f"{picture.where}: the image {picture.image} is listed twice (also by "
                f"{first.where}); keep one"
            )
    given = {picture.split for picture in pictures}
    if None in given and len(given) > 1:
        bare = next(picture for picture in pictures if picture.split is None)
        raise DataError(f"{bare.where}: {bare.image} is in no split, others are; put it in one")
    if len(given) < 2:
        by_name = {str(picture.image): picture for picture in pictures}
        if len(by_name) < 3:
            raise DataError(
                f"{path} has {len(by_name)} images, too few for train, val and test; add some"
            )
        drawn = carve(list(by_name), FRACTIONS)
        (only,) = given or {None}
        lack = "there are no splits" if only is None else f"there is only the split {only}"
        notes.append(
            f"{lack}: 60 / 10 / 30 % of the images, drawn by a fixed seed, are train, val and test"
        )
        return {split: [by_name[name] for name in drawn[split]] for split in SPLITS}
    splits = {split: [one for one in pictures if one.split == split] for split in SPLITS}
    if not splits["train"]:
        raise DataError(f"{path} has no train split; add its annotations")
    if not splits["test"]:
        splits["test"], splits["val"] = splits["val"], []
        notes.append("there is no test split: val is taken as test")
    if not splits["val"]:
        notes.append("there is no val split: a tenth of train becomes val")
    return splits


def _write(
    splits: dict[Split, list[Picture]],
    draft: Path,
    folder: Path,
    table: np.ndarray,
    notes: list[str],
    progress: Progress | None,
) -> None:
    """Writes all splits into a draft of the folder."""
    total, done, copied = sum(map(len, splits.values())), 0, 0
    found: Counter[str] = Counter()
    for split, pictures in splits.items():
        for stem, picture in _stems(pictures).items():
            label = draft / "labels" / split / f"{stem}.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            drawn = _drawn(picture)
            found["empty"] += drawn.empty
            found["bare"] += bool((drawn.label == UNLABELLED).any())
            _save(table[drawn.label], label)
            inside = Path("images") / split / f"{stem}{picture.image.suffix}"
            copied += not _linked(picture.image, draft / inside, folder / inside)
            done += 1
            if progress:
                progress(done, total)
    if found["empty"]:
        notes.append(f"{found['empty']} shapes cover no pixel")
    if not found["bare"] and table[UNLABELLED] not in (*table[:UNLABELLED], IGNORE):
        notes.append(
            "every pixel is annotated: `--unlabelled void` leaves out the class background"
        )
    if copied:
        notes.append(f"{copied} images were copied, since links cannot be made here")


def _stems(pictures: Sequence[Picture]) -> dict[str, Picture]:
    """Pictures by their path without suffix, below the folder that all of them share.

    Raises:
        DataError: two differ in their suffix only.
    """
    if not pictures:
        return {}
    shared = os.path.commonpath([picture.image.parent for picture in pictures])
    found: dict[str, Picture] = {}
    for picture in pictures:
        stem = picture.image.relative_to(shared).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"{found[stem].image} and {picture.image} differ in their suffix only; rename one"
            )
        found[stem] = picture
    return found


def _drawn(picture: Picture) -> Canvas:
    """The label of a picture.

    Raises:
        DataError: the image cannot be read or has another size; a shape is damaged.
    """
    width, height = image_size(picture.image)
    if picture.size not in (None, (width, height)):
        stated_width, stated_height = picture.size
        raise DataError(
            f"{picture.where}: {picture.image} is {width}x{height} px (upright), but it was "
            f"annotated as {shown(stated_width)}x{shown(stated_height)}; put back the image that "
            "was annotated"
        )
    canvas = Canvas(height, width)
    for shape in picture.shapes:
        try:
            shape.draw(canvas)
        except ValueError as error:
            raise DataError(f"{shape.where}: {error}; correct or remove it") from error
    return canvas


def _save(label: np.ndarray, path: Path) -> None:
    """Writes a label as an image with a palette, so that people see something in it."""
    image = Image.fromarray(label)
    colours = voc_colours()
    colours[IGNORE] = VOID_COLOUR
    image.putpalette(colours.ravel().tolist())
    image.save(path)


def _linked(image: Path, draft: Path, path: Path) -> bool:
    """Links an image, or copies it where that cannot be done.

    Args:
        image: to be linked.
        draft: where the link is made.
        path: where it will be.

    Returns:
        Whether it is a link.
    """
    draft.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.realpath(image)
    # Relative, so that a folder that holds both may be moved.
    near = os.path.relpath(target, os.path.realpath(path.parent))
    try:
        os.symlink(near, draft)
        return True
    except OSError:
        shutil.copyfile(target, draft)
        return False
