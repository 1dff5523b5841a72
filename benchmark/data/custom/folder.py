"""A user's own folder of images and labels.

Format: `images/{train,val,test}/**/<name>.{jpg,jpeg,png,bmp,tif,tiff}` with labels
`labels/{train,val,test}/**/<name>.png` of the same relative names, or as `labels` of the
description calls them. Where `images` is `{split}/images`, the split folders are outside. Links to
folders are followed. Without images for val, a tenth of train becomes val; test is never touched
for that. With `splits` the folders hold no split folders, and the splits are drawn; `groups` and
`near_duplicates` say which images stay on one side of a drawn split.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.format import counted
from benchmark.data.audit.near_duplicates import Alike
from benchmark.data.audit.twins import MOST, Progress, twins, twins_of
from benchmark.data.base import IGNORE, SPLITS, Finding, Split, grouped
from benchmark.data.custom.described import DescribedBenchmark
from benchmark.data.custom.description import LABELS, Description
from benchmark.data.custom.grouping import (
    draw,
    links_of,
    named_groups,
    stated_groups,
    together,
)
from benchmark.data.custom.legend import Legend, find_legend
from benchmark.data.files import OWN, read_with
from benchmark.data.pixels import depth

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")

SPLIT = "{split}"
"""In `images` and `masks` of a description: where the name of the split stands, if not last."""

TWINS = "files of the same name"
"""How the fault of files that differ in their suffix only begins."""

OTHER_NAMES = ("training", "valid", "validation", "testing")
"""What folders of splits are also called."""

PICTURE_SUFFIXES = (*IMAGES, ".webp", ".gif", ".heic", ".heif", ".avif", ".jp2", ".npy", ".npz")
"""Suffixes of files that somebody may believe to be used."""


class ImageFolder(DescribedBenchmark):
    """Images and labels below a folder of the user's.

    Images without a label, labels without an image and files of one name are `faults`.

    Attributes:
        stems: path of each image, by id, below the folder of its split, without suffix.

    Raises:
        DataError: the folder, or its train or test images, are missing, or no image has a label.
    """

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.path = _folder(self.description, self.home)
        if not self.path.is_dir():
            raise DataError(
                f"{self.name}: the folder {self.path} is missing; create it, or correct `folder`, "
                "which is relative to the YAML file"
            )
        self._refuse_missing()
        self._files: dict[str, tuple[Path, Path]] = {}
        self.stems: dict[str, str] = {}
        self._faults: dict[str, tuple[list[str], str]] = {}
        if self.description.splits:
            self._refuse_divided()
            self._ids = self._drawn(self._pair(""), self.description.splits)
            return
        self._ids = {split: self._pair(split) for split in SPLITS}
        if not self._ids["val"]:
            train = self._ids["train"]
            self._ids["train"], self._ids["val"] = self.carved(train, self._links(train))
        elif fields := _TOGETHER & self.description.model_fields_set:
            raise DataError(
                f"{self.name}: {' and '.join(sorted(fields))} would have no effect, because "
                f"{self.path} has folders for train, val and test; leave {_it(fields)} out"
            )

    @classmethod
    def label_folder(cls) -> Path | None:
        """The folder that holds the labels and no images; None where there is none such."""
        said = cls.description
        if SPLIT in said.masks or said.masks in (".", said.images):
            return None
        return _folder(said, cls.home) / said.masks

    @classmethod
    def source(cls, description: Description, home: Path) -> str:
        """The folder."""
        return str(_folder(description, home))

    def _refuse_missing(self) -> None:
        for field in ("images", "masks"):
            name = getattr(self.description, field)
            if SPLIT in name or (self.path / name).is_dir():
                continue
            there = sorted(path.name for path in self.path.iterdir() if path.is_dir())
            holds = f"holds {', '.join(there[:5])}" if there else "holds no folders"
            what = "images" if field == "images" else "labels"
            raise DataError(
                f"{self.name}: the folder {self.path / name} of the {what} is missing ({self.path} "
                f"{holds}); create it, or name yours by `{field}`"
            )

    def _refuse_divided(self) -> None:
        images = self.path / self.description.images
        divided = [name for name in (*SPLITS, *OTHER_NAMES) if (images / name).is_dir()]
        if len(divided) > 1:
            raise DataError(
                f"{self.name}: {images} is divided into {', '.join(divided)}, which `splits` would "
                "mix; leave `splits` out, and name the folders train, val and test"
            )

    def _drawn(self, ids: list[str], shares: tuple[float, float, float]) -> dict[Split, list[str]]:
        groups = together(ids, self._links(ids))
        parts = draw(groups, shares)
        for split, members in parts.items():
            if not members:
                what = f"{len(ids)} images"
                what += f" in {len(groups)} groups" if len(groups) < len(ids) else ""
                raise DataError(
                    f"{self.name}: {what} are too few for a {split} split of "
                    f"{shares[SPLITS.index(split)]:g}; add images, or write other `splits`"
                    + (" or `groups`" if len(groups) < len(ids) else "")
                )
        return parts

    def _links(self, ids: list[str]) -> list[tuple[str, str]]:
        """Pairs of ids that the description keeps together where a split is drawn.

        Raises:
            DataError: an image is in no group.
        """
        said, links = self.description, list[tuple[str, str]]()
        if said.groups is not None:
            stems = [self.stems[id] for id in ids]
            try:
                groups = stated_groups(said.groups, self.home, stems, self.stems.values())
            except DataError as error:
                raise DataError(f"{self.name}: {error}") from error
            links += links_of({id: groups[self.stems[id]] for id in ids})
        if said.near_duplicates:
            links += self.twins().links
        return links

    def twins(self, progress: Progress | None = None) -> Alike:
        """Which images of all splits are the same, or nearly so; see `twins_of`."""
        files = {id: self._files[id][:1] for id in sorted(self._files)}
        meaning = f"{self.description.bands}{self.description.range}"
        return twins(
            files, lambda id: read_with(files[id][0], OWN, self.image_of), meaning, progress
        )

    def lone_group(self) -> str:
        """That all test images are of one group; empty where they are not, or none are stated."""
        ids, said = self._ids["test"], self.description
        if said.groups is None or len(ids) < 2:
            return ""
        try:
            stems = [self.stems[id] for id in ids]
            known = self.stems.values()
            groups = set(stated_groups(said.groups, self.home, stems, known).values())
        except DataError:  # of a test folder of its own, whose names may have another form
            return ""
        if len(groups) > 1:
            return ""
        return (
            f"all {len(ids)} test images are of one group ({groups.pop()}), so the scores and "
            "their intervals say nothing about other groups"
        )

    def near_fix(self) -> str:
        """What keeps images that look nearly the same on one side; empty = splits are folders."""
        if self.description.splits is None or self.description.near_duplicates:
            return ""
        return (
            "write `near_duplicates: together` in the YAML file, so that each such pair is drawn "
            "into one split, or `groups` if names tell which images are of one scene"
        )

    def _pair(self, split: Split | Literal[""]) -> list[str]:
        """Ids of the images in a split's folder, or in the whole one, each with its label."""
        inside, beside = (
            self.path / (name.replace(SPLIT, split) if SPLIT in name else f"{name}/{split}")
            for name in (self.description.images, self.description.masks)
        )
        template = self.description.labels.files
        labels, twin_labels = _by_stem(beside, *_divided(template))
        used = {*labels.values(), *twin_labels}
        images, twin_images = _by_stem(inside, "{stem}", IMAGES, used)
        for same, first in ((twin_images, images), (twin_labels, labels)):
            self._add_fault(TWINS, same, "rename or remove one", first)
        if bare := sorted(images.keys() - labels.keys()):
            cases = {images[stem]: stem for stem in bare}
            self._add_fault("images without a label", cases, _fix(bare, beside, template))
        if stray := sorted(labels.keys() - images.keys()):
            self._add_fault(
                "labels without an image",
                {labels[stem]: stem for stem in stray},
                f"put it at {inside / stray[0]}.jpg (or another of {', '.join(IMAGES)}), or remove "
                "the label",
            )
        paired = sorted(images.keys() & labels.keys())
        if not paired and split != "val":
            for fault in self.faults():  # the first; the others follow from it
                raise DataError(f"{self.name}: {fault.what}; {fault.fix}")
            raise DataError(
                f"{self.name}: there are no images in {inside}; create it with the {split} "
                f"images ({', '.join(IMAGES)}), and {beside} with their labels ({template})"
                + ("" if SPLIT in self.description.images else self._undivided(split))
            )
        before = f"{split}/" if split else ""
        ids = {f"{before}{stem}": stem for stem in paired}
        self._files |= {id: (images[stem], labels[stem]) for id, stem in ids.items()}
        self.stems |= ids
        return list(ids)

    def _undivided(self, split: str) -> str:
        """What to add where the images of a folder are there, but in no split."""
        images = self.path / self.description.images
        if not split or not any(path.suffix.lower() in IMAGES for path in _files(images)):
            return ""
        return f"; or write `splits: [0.6, 0.1, 0.3]` to draw splits from {images} by a fixed seed"

    def _depths(self) -> Iterator[Finding]:
        found: dict[int, list[Path]] = {}
        for image, _ in self._files.values():
            with contextlib.suppress(DataError):  # reading it has reported that
                found.setdefault(read_with(image, OWN, depth), []).append(image)
        if len(found) > 1:
            few = min(found.values(), key=len)
            counted = ", ".join(f"{len(found[bits])} of {bits} bits" for bits in sorted(found))
            yield Finding(
                "warning",
                f"images of different depths: {counted}, such as {few[0]}",
                "save all in one depth: each is scaled by the range of its own"
                + (", or by `range`, which cannot fit both" if self.description.range else ""),
            )

    def _add_fault(
        self, what: str, cases: dict[Path, str], fix: str, firsts: dict[str, Path] | None = None
    ) -> None:
        """Adds the files of a fault, by stem; beside each that of `firsts` with the same stem."""
        told = [
            f"{firsts[stem]} and {path}" if firsts else f"{path}" for path, stem in cases.items()
        ]
        if told:
            self._faults.setdefault(what, ([], fix))[0].extend(told)

    def faults(self) -> Iterator[Finding]:
        """See `Benchmark.faults`: files that make no pair."""
        for what, (cases, fix) in self._faults.items():
            yield from grouped("serious", what, cases, fix)

    def ids(self, split: Split) -> list[str]:
        """Ids such as `train/street/0001`; those of a carved val begin with `train/`."""
        return list(self._ids[split])

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        pixels = read_with(image, OWN, self.image_of)
        return pixels, self.decode(read_with(label, OWN, self.stored_in), id, pixels.shape)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self._files[id]

    def _legend(self) -> Legend | None:
        """The file that names the classes, from which `describe` takes them."""
        stored = [value for value, index in self.description.stored.items() if index != IGNORE]
        colours = [int(value[1:], 16) for value in stored if isinstance(value, str)]
        indices = [value for value in stored if isinstance(value, int)]
        if not stored or (colours and indices):
            return None
        equal = dict.fromkeys(colours or indices, 1)
        found = find_legend(self.path, equal, colours=bool(colours))
        return found if found and set(found.names.values()) <= set(self.classes) else None

    def oddities(self) -> Iterator[Finding]:
        """See `Benchmark.oddities`: lone groups, files that are not used, depths that differ."""
        if lone := self.lone_group():
            yield Finding(
                "warning",
                lone,
                "add images of other groups, or give test a larger share in `splits`",
            )
        if self.description.splits and self.description.groups is None:
            named = named_groups(list(self.stems.values()))
            if named is not None:
                yield Finding(
                    "note",
                    f"names seem to tell {len(named.groups)} groups, such as {named.largest}, and "
                    "splits are drawn across them: scores speak of new images of these groups",
                    "nothing, if these are what the result is for; for new groups, write "
                    f"groups: {json.dumps(named.form)}",
                )
        yield from self._depths()
        used = {os.path.realpath(path) for pair in self._files.values() for path in pair}
        if legend := self._legend():
            used.add(os.path.realpath(legend.path))
        left = [
            path
            for path in files_below(self.path)
            if os.path.realpath(path) not in used and path.suffix.lower() not in (".yaml", ".yml")
        ]
        if left:
            kinds = Counter(path.suffix.lower() or "no suffix" for path in left)
            names = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
            pictures = [path for path in left if path.suffix.lower() in PICTURE_SUFFIXES]
            first = min(pictures or left)
            yield Finding(
                "warning" if pictures else "note",
                f"{counted(len(left), 'file')} in {self.path} "
                f"{'is' if len(left) == 1 else 'are'} not used ({names}), such as "
                f"{first.relative_to(self.path)}",
                f"nothing, if they are not meant to be; images ({', '.join(IMAGES)}) belong in "
                + (
                    self.description.images
                    if self.description.splits
                    else "images/train, images/val and images/test"
                ),
            )


@twins_of.register
def _twins_of_folder(benchmark: ImageFolder, progress: Progress | None = None) -> Alike | None:
    return benchmark.twins(progress) if len(benchmark.stems) <= MOST else None


_TOGETHER = {"groups", "near_duplicates"}
"""Fields that say which images stay together where a split is drawn."""


def _it(several: Collection[str]) -> str:
    return "it" if len(several) == 1 else "them"


def _folder(description: Description, home: Path) -> Path:
    return home / Path(description.folder or ".").expanduser()


def files_below(folder: Path) -> Iterator[Path]:
    """Files below a folder but for hidden ones, also in linked folders; each is walked once.

    A link to a folder that holds this one leads back, and is not followed.
    """
    waiting, links = [folder], list[Path]()
    root = Path(os.path.realpath(folder))
    seen = {str(parent) for parent in root.parents}
    while waiting or links:
        # Links last: a folder that is also there itself keeps its own name.
        here = waiting.pop() if waiting else links.pop(0)
        try:
            real = os.path.realpath(here)
            if real in seen:
                continue
            seen.add(real)
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            continue  # it may not be listed; what it holds will be missed
        for entry in entries:
            # File managers and archives leave hidden ones, which nobody means.
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield Path(entry.path)
            elif entry.is_symlink():
                links.append(Path(entry.path))
            else:
                waiting.append(Path(entry.path))


def _divided(template: str) -> tuple[str, tuple[str, ...]]:
    """A name of files without its suffix, and the suffixes that it allows."""
    return template[: -len(Path(template).suffix)], (Path(template).suffix.lower(),)


def files_by_stem(
    folder: Path,
    name: str = "{stem}",
    suffixes: Collection[str] = IMAGES,
    but: Collection[Path] = (),
) -> dict[str, Path]:
    """Files with a name around `{stem}`, by their relative path of which only the stem is left.

    Args:
        folder: in which they are.
        name: of a file without its suffix.
        suffixes: that it may have.
        but: files that are something else.

    Raises:
        DataError: two files differ in their suffix only.
    """
    found, twins = _by_stem(folder, name, suffixes, but)
    for path, stem in twins.items():
        raise DataError(f"{found[stem]} and {path} have the same name; rename or remove one")
    return found


def _by_stem(
    folder: Path, name: str, suffixes: Collection[str], but: Collection[Path] = ()
) -> tuple[dict[str, Path], dict[Path, str]]:
    """As `files_by_stem`; files that differ from one of these in their suffix only are second."""
    before, after = name.split("{stem}")
    found: dict[str, Path] = {}
    twins: dict[Path, str] = {}
    for path in sorted(files_below(folder)):
        if path in but:
            continue
        inside = path.relative_to(folder)
        fits = path.stem.startswith(before) and path.stem.endswith(after)
        own = path.stem[len(before) : len(path.stem) - len(after)]
        if path.suffix.lower() not in suffixes or not fits or not own:
            continue
        stem = inside.with_name(own).as_posix()
        if stem in found:
            twins[path] = stem
        else:
            found[stem] = path
    return found, twins


def _fix(bare: list[str], labels: Path, template: str) -> str:
    """What to do about images without a label: a file of a similar name may be there.

    Args:
        bare: images without a label, by stem.
        labels: the folder of the labels.
        template: what labels are called.
    """
    first = labels / bare[0]
    wanted = first.with_name(template.replace("{stem}", first.name))
    near = [path for path in _files(first.parent) if first.name in path.name]
    if not near:
        return f"put it at {wanted}, or remove the image"

    def score(path: Path) -> tuple[int, bool, int]:
        """How many labels are called alike, as of `p1` and `p10` only one is."""
        names = [(labels / stem) for stem in bare[:100]]
        alike = [name.with_name(path.name.replace(first.name, name.name, 1)) for name in names]
        count = sum(other.exists() for other in alike)
        return count, path.suffix.lower() in LABELS, -len(path.name)

    best = max(near, key=score)
    call = best.name.replace(first.name, "{stem}", 1)
    if best.suffix.lower() in LABELS:
        return f"{best} exists: if it is the label, write `labels: {call!r}` in the YAML file"
    if best.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        return (
            f"{best} exists, but its compression changes the values of labels: export labels as PNG"
        )
    return f"{best} exists, but labels may be {', '.join(LABELS)}: convert it to PNG"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
