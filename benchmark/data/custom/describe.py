"""Writes the description of a folder from a look at it, and says what was guessed."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.core.format import counted
from benchmark.data.audit.presence import RARE, SELDOM
from benchmark.data.audit.twins import Progress
from benchmark.data.base import IGNORE, SPLITS, grouped
from benchmark.data.custom.description import LABELS, Description
from benchmark.data.custom.folder import (
    IMAGES,
    OTHER_NAMES,
    PICTURE_SUFFIXES,
    SPLIT,
    TWINS,
    ImageFolder,
    files_below,
)
from benchmark.data.custom.grouping import FORMS, SHARES, named_groups, stated_groups, together
from benchmark.data.custom.legend import Legend, find_legend
from benchmark.data.files import OWN, read_with
from benchmark.data.pixels import blended, label_colours, label_kind, label_values

MOST_COLOURS = 64
"""More in label images mean a photograph, or labels that were resized or compressed."""
PICTURES = ("image", "img", "photo", "picture", "rgb", "jpeg")
"""In the names of folders of images, which no guess takes for labels."""
LABELLED = ("label", "mask", "annot", "gt", "segment", "trimap", "instance", "semantic")
"""In the names of folders of labels, which no guess takes for images."""
SMOOTH = 0.9
"""Share of pixels with the two most frequent values above which few others are smoothed edges."""
JPEG = (".jpg", ".jpeg")
"""Suffixes of labels that have lost their values."""
MOST_FOLDERS = 100
"""Above it, labels are only looked for beside their images."""
MOST_INNER = 8
"""Folders in a folder that are looked at one by one."""
FEW = 10
"""A label with more values that no other label has, of few pixels each, was resized or smoothed."""
STRAY, STRAY_SHARE = 10, 1e-4
"""Pixels, and share of them: a value with no more, in all labels together, is no class."""
LARGE, SEEN = 1024, 512
"""Shorter sides, px: photographs above the first are resized to the second, of which a training
crop of some 200 px shows enough to recognise things; of twelve megapixels it shows a texture."""
SPREAD = 8
"""Steps between values from which on they are grey values of a picture, not numbers of classes."""


@dataclass(frozen=True)
class Pairing:
    """Where a folder holds images and labels.

    Attributes:
        images: folder of the images, relative to the whole; see `Description.images`.
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
        faults: what an audit will find serious, a line each.
    """

    fields: dict[str, object]
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The YAML file."""
        head = "".join(f"# {note}\n" for note in self.notes)
        body = yaml.safe_dump(
            self.fields, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
        )
        return head + body


def describe(folder: Path, home: Path, progress: Progress | None = None) -> Guess:
    """Looks at every label of a folder, and at every image where splits are to be drawn.

    Args:
        folder: holds images and labels.
        home: where the YAML file will be.
        progress: called while images are read.

    Returns:
        What the YAML file says; `Description` takes it.

    Raises:
        UserError: there are no images with labels.
        DataError: a label cannot be read, or is none; two images or labels have the same name;
            they are too few.
    """
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing; name the folder of your images")
    found = pairing(folder)
    guess = Guess({"name": name_of(folder), "folder": _relative(folder, home)})
    if found.images != "images":
        guess.fields["images"] = found.images
    if found.masks != "labels":
        guess.fields["masks"] = found.masks
    if not found.divided:
        guess.fields["splits"] = list(SHARES)
    guess.notes.append(f"Images are in {found.images}, labels in {found.masks}: {found.template}.")
    _add_size(guess, found)
    _add_classes(guess, found, folder)
    described = _opened(guess, home)
    if not found.divided:
        _add_groups(guess, described, progress)
        described = _opened(guess, home)
    for fault in described.faults():
        if fault.what.startswith(TWINS):  # it cannot be told which of them is meant
            raise DataError(f"{fault.what}; {fault.fix}")
        guess.faults.append(f"{fault.what}; {fault.fix}")
    return guess


def _opened(guess: Guess, home: Path) -> ImageFolder:
    """The set that is described."""
    description = Description.model_validate(guess.fields)
    attributes = ImageFolder.attributes(description, home) | {"name": description.name}
    return type("Described", (ImageFolder,), attributes)()


def _add_groups(guess: Guess, described: ImageFolder, progress: Progress | None) -> None:
    """Adds what keeps images of one scene in one split, where some look nearly the same."""
    links = described.twins(progress).links
    named = _named_groups(list(described.stems.values()))
    if not links:
        guess.notes.append(
            "Splits are drawn at random. No two images look nearly the same; if several are of "
            "one scene all the same, keep them in one split by a pattern of their names"
            + ("." if named else ', such as `groups: "^(scene[0-9]+)_"`.')
        )
        guess.notes += named
        return
    stems = {stem: id for id, stem in described.stems.items()}
    ids = list(stems.values())
    linked = together(ids, links)
    count = sum(len(group) for group in linked if len(group) > 1)
    pair = " and ".join(links[0])
    seen = f"{count} of {len(ids)} images are nearly the same as another one, such as {pair}"
    largest = max(map(len, linked))
    form = next((form for form in FORMS if _fits_links(form, stems, links)), None)
    if form:
        guess.fields["groups"] = form
        guess.notes.append(
            f"{seen}. Their names tell which belong together, so each such group is kept in one "
            "split (`groups`). This is guessed from the names: check it."
        )
    elif largest > SHARES[0] * len(ids):
        guess.notes.append(
            f"{seen}. {largest} of them are linked, as frames of one video are, so drawn splits "
            "cannot keep them together: scores will be too good. Add images of other scenes, or "
            "cut the video into parts by `groups`."
        )
    else:
        guess.fields["near_duplicates"] = "together"
        guess.notes.append(
            f"{seen}. Splits are drawn at random, but such images stay in one split "
            "(`near_duplicates`). If names tell which images are of one scene, write `groups`, too."
        )
        guess.notes += named


def _named_groups(stems: Sequence[str]) -> list[str]:
    """What names say of groups, and the line of the YAML file for it."""
    found = named_groups(stems)
    if found is None:
        return []
    sizes = sorted(found.groups.values())
    span = f"{sizes[0]} to {sizes[-1]}" if sizes[0] < sizes[-1] else f"{sizes[0]}"
    return [
        f"The names seem to tell {len(sizes)} groups of {span} images, such as {found.largest}. If "
        "each is of one scene or patient, remove the # before the next line: the scores then speak "
        "of new scenes, else of new images of these.",
        f"groups: {yaml.safe_dump(found.form).splitlines()[0]}",
    ]


def _fits_links(form: str, stems: Mapping[str, str], links: Sequence[tuple[str, str]]) -> bool:
    """Whether a form of names groups images as their looks do: coarse, but not by accident."""
    try:
        group_of = stated_groups(form, Path(), list(stems))
    except DataError:
        return False
    groups = {stems[stem]: group for stem, group in group_of.items()}
    sizes = Counter(groups.values())
    shared = {group for group, size in sizes.items() if size > 1}
    linked = {groups[one] for one, other in links}
    return (
        all(groups[one] == groups[other] for one, other in links)
        and max(sizes.values()) <= SHARES[0] / 2 * len(groups)
        and 2 * len(linked) >= len(shared)
    )


_OURS = ("benchmark.data.sets.", "benchmark.data.procedural.")


def name_of(folder: Path) -> str:
    """What a set in a folder is called, where nobody says: not as one that comes with us."""
    from benchmark.data import available

    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).strip("_") or "my_set"
    known = available().get(name)
    return f"my_{name}" if known is not None and known.__module__.startswith(_OURS) else name


def pairing(folder: Path) -> Pairing:
    """Finds the images that have labels, by their names.

    Raises:
        UserError: no folder fits another, or it cannot be told which.
    """
    every = list(files_below(folder))
    files = [path for path in every if path.suffix.lower() in (*IMAGES, *LABELS)]
    if not files:
        raise UserError(f"{folder} holds no images ({', '.join(IMAGES)}); name another folder")
    folders: dict[str, dict[Path, Path]] = {}
    for path in files:
        for top, inside in _tops(path.relative_to(folder)):
            folders.setdefault(top, {})[inside] = path
    folders = _without_crowds(folders)
    fitting = [
        found
        for masks in sorted(folders)
        for images in sorted(folders)
        if (found := _fit(folder, images, masks, folders))
    ]
    if not fitting:
        raise UserError(f"{_no_pair(folder, folders, every)}{_annotated(every)}")
    most = max(len(found.labels) for found in fitting)
    best = [found for found in fitting if len(found.labels) == most]
    named = [found for found in best if any(word in found.images.lower() for word in PICTURES)]
    best = named or best
    # `data/images` holds what `data` does, and says more about it.
    best = [one for one in best if not any(_inside(one, other) for other in best)]
    apart = [one for one in fitting if not any(_overlaps(one, other) for other in best)]
    if len(best) == 1 and not apart:
        return best[0]
    # Of two folders that are labels of each other, those with fewer colours are labels.
    if not apart and len({frozenset((found.images, found.masks)) for found in best}) == 1:
        return min(best, key=lambda found: _colours(found.labels[0]))
    pairs = "; ".join(f"{one.images} with {one.masks}" for one in [*best, *apart][:4])
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


def _tops(path: Path) -> Iterator[tuple[str, Path]]:
    """Folders that may hold all images or labels, and a file's path in them with its split first.

    Args:
        path: of the file, relative to the whole.
    """
    parts = path.parts[:-1]
    if len(parts) > 1 and parts[0] in SPLITS:  # train/images, train/masks
        yield f"{SPLIT}/{parts[1]}", Path(parts[0], *path.parts[2:])
        return
    cut = next((k for k, part in enumerate(parts) if part in SPLITS), len(parts))
    for depth in {0, min(cut, 1), min(cut, 2)}:
        yield Path(*parts[:depth]).as_posix(), Path(*path.parts[depth:])


def _without_crowds(folders: dict[str, dict[Path, Path]]) -> dict[str, dict[Path, Path]]:
    """Without inner folders where there are many, as one for each patient or street."""
    if len(folders) > MOST_FOLDERS:  # as in a home folder, or with one for each patient
        return {".": folders["."]}
    inner = Counter(Path(top).parent for top in folders)
    return {
        top: files
        for top, files in folders.items()
        if top.startswith(SPLIT) or "/" not in top or inner[Path(top).parent] <= MOST_INNER
    }


def _inside(one: Pairing, other: Pairing) -> bool:
    """Whether a pairing is of folders that another one, of the same labels, looks at closer."""
    pairs = ((one.images, other.images), (one.masks, other.masks))
    return one is not other and all(a == b or Path(a) in Path(b).parents for a, b in pairs)


def _overlaps(one: Pairing, other: Pairing) -> bool:
    """Whether two pairings share files."""
    mine, theirs = ({Path(p.images), Path(p.masks)} for p in (one, other))
    return any(a == b or a in b.parents or b in a.parents for a in mine for b in theirs)


def _no_pair(folder: Path, folders: dict[str, dict[Path, Path]], files: Sequence[Path]) -> str:
    """What to say of a folder in which no image has a label.

    Args:
        folder: the whole.
        folders: files that may be images or labels, by the folders that may hold them all.
        files: all files.
    """
    tops = {top: inside for top, inside in folders.items() if "/" not in top or SPLIT in top}
    if len(tops) > 1:
        tops.pop(".", None)  # which holds them all
    where = ", ".join(f"{len(inside)} in {top}" for top, inside in sorted(tops.items())[:5])
    if where == f"{len(next(iter(tops.values())))} in .":
        where = f"{len(tops['.'])} images"
    told = f"{folder}: no image has a label of its name ({where})"
    if unread := Counter(path.suffix for path in files if _is_unread_label(path, folder)):
        suffix, count = unread.most_common(1)[0]
        return f"{told}; labels may be {', '.join(LABELS)}: convert the {count} {suffix} to PNG"
    sides = _sides(tops)
    if not sides:
        return (
            f"{told}; put the labels (PNG, not JPEG) into a folder of their own, such as masks, "
            "named as their images, as in photos/a.jpg with masks/a.png or masks/a_mask.png"
        )
    images, labels = (folders[top] for top in sides)
    picture, label = min(images), min(labels)
    alike = _alike(images, labels)
    if alike and all(path.suffix.lower() in JPEG for path in labels):
        picture, label = alike
        why = "JPEG is lossy and changes the values of labels: export them as PNG"
    elif alike and alike[0].parent == alike[1].parent:
        picture, label = alike
        why = (
            f"the second looks like a photograph ({_colours(labels[label]):.0f} values), not like "
            "a label: export labels with one value for each class"
        )
    elif alike:
        picture, label = alike
        why = "folders inside must be the same on both sides: move the labels"
    elif {p.stem.lower() for p in images} & {p.stem.lower() for p in labels}:
        why = "upper and lower case must be the same: rename the labels"
    else:
        why = _two_endings(folders) or (
            "the name of a label must hold that of its image, as a.png or a_mask.png does that of "
            f"a.jpg: rename the files of {sides[1]}, or name another folder"
        )
    named = [
        Path(top.replace(SPLIT + "/", ""), p)
        for top, p in zip(sides, (picture, label), strict=True)
    ]
    return f"{told}, as {named[0]} and {named[1]}; {why}"


def _is_unread_label(path: Path, folder: Path) -> bool:
    """Whether a file in a folder of labels is of a format that is not read."""
    parents = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    inside = any(word in part for part in parents for word in LABELLED)
    return inside and path.suffix.lower() in set(PICTURE_SUFFIXES) - {*IMAGES, *LABELS}


def _sides(tops: Mapping[str, dict[Path, Path]]) -> tuple[str, str] | None:
    """The folders that are most likely those of images and labels."""

    def size(top: str) -> int:
        return len(tops[top])

    labels = [top for top in tops if any(word in top.lower() for word in LABELLED)]
    images = [top for top in tops if top not in labels]
    if not labels and len(images) > 1:  # of unknown names, that with few colours
        labels = [min(images, key=lambda top: _colours(min(tops[top].values())))]
        images.remove(labels[0])
    if not labels or not images:
        return None
    return max(images, key=size), max(labels, key=size)


def _alike(images: Mapping[Path, Path], labels: Mapping[Path, Path]) -> tuple[Path, Path] | None:
    """The first image and label of which one holds the name of the other, in any folder inside."""
    by_stem = {path.stem: path for path in sorted(labels, reverse=True)}
    for picture in sorted(images):
        if picture.stem in by_stem:
            beside = picture.with_name(by_stem[picture.stem].name)
            return picture, beside if beside in labels else by_stem[picture.stem]
    first = min(images)
    return next(((first, path) for path in sorted(labels) if first.stem in path.stem), None)


def _annotated(files: list[Path]) -> str:
    """What to add where annotations of other tools may be there."""
    found = [path for path in files if path.suffix.lower() in (".json", ".xml")]
    found += [path for path in files if path.name in ("data.yaml", "data.yml")]
    if not found:
        return ""
    return f"; if {found[0]} holds annotations, convert them by `data import`"


def _two_endings(folders: dict[str, dict[Path, Path]]) -> str:
    """What to add where names differ in their ends, as in a_leftImg8bit and a_gtFine_labelIds."""
    ends = []
    for files in folders.values():
        stems = [path.stem[::-1] for path in files]
        shared = os.path.commonprefix(stems)[::-1] if len(stems) > 1 else ""  # noqa: RUF071
        begin = re.search(r"[_.-].*", shared)
        if begin and begin[0] not in ends:
            ends.append(begin[0])
    if len(ends) < 2:
        return ""
    return f"here names end in {' or '.join(ends[:4])}: remove these ends from the images' names"


def _fit(
    folder: Path, images: str, masks: str, folders: dict[str, dict[Path, Path]]
) -> Pairing | None:
    """The pairing of two folders, if names of one are names of the other with one addition.

    Raises:
        UserError: labels have several suffixes or names, or split folders names that are not read.
    """
    if images != masks and (
        any(word in masks.lower() for word in PICTURES)
        or any(word in images.lower() for word in LABELLED)
    ):
        return None
    if (SPLIT in images) != (SPLIT in masks):
        return None
    labels = {p for p in folders[masks] if p.suffix.lower() in LABELS}
    pictures = sorted(folders[images])
    if images != masks:
        pictures = [p for p in pictures if not any(w in p.parent.as_posix() for w in LABELLED)]
    templates: dict[str, int] = {}
    by_parent: dict[Path, list[Path]] = {}
    for label in labels:
        by_parent.setdefault(label.parent, []).append(label)
    for picture in pictures[:20]:
        for label in by_parent.get(picture.parent, ()):
            call = label.stem.replace(picture.stem, "{stem}", 1) + label.suffix
            own = images == masks and label == picture
            if "{stem}" in call and not own and not _goes_on(picture.stem, call):
                templates[call] = templates.get(call, 0) + 1
    if images == masks:  # as a.bmp beside a.png: either could be the label by its name
        templates = {
            call: count
            for call, count in templates.items()
            if (first := _first(call, pictures, labels))
            and _colours(folders[masks][first]) <= MOST_COLOURS
        }
    if not templates:
        return None
    template = _template(templates, folder / masks)
    named = {_call(template, p): p for p in pictures if images != masks or _call(template, p) != p}
    fitting = sorted(labels & named.keys())
    if images == masks:
        fitting = [label for label in fitting if named[label] not in labels & named.keys()]
    if not fitting or _colours(folders[masks][fitting[0]]) > MOST_COLOURS:
        return None
    if images != masks:
        _refuse_mixed(template, named.keys() - labels, labels, folder / masks)
    divided = all(any(p.parts[0] == split for p in pictures) for split in ("train", "test"))
    firsts = {p.parts[0] for p in pictures}
    others = [name for name in OTHER_NAMES if name in firsts]
    if SPLIT in images:
        others = [name for name in OTHER_NAMES if (folder / name).is_dir()]
    if others:
        raise UserError(
            f"{folder / images.removeprefix(SPLIT + '/')} is divided into {', '.join(others)}; "
            "name the folders of images and labels train, val and test"
        )
    return Pairing(images, masks, template, [folders[masks][p] for p in fitting], divided)


def _goes_on(stem: str, call: str) -> bool:
    """Whether what a name adds to a stem is more digits of its number, as p12 does to p1."""
    before, after = call.split("{stem}", 1)
    pairs = ((before[-1:], stem[:1]), (stem[-1:], after[:1]))
    return any(left.isdigit() and right.isdigit() for left, right in pairs)


def _call(template: str, picture: Path) -> Path:
    """The label of a picture."""
    return picture.with_name(template.replace("{stem}", picture.stem))


def _first(template: str, pictures: list[Path], labels: Set[Path]) -> Path | None:
    """The first label of another file that a template names."""
    named = ((_call(template, picture), picture) for picture in pictures)
    return next((label for label, picture in named if label in labels and label != picture), None)


def _template(templates: dict[str, int], masks: Path) -> str:
    """What labels are called, of what they might be.

    Raises:
        UserError: several names are as likely.
    """
    most = max(templates.values())
    likely = sorted(
        (call for call, count in templates.items() if count == most), key=lambda c: (len(c), c)
    )
    # As `a_gt.png` beside `a_pred.png`.
    sure = [call for call in likely if any(word in call.lower() for word in LABELLED)]
    plain = [call for call in likely if Path(call).stem == "{stem}"]
    chosen = sure or plain or likely
    if len({Path(call).stem for call in chosen}) > 1:
        raise UserError(
            f"{masks}: labels may be {' or '.join(chosen[:4])}; move the others away, or write "
            f"`labels: {chosen[0]!r}` in a YAML file"
        )
    return chosen[0]


def _refuse_mixed(template: str, missing: Set[Path], labels: Set[Path], masks: Path) -> None:
    """Raises UserError where labels that are missing are there with another suffix."""
    suffix = Path(template).suffix
    others = Counter(
        other
        for label in missing
        for other in LABELS
        if other != suffix and label.with_suffix(other) in labels
    )
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        raise UserError(
            f"{masks}: most labels are {suffix}, but there are {kinds}; save all labels as {suffix}"
        )


def _colours(path: Path) -> float:
    """How many values or colours a label has, smoothed edges left out; infinite if it is none."""
    try:
        own, target = _content(path)
    except DataError:
        return np.inf
    pixels = _counts(own)
    return 2 if _two_levels(_grey(pixels) if target == "colour" else pixels) else len(pixels)


def _counts(values: np.ndarray) -> dict[int, int]:
    """How often each value occurs."""
    return dict(zip(*(x.tolist() for x in np.unique(values, return_counts=True)), strict=True))


def _packed(colours: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(colours.astype(np.int64), -1, 0)
    return (r << 16) | (g << 8) | b


class Content(NamedTuple):
    """What all labels of a folder store.

    Attributes:
        colours: whether that is colours, as 0xRRGGBB, in place of values.
        pixels: of each value or colour.
        holding: labels that hold each of them.
        most_in: the label with most pixels of each, and how many these are.
    """

    colours: bool
    pixels: dict[int, int]
    holding: Counter[int]
    most_in: dict[int, tuple[int, Path]]


Stored = tuple[bool, Path, str, dict[int, int]]
"""Of a label: whether it looks blended, its file, what its values are, and the pixels of each."""


def _add_classes(guess: Guess, found: Pairing, folder: Path) -> None:
    """Adds classes and `labels`: of indices where labels have one channel, else of colours."""
    stored: list[Stored] = []
    as_colours = _all_as_colours(found.labels)
    for path in found.labels:
        own, target = _content(path, as_colours)
        stored.append((blended(own), path, target, _counts(own)))
    if _add_threshold(guess, found, stored):
        return
    content = _together(guess, stored)
    legend = find_legend(folder, content.pixels, colours=content.colours)
    strays = _few_unnamed(content.pixels, legend)
    pixels = {value: count for value, count in content.pixels.items() if value not in strays}
    where = found.labels[0].parent
    grey = _grey(pixels) if content.colours else {}
    _refuse_smoothed(grey or pixels, where, content.most_in)
    if len(pixels) < 2:
        raise DataError(
            f"{where}: all {len(found.labels)} labels hold one value only, so every prediction "
            "would be right; export labels with at least two classes"
        )
    form = "#{:06X}" if content.colours else ""
    content = content._replace(pixels=_without_strays(guess, pixels, strays, form))
    files = {"files": found.template} if found.template != "{stem}.png" else {}
    if content.colours:
        _add_colours(guess, content, legend, files, len(found.labels), folder)
    else:
        _add_values(guess, sorted(content.pixels), legend, files, where)


def _together(guess: Guess, stored: Sequence[Stored]) -> Content:
    """What all labels store; those with blended edges are left out, and told.

    Raises:
        DataError: they store too many values.
    """
    values: dict[int, int] = {}
    colours: dict[int, int] = {}
    holding: Counter[int] = Counter()
    most_in: dict[int, tuple[int, Path]] = {}
    smooth: list[str] = []
    doubtful = 2 * sum(one[0] for one in stored) < len(stored)
    for suspicious, path, target, pixels in sorted(stored, key=lambda one: one[0]):
        kind = colours if target == "colour" else values
        if suspicious and doubtful and len(pixels.keys() - kind.keys()) > FEW:
            smooth.append(str(path))
            continue
        holding.update(pixels.keys())
        for value, count in pixels.items():
            kind[value] = kind.get(value, 0) + count
            most_in[value] = max(most_in.get(value, (0, path)), (count, path), key=lambda x: x[0])
        if len(kind) > (MOST_COLOURS if target == "colour" else 256):
            raise DataError(
                f"{path}: labels hold more than {len(kind) - 1} {target}s, as photographs and "
                "resized labels do; export labels without smoothing"
            )
    fix = "export them again, or resize them with nearest-neighbour"
    for finding in grouped("serious", "labels with blended edges", smooth, fix):
        guess.faults.append(f"{finding.what}; {finding.fix}")
    return Content(bool(colours), colours or values, holding, most_in)


def _add_colours(
    guess: Guess,
    content: Content,
    legend: Legend | None,
    files: dict[str, str],
    labels: int,
    folder: Path,
) -> None:
    """Adds classes that labels store as colours, the most frequent first.

    Args:
        guess: gets the fields.
        content: of the labels.
        legend: where one was found.
        files: what label files are called, where that is not the usual.
        labels: number of labels.
        folder: of the set.
    """
    pixels = content.pixels
    most = sorted(pixels, key=lambda value: -pixels[value])
    if legend and legend.void:
        most = [value for value in most if value not in legend.void]
        guess.fields["void"] = [f"#{value:06X}" for value in legend.void]
        guess.notes.append(_void_by_name(legend))
    known = legend.names if legend else {}
    names = {value: known.get(value, f"class_{k}") for k, value in enumerate(most)}
    guess.fields["classes"] = {name: f"#{value:06X}" for value, name in names.items()}
    guess.fields["labels"] = files | {"values": "colour"} if files else "colour"
    total = sum(pixels.values())
    about = {
        value: f"{name} (#{value:06X}) has {100 * pixels[value] / total:.2g} % of the pixels, in "
        f"{content.holding[value]} of {counted(labels, 'label')}, most in "
        f"{content.most_in[value][1].relative_to(folder)}"
        for value, name in names.items()
    }
    guess.notes.append(_names_from(legend, "their colours are known"))
    guess.notes += _not_named(legend, about)
    guess.notes += _rare(about, pixels, content.holding, labels)


def _add_values(
    guess: Guess,
    present: Sequence[int],
    legend: Legend | None,
    files: dict[str, str],
    where: Path,
) -> None:
    """Adds classes that labels store as numbers.

    Args:
        guess: gets the fields.
        present: the numbers, sorted.
        legend: where one was found.
        files: what label files are called, where that is not the usual.
        where: the folder of labels.

    Raises:
        DataError: these are no numbers of classes.
    """
    if present[-1] > IGNORE:
        raise DataError(
            f"{where}: labels store values up to {present[-1]}, which are no classes; export class "
            "numbers from 0 to 255"
        )
    if len(present) == 2:
        names = {present[0]: "background", present[1]: "foreground"}
    else:
        spread = _are_spread(present)
        names = {value: f"class_{value}" for value in present if spread or value != IGNORE}
        if spread:
            guess.notes.append(
                f"{', '.join(map(str, present))} are evenly spaced, so 255 is taken as a class. If "
                "nobody labelled these pixels, remove it from `labels` and its name from `classes`."
            )
        elif IGNORE in present:
            guess.notes.append("255 is taken as void: pixels that nobody labelled.")
    if legend:
        names = {value: legend.names.get(value, name) for value, name in names.items()}
    if legend and legend.void:
        names = {value: name for value, name in names.items() if value not in legend.void}
        guess.fields["void"] = [value for value in present if value not in names]
        guess.notes.append(_void_by_name(legend))
    guess.notes.append(_names_from(legend, "the values of the labels are known"))
    guess.notes += _not_named(legend, {value: f"label value {value}" for value in names})
    guess.fields["classes"] = list(names.values())
    if list(names) != list(range(len(names))):
        guess.fields["labels"] = files | {"values": names} if files else names
    elif files:
        guess.fields["labels"] = files["files"]


def _names_from(legend: Legend | None, known: str) -> str:
    """Where the names of classes are from."""
    if legend is None:
        return f"Names of classes are guessed: only {known}."
    return f"Names of classes are from {legend.path.name}."


def _not_named(legend: Legend | None, about: Mapping[int, str]) -> list[str]:
    """What labels store and the legend does not name.

    Args:
        legend: where one was found.
        about: what to say of everything that labels store of classes.
    """
    missing = [text for value, text in about.items() if legend and value not in legend.names]
    if not missing:
        return []
    return [
        f"Not named there: {'; '.join(missing)}. Name it in `classes`, or in `void` where nobody "
        "labelled it."
    ]


def _void_by_name(legend: Legend) -> str:
    """Which classes are taken as void."""
    names = ", ".join(legend.names[value] for value in legend.void)
    return (
        f"By its name, {names} is taken as void: such pixels count nowhere. If it is a class, "
        "remove it from `void` and add it to `classes`."
    )


def _few_unnamed(pixels: Mapping[int, int], legend: Legend | None) -> dict[int, int]:
    """What a legend does not name, where that is few pixels in all; with their numbers."""
    if legend is None:
        return {}
    rest = {value: count for value, count in pixels.items() if value not in legend.names}
    return rest if sum(rest.values()) <= STRAY_SHARE * sum(pixels.values()) else {}


def _without_strays(
    guess: Guess, pixels: dict[int, int], strays: Mapping[int, int], form: str = ""
) -> dict[int, int]:
    """What labels store, without what a few pixels hold, which `ignore` gets.

    Args:
        guess: gets the field, and says so.
        pixels: of each value or colour.
        strays: pixels of others that are left out already.
        form: of a colour; empty = numbers.
    """
    most = min(STRAY, STRAY_SHARE * sum(pixels.values()))
    stray = {
        form.format(value) if form else value: count
        for value, count in sorted([*pixels.items(), *strays.items()])
        if count <= most or value in strays
    }
    kept = {value: count for value, count in pixels.items() if count > most}
    if not stray or len(kept) < 2:
        return pixels
    guess.fields["ignore"] = list(stray)
    few = ", ".join(f"{name} ({counted(count, 'pixel')})" for name, count in stray.items())
    guess.notes.append(
        f"Of all labels together, {few} look stray and are left out by `ignore`. If one of them is "
        "a class, take it out there and add it to `classes` and `labels`."
    )
    return kept


def _rare(
    about: Mapping[int, str], pixels: Mapping[int, int], holding: Mapping[int, int], labels: int
) -> Iterator[str]:
    """Which classes may be pixels that nobody labelled.

    Args:
        about: what to say of each colour.
        pixels: of each colour.
        holding: labels that hold each colour.
        labels: number of labels.
    """
    for value, text in about.items():
        if pixels[value] < RARE * sum(pixels.values()) and holding[value] <= SELDOM * labels:
            yield (
                f"{text}. If nobody labelled these, remove it from `classes` and write "
                f'`void: ["#{value:06X}"]`.'
            )


def _are_spread(present: Sequence[int]) -> bool:
    """Whether values are evenly spaced grey values up to 255, as 0, 128, 255.

    Args:
        present: at least two values, sorted.
    """
    even = np.linspace(present[0], IGNORE, len(present))
    spaced = even[1] - even[0] >= SPREAD and bool((abs(even - present) <= 1).all())
    return present[-1] == IGNORE and spaced


def _add_threshold(guess: Guess, found: Pairing, stored: Sequence[Stored]) -> bool:
    """Adds two classes and the value between them, where labels are black, white, and grey edges.

    Returns:
        Whether they are.
    """
    values: Counter[int] = Counter()
    for _, _, target, pixels in stored:
        grey = _grey(pixels) if target == "colour" else pixels
        if not grey:
            return False
        values.update(grey)
    levels = _two_levels(values)
    if levels is None:
        return False
    low, high = levels
    middle = (low + high + 1) // 2
    share = 1 - (values[low] + values[high]) / values.total()
    guess.fields["classes"] = ["background", "foreground"]
    guess.fields["threshold"] = middle
    if found.template != "{stem}.png":
        guess.fields["labels"] = found.template
    guess.notes += [
        f"Labels hold {low}, {high} and, in {100 * share:.1f} % of pixels, values between, as of "
        f"smoothed edges. Guessed: from {middle} on they are foreground (`threshold`); "
        "look at the outlines in the preview.",
        "Names of classes are guessed: only the values of the labels are known.",
    ]
    return True


def _grey(colours: Mapping[int, int]) -> dict[int, int]:
    """Counts of grey values, from those of colours as numbers; empty if there are others."""
    if any(colour % 0x010101 for colour in colours):
        return {}
    return {colour // 0x010101: count for colour, count in colours.items()}


def _two_levels(pixels: Mapping[int, int]) -> tuple[int, int] | None:
    """Black and white of labels whose edges are smoothed; None where they look like anything else.

    Between black and white are many values of few pixels, in each quarter of the range.
    """
    if not pixels:
        return None
    low, high = min(pixels), max(pixels)
    counts = sorted(pixels.values(), reverse=True)
    between = [value for value in pixels if low < value < high]
    quarters = {4 * (value - low) // (high - low) for value in between}
    smooth = (
        high <= IGNORE
        and len(between) > FEW
        and len(quarters) == 4
        and pixels[low] + pixels[high] == sum(counts[:2]) > SMOOTH * sum(counts)
    )
    return (low, high) if smooth else None


def _refuse_smoothed(
    pixels: dict[int, int], where: Path, most_in: Mapping[int, tuple[int, Path]]
) -> None:
    """Raises DataError for masks whose edges were smoothed: many values of a few pixels.

    Args:
        pixels: of each value.
        where: the folder of labels.
        most_in: the label with most pixels of a value, and how many these are.
    """
    counts = sorted(pixels.values(), reverse=True)
    if len(counts) > 10 and sum(counts[:2]) > SMOOTH * sum(counts):
        known = [value for value in pixels if value in most_in]
        least = min(known, key=lambda value: pixels[value], default=None)
        example = ""
        if least is not None:
            count, path = most_in[least]
            example = f", such as {least} ({counted(count, 'pixel')} of {path.name})"
        raise DataError(
            f"{where}: labels store {len(counts)} values, most of them in few pixels{example}: "
            "edges look smoothed; export labels without anti-aliasing, or, if these are strays, "
            "name the classes in a text file beside the images (`0 = background`, a line each)"
        )


def _all_as_colours(labels: list[Path]) -> bool:
    """Whether labels have to be read as colours, because some have a palette and others none.

    Raises:
        DataError: there are labels of colours, and labels of one channel without a palette.
    """
    kinds: dict[str, list[str]] = {}
    for path in labels:
        kinds.setdefault(read_with(path, OWN, label_kind), []).append(str(path))
    if "colours" not in kinds or len(kinds) == 1:
        return False
    if "values" in kinds:
        one, three = kinds["values"], kinds["colours"]
        raise DataError(
            f"{len(one)} labels have one channel, such as {one[0]}, and {len(three)} three, such "
            f"as {three[0]}; export all in one way"
        )
    return True


def _content(path: Path, as_colours: bool = False) -> tuple[np.ndarray, str]:
    """Indices of a label with one channel, or its colours as numbers."""
    try:
        if as_colours:
            return _packed(read_with(path, OWN, label_colours)), "colour"
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
