"""Writes the description of a folder from a look at it, and says what was guessed."""

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.data.base import IGNORE, SPLITS
from benchmark.data.custom.description import LABELS, Description
from benchmark.data.custom.folder import IMAGES, OTHER_NAMES, files_below
from benchmark.data.files import OWN, read_with
from benchmark.data.pixels import label_colours, label_values

MOST_COLOURS = 64
"""More in label images mean a photograph, or labels that were resized or compressed."""
PICTURES = ("image", "img", "photo", "picture", "rgb", "jpeg")
"""In the names of folders of images, which no guess takes for labels."""
LABELLED = ("label", "mask", "annot", "gt", "segment", "trimap", "instance", "semantic")
"""In the names of folders of labels, which no guess takes for images."""
SMOOTH = 0.9
"""Share of pixels with the two most frequent values above which few others are smoothed edges."""
LARGE, SEEN = 1024, 512
"""Shorter sides, px: photographs above the first are resized to the second, of which a training
crop of some 200 px shows enough to recognise things; of twelve megapixels it shows a texture."""
SHARES = (0.6, 0.1, 0.3)
"""Of train, val and test where the folder does not say."""


@dataclass(frozen=True)
class Pairing:
    """Where a folder holds images and labels.

    Attributes:
        images: folder of the images, relative to the whole.
        masks: folder of the labels.
        template: what a label is called, with `{stem}` for the name of its image.
        labels: the labels.
        divided: whether there are folders for train and test.
    """

    images: str
    masks: str
    template: str
    labels: list[Path]
    divided: bool


@dataclass
class Guess:
    """A description, and what was guessed.

    Attributes:
        fields: of the YAML file.
        notes: what to check, a sentence each.
    """

    fields: dict[str, object]
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The YAML file."""
        head = "".join(f"# {note}\n" for note in self.notes)
        body = yaml.safe_dump(
            self.fields, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
        )
        return head + body


def describe(folder: Path, home: Path) -> Guess:
    """Looks at every label of a folder.

    Args:
        folder: holds images and labels.
        home: where the YAML file will be.

    Returns:
        What the YAML file says; `Description` takes it.

    Raises:
        UserError: there are no images with labels.
        DataError: a label cannot be read, or is none.
    """
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing; name the folder of your images")
    found = pairing(folder)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).strip("_") or "my_set"
    guess = Guess({"name": name, "folder": _relative(folder, home)})
    if found.images != "images":
        guess.fields["images"] = found.images
    if found.masks != "labels":
        guess.fields["masks"] = found.masks
    if not found.divided:
        guess.fields["splits"] = list(SHARES)
        guess.notes.append(
            "Splits are drawn at random. Keep frames of one video, or tiles of one scene, together "
            "in folders train, val and test instead."
        )
    guess.notes.append(f"Images are in {found.images}, labels in {found.masks}: {found.template}.")
    _add_size(guess, found)
    _add_classes(guess, found)
    Description.model_validate(guess.fields)
    return guess


def pairing(folder: Path) -> Pairing:
    """Finds the images that have labels, by their names.

    Raises:
        UserError: no folder fits another.
    """
    files = [path for path in files_below(folder) if path.suffix.lower() in (*IMAGES, *LABELS)]
    if not files:
        raise UserError(f"{folder} holds no images ({', '.join(IMAGES)}); name another folder")
    folders: dict[str, list[Path]] = {}
    for path in files:
        top = _top(path.relative_to(folder).parent)
        folders.setdefault(top, []).append(path)
    fitting = [
        found
        for masks in sorted(folders)
        for images in sorted(folders)
        if (found := _fit(folder, images, masks, folders))
    ]
    if not fitting:
        where = ", ".join(f"{len(paths)} in {top}" for top, paths in sorted(folders.items())[:5])
        raise UserError(
            f"{folder}: no image has a label of its name ({where}); put the labels (PNG, not "
            "JPEG) into a folder of their own, such as masks, named as their images"
        )
    most = max(len(found.labels) for found in fitting)
    fitting = [found for found in fitting if len(found.labels) == most]
    named = [found for found in fitting if any(word in found.images.lower() for word in PICTURES)]
    fitting = named or fitting
    if len({found.images for found in fitting}) == 1 == len({found.masks for found in fitting}):
        return fitting[0]
    # Of two folders that are labels of each other, those with fewer colours are labels.
    swapped = {frozenset((found.images, found.masks)) for found in fitting}
    if len(swapped) == 1:
        return min(fitting, key=lambda found: _colours(found.labels[0]))
    pairs = "; ".join(f"{found.images} with {found.masks}" for found in fitting[:4])
    raise UserError(
        f"{folder}: several folders fit each other ({pairs}); move the others away, or write "
        "`images` and `masks` in a YAML file"
    )


def _add_size(guess: Guess, found: Pairing) -> None:
    """Adds the size at which the network sees photographs that are large."""
    sides = []
    for path in filter(Path.is_file, found.labels):  # a pipe would never end
        with contextlib.suppress(OSError, ValueError), Image.open(path) as label:
            sides.append(min(label.size))
    side = sorted(sides)[len(sides) // 2] if sides else 0
    if side > LARGE:
        guess.fields["shorter_side"] = SEEN
        guess.notes.append(
            f"The shorter side is {side} px; the network sees it as {SEEN} px. Write a larger "
            "`shorter_side` if what you look for would be a few pixels wide."
        )


def _top(parent: Path) -> str:
    """The folder that holds all of a kind: without split folders and what is in them."""
    parts = parent.parts
    cut = next((k for k, part in enumerate(parts) if part in SPLITS), min(len(parts), 1))
    return Path(*parts[:cut]).as_posix()


def _fit(folder: Path, images: str, masks: str, folders: dict[str, list[Path]]) -> Pairing | None:
    """The pairing of two folders, if names of one are names of the other with one addition."""
    if images != masks and (
        any(word in masks.lower() for word in PICTURES)
        or any(word in images.lower() for word in LABELLED)
    ):
        return None
    labels = {p.relative_to(folder / masks) for p in folders[masks] if p.suffix.lower() in LABELS}
    pictures = [path.relative_to(folder / images) for path in folders[images]]
    if images != masks:
        pictures = [p for p in pictures if not any(w in p.parent.as_posix() for w in LABELLED)]
    templates: dict[str, int] = {}
    by_parent: dict[Path, list[Path]] = {}
    for label in labels:
        by_parent.setdefault(label.parent, []).append(label)
    for picture in pictures[:20]:
        for label in by_parent.get(picture.parent, ()):
            if picture.stem in label.stem and (images != masks or label != picture):
                call = label.stem.replace(picture.stem, "{stem}", 1) + label.suffix
                templates[call] = templates.get(call, 0) + 1
    if not templates:
        return None
    template = max(sorted(templates, key=len), key=lambda call: templates[call])
    named = {p.with_name(template.replace("{stem}", p.stem)): p for p in pictures}
    fitting = sorted(labels & named.keys())
    if images == masks:
        fitting = [label for label in fitting if named[label] not in labels & named.keys()]
    if not fitting or _colours(folder / masks / fitting[0]) > MOST_COLOURS:
        return None
    divided = all((folder / images / split).is_dir() for split in ("train", "test"))
    others = [name for name in OTHER_NAMES if (folder / images / name).is_dir()]
    if others:
        raise UserError(
            f"{folder / images} is divided into {', '.join(others)}; name the folders of images "
            "and labels train, val and test"
        )
    return Pairing(images, masks, template, [folder / masks / p for p in fitting], divided)


def _colours(path: Path) -> float:
    """How many values or colours a label has; more than any where it is none."""
    try:
        return len(np.unique(_content(path)[0]))
    except DataError:
        return np.inf


def _packed(colours: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(colours.astype(np.int64), -1, 0)
    return (r << 16) | (g << 8) | b


def _add_classes(guess: Guess, found: Pairing) -> None:
    """Adds classes and `labels`: of indices where labels have one channel, else of colours."""
    values: dict[int, int] = {}
    colours: dict[int, int] = {}
    for path in found.labels:
        own, target = _content(path)
        kind = colours if target == "colour" else values
        for value, count in zip(*np.unique(own, return_counts=True), strict=True):
            kind[int(value)] = kind.get(int(value), 0) + int(count)
        if len(kind) > (MOST_COLOURS if target == "colour" else 256):
            raise DataError(
                f"{path}: labels hold more than {len(kind) - 1} {target}s, as photographs and "
                "resized labels do; export labels without smoothing"
            )
    if values and colours:
        raise DataError(
            f"{found.labels[0].parent}: some labels have one channel, others three; export all in "
            "one way"
        )
    _refuse_smoothed(colours or values, found.labels[0].parent)
    files = {"files": found.template} if found.template != "{stem}.png" else {}
    if colours:
        most = sorted(colours, key=lambda value: -colours[value])
        guess.fields["classes"] = {f"class_{k}": f"#{value:06X}" for k, value in enumerate(most)}
        guess.fields["labels"] = files | {"values": "colour"} if files else "colour"
        guess.notes.append("Names of classes are guessed: only their colours are known.")
        return
    present = sorted(values)
    if present[-1] > IGNORE:
        raise DataError(
            f"{found.labels[0].parent}: labels store values up to {present[-1]}, which are no "
            "classes; export class numbers from 0 to 255"
        )
    if len(present) == 2:
        names = {present[0]: "background", present[1]: "foreground"}
    else:
        names = {value: f"class_{value}" for value in present if value != IGNORE}
        if IGNORE in present:
            guess.notes.append("255 is taken as void: pixels that nobody labelled.")
    guess.notes.append("Names of classes are guessed: only the values of the labels are known.")
    guess.fields["classes"] = list(names.values())
    if list(names) != list(range(len(names))):
        guess.fields["labels"] = files | {"values": names} if files else names
    elif files:
        guess.fields["labels"] = found.template


def _refuse_smoothed(pixels: dict[int, int], where: Path) -> None:
    """Raises DataError for masks whose edges were smoothed: many values of a few pixels."""
    counts = sorted(pixels.values(), reverse=True)
    if len(counts) > 10 and sum(counts[:2]) > SMOOTH * sum(counts):
        raise DataError(
            f"{where}: labels store {len(counts)} values, most of them in few pixels: edges look "
            "smoothed; export labels without anti-aliasing"
        )


def _content(path: Path) -> tuple[np.ndarray, str]:
    """Indices of a label with one channel, or its colours as numbers."""
    try:
        values, bits = read_with(path, OWN, label_values)
    except DataError:
        return _packed(read_with(path, OWN, label_colours)), "colour"
    return (values * 255 if bits == 1 else values), "value"


def _relative(folder: Path, home: Path) -> str:
    """The folder as the YAML file names it: relative where it is below."""
    inside = folder.resolve()
    return (
        inside.relative_to(home.resolve()).as_posix()
        if inside.is_relative_to(home.resolve())
        else str(inside)
    )
