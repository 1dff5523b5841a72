"""What is in a benchmark, and what is wrong with it: one pass over all its examples."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.core.errors import DataError, UserError, on_one_line
from benchmark.core.spec import Suite
from benchmark.data.audit.near_duplicates import Alike, Seen, alike, copies, look, near_copies
from benchmark.data.audit.padding import find_padding, seen_size
from benchmark.data.audit.presence import RARE, SELDOM, classes_found, small_range
from benchmark.data.base import (
    EXAMPLES,
    IGNORE,
    SPLITS,
    Benchmark,
    Finding,
    LabelFault,
    Severity,
    Split,
    grouped,
    size_mismatch,
)
from benchmark.data.custom.described import DescribedBenchmark
from benchmark.data.custom.folder import ImageFolder
from benchmark.data.examples import digests_of, levels_of
from benchmark.data.palette import as_rgb
from benchmark.data.pixels import orientation

if TYPE_CHECKING:
    from rich.console import Group

Progress = Callable[[int, int], None]
"""Called with the number of examples read, and of all."""

DARK, BRIGHT, NEARLY = 16, 239, 0.99
"""An image is nearly black if this share of its values is below the first, or above: white."""


DOMINANT = 0.8
"""Share of the pixels from which on one class hides how the others do."""

UNLIKE = 3.0
"""Ratio of the shares of a class in two splits from which on they are called unlike."""

MUCH = 0.02
"""Share of void from which on it may be a class that was forgotten."""


@dataclass
class SplitSummary:
    """What a split holds.

    Attributes:
        images: number of ids.
        read: number of examples that could be read.
        pixels: (K,) int64, pixels of each class.
        void: number of void pixels.
        holding: (K,) int64, images that hold the class.
        holding_void: number of images that hold void.
    """

    images: int
    read: int
    pixels: np.ndarray
    void: int
    holding: np.ndarray
    holding_void: int = 0

    @property
    def shares(self) -> np.ndarray:
        """(K,) share of each class among the labelled pixels; 0 if none is labelled."""
        return self.pixels / max(self.pixels.sum(), 1)

    @property
    def void_share(self) -> float:
        """Share of void among all pixels."""
        return self.void / max(self.void + int(self.pixels.sum()), 1)


@dataclass(frozen=True)
class ImageSummary:
    """What the images of all splits look like.

    Attributes:
        widths: smallest, median and largest width in pixels; zeros if no image could be read.
        heights: the same of the height.
        mean: of the channels (R, G, B) over all pixels, 0..255.
        std: of the channels over all pixels.
        grey: images whose channels are equal.
        dark: nearly black images.
        bright: nearly white images.
        constant: images of one colour; not counted as dark or bright.
    """

    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey: int
    dark: int
    bright: int
    constant: int


class AlikePair(NamedTuple):
    """Two images that are the same, or nearly so.

    Attributes:
        first_split, first, second_split, second: their splits and ids.
        likeness: correlation of their structure, up to 1; 1 = equal in every pixel.
    """

    first_split: Split
    first: str
    second_split: Split
    second: str
    likeness: float


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        benchmark: its name.
        classes: its class names.
        splits: summary of each split.
        images: summary of all images.
        findings: the most severe first.
        pairs: of images that are the same, or nearly so, the most alike first.
    """

    benchmark: str
    classes: tuple[str, ...]
    splits: dict[Split, SplitSummary]
    images: ImageSummary
    findings: tuple[Finding, ...]
    pairs: tuple[AlikePair, ...] = ()

    @property
    def serious(self) -> bool:
        """Whether anything found would make results wrong."""
        return any(finding.severity == "serious" for finding in self.findings)


def audit(
    benchmark: Benchmark, progress: Progress | None = None, suite: Suite | None = None
) -> Audit:
    """Reads every example of every split once, and continues after any problem.

    Keeps about 5 KB of each image. Comparing 20,000 images takes about 20 s besides reading them.

    Args:
        benchmark: what to read.
        progress: called after each example.
        suite: whose crop is compared with the size of the images; None = none is.
    """
    tally = _Tally(benchmark)
    listed = [(split, id) for split in SPLITS for id in tally.ids(split)]
    for done, (split, id) in enumerate(listed, 1):
        tally.read(split, id)
        if progress:
            progress(done, len(listed))
    found = alike((seen.id, seen.image, seen.look) for seen in tally.seen)
    findings = [*benchmark.faults(), *tally.findings(found), *_oddities(benchmark)]
    findings += tally.padding(suite) if suite else ()
    order: dict[Severity, int] = {"serious": 0, "warning": 1, "note": 2}
    return Audit(
        benchmark.name,
        tuple(benchmark.classes),
        tally.splits,
        tally.images(),
        tuple(sorted(findings, key=lambda finding: order[finding.severity])),
        tuple(_pairs(found, {seen.id: seen.split for seen in tally.seen})),
    )


def _pairs(found: Alike, split_of: dict[str, Split]) -> Iterator[AlikePair]:
    equal = [(group[0], other, 1.0) for group in found.equal for other in group[1:]]
    for one, other, likeness in (*equal, *found.near):
        yield AlikePair(split_of[one], one, split_of[other], other, likeness)


def write_pairs(path: Path, audits: Sequence[Audit]) -> int:
    """Writes all pairs of images that are the same, or nearly so, as CSV; their number.

    Raises:
        UserError: the file cannot be written.
    """
    rows = [(found.benchmark, *pair) for found in audits for pair in found.pairs]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("benchmark", *AlikePair._fields), *rows])
    except OSError as error:
        raise UserError(
            f"--pairs {path}: it cannot be written ({error.strerror}); name another file"
        ) from error
    return len(rows)


def _oddities(benchmark: Benchmark) -> Iterator[Finding]:
    try:
        yield from benchmark.oddities()
    except Exception as error:
        yield Finding(
            "warning",
            f"the set's own checks could not be run: {_told(error)}",
            "fix what the message says, then audit again",
        )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, DataError) else on_one_line(error)


@dataclass
class _Tally:
    """Sums over the examples read, and the cases of each problem by its kind."""

    benchmark: Benchmark
    splits: dict[Split, SplitSummary] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    cases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    values: np.ndarray = field(init=False)
    levels: list[tuple[int, int]] = field(default_factory=list)
    grey: int = 0
    owner: dict[str, Split] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    fixes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = np.zeros((self.benchmark.channels, 256), dtype=np.int64)

    def ids(self, split: Split) -> Sequence[str]:
        """The ids of a split, each once."""
        none = np.zeros(len(self.benchmark.classes), dtype=np.int64)
        summary = self.splits[split] = SplitSummary(0, 0, none.copy(), 0, none.copy())
        ids: list[str] = []
        try:
            listed = self.benchmark.ids(split)
        except Exception as error:
            self.cases["unlisted"].append(f"{split}: {_told(error)}")
            return ids
        for id in listed:
            if id in self.owner:
                self.cases["listed twice"].append(f"{id} ({self.owner[id]} and {split})")
            else:
                self.owner[id] = split
                ids.append(id)
        summary.images = len(listed)
        if not listed:
            self.cases["empty split"].append(split)
        return ids

    def read(self, split: Split, id: str) -> None:
        """Reads and counts one example."""
        try:
            image, label = self.benchmark.read(id)
        except LabelFault as fault:
            kind = f"label {fault.kind}"
            self.cases[kind].append(f"{fault.where} ({fault.what})")
            self.fixes.setdefault(kind, fault.fix)
            return
        except Exception as error:
            self._count_unreadable(id, error)
            return
        if not _is(image, 3) or image.shape[2] != self.benchmark.channels or not _is(label, 2):
            self.cases["malformed"].append(
                f"{self.benchmark.where(id)} (image {_kind(image)}, label {_kind(label)})"
            )
            return
        self.splits[split].read += 1
        self._count_label(split, id, label)
        self._count_image(split, id, image, label)
        self._look_for_turns(split, id)

    def _count_unreadable(self, id: str, error: Exception) -> None:
        """Counts files of one fault together: a message is its file, what is wrong, and the fix."""
        told = _told(error)
        for path in self.benchmark.files(id):
            if told.startswith(f"{path} "):
                what, _, fix = told.removeprefix(f"{path} ").partition("; ")
                kind = f"{_UNREADABLE}: a file {what}"
                self.cases[kind].append(str(path))
                self.fixes.setdefault(kind, fix)
                return
        self.cases[_UNREADABLE].append(told)

    def _look_for_turns(self, split: Split, id: str) -> None:
        *images, label = _orientations(self.benchmark, id) or [1]
        if label != 1:
            self.cases["turned label"].append(f"{split} {id} (orientation {label})")
        for turn in images:
            if turn != 1:
                self.cases["turned"].append(f"{split} {id} (orientation {turn})")

    def _count_label(self, split: Split, id: str, label: np.ndarray) -> None:
        summary, n = self.splits[split], len(self.benchmark.classes)
        pixels = np.bincount(label.ravel(), minlength=256)
        summary.pixels += pixels[:n]
        summary.holding += pixels[:n] > 0
        summary.void += int(pixels[IGNORE])
        summary.holding_void += bool(pixels[IGNORE])
        bad = n + np.flatnonzero(pixels[n:IGNORE])
        if len(bad):
            values = ", ".join(map(str, bad[:EXAMPLES]))
            more = f" and {len(bad) - EXAMPLES} more" if len(bad) > EXAMPLES else ""
            word = "values" if len(bad) > 1 else "value"
            self.cases["out of range"].append(f"{self.benchmark.where(id)} ({word} {values}{more})")
        elif pixels[IGNORE] == label.size:
            self.cases["all void"].append(f"{split} {id}")

    def _count_image(self, split: Split, id: str, image: np.ndarray, label: np.ndarray) -> None:
        if image.shape[:2] != label.shape:
            fault = size_mismatch(self.benchmark.where(id), label.shape, image.shape)
            self.cases["label size"].append(f"{fault.where} ({fault.what})")
        channels = np.moveaxis(image, -1, 0)
        values = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])
        self.values += values
        self.levels.append(levels_of(image))
        self.grey += bool((image[..., :1] == image).all())
        constant = bool((np.count_nonzero(values, axis=1) == 1).all())
        if constant:
            self.cases["constant"].append(f"{split} {id}")
        elif values[:, :DARK].sum() >= NEARLY * image.size:
            self.cases["dark"].append(f"{split} {id}")
        elif values[:, BRIGHT + 1 :].sum() >= NEARLY * image.size:
            self.cases["bright"].append(f"{split} {id}")
        described = None if constant else look(as_rgb(image))
        self.sizes.append(image.shape[:2])
        first, second = digests_of(image, label)
        self.seen.append(Seen(split, id, first.tobytes(), second.tobytes(), described))

    def images(self) -> ImageSummary:
        """Summary of all images read."""
        sizes = np.array(self.sizes or [(0, 0)])
        low, middle, high = sizes.min(0), np.median(sizes, axis=0), sizes.max(0)
        count = np.maximum(self.values.sum(1), 1)
        mean = self.values @ np.arange(256) / count
        variance = self.values @ np.arange(256) ** 2 / count - mean**2
        return ImageSummary(
            widths=(int(low[1]), int(middle[1]), int(high[1])),
            heights=(int(low[0]), int(middle[0]), int(high[0])),
            mean=tuple(mean.tolist()),
            std=tuple(np.sqrt(variance.clip(min=0)).tolist()),
            grey=self.grey,
            dark=len(self.cases["dark"]),
            bright=len(self.cases["bright"]),
            constant=len(self.cases["constant"]),
        )

    def findings(self, found: Alike) -> Iterator[Finding]:
        """What was found in the examples read, and in comparing them."""
        for kind, (severity, what, fix) in _KINDS.items():
            yield from grouped(severity, what, self.cases[kind], self.fixes.get(kind) or fix)
        for kind, cases in self.cases.items():
            if kind.startswith(_UNREADABLE):
                yield from grouped("serious", kind, cases, self.fixes.get(kind) or _AS_TOLD)
        yield from self._classes()
        yield from self._void()
        yield from small_range(np.array(self.levels), "the set")
        if 0 < self.grey < len(self.seen):
            yield Finding(
                "note",
                f"{self.grey} of {len(self.seen)} images are grey, the others in colour",
                "nothing, if they were taken like that; else download the originals",
            )
        yield from copies(self.seen)
        fix = self.benchmark.near_fix() if isinstance(self.benchmark, ImageFolder) else ""
        yield from near_copies(self.seen, found, fix)

    def _void(self) -> Iterator[Finding]:
        """Much of 255 that nobody called void."""
        if not isinstance(self.benchmark, DescribedBenchmark):
            return
        occurs = self.splits["train"].pixels > 0
        absent = [n for n, there in zip(self.benchmark.classes, occurs, strict=True) if not there]
        if self.benchmark.absent_fix(absent, has_void=True):
            return  # which names the class that 255 may be
        some = self.splits.values()
        void, read = sum(s.void for s in some), sum(s.read for s in some)
        share = void / max(void + sum(int(s.pixels.sum()) for s in some), 1)
        holding, fix = sum(s.holding_void for s in some), self.benchmark.void_fix()
        if fix and share >= MUCH and 2 * holding > read:
            much = f"{_percent(share)} of the pixels, in {holding} of {read} images"
            yield Finding("warning", f"255 counts as void: {much}", fix)

    def padding(self, suite: Suite) -> Iterator[Finding]:
        """What the crop of a suite is too large for."""
        pairs = zip(self.sizes, self.seen, strict=True)
        sizes = [seen_size(self.benchmark, *size) for size, one in pairs if one.split == "train"]
        found = find_padding(np.array(sizes), suite.protocol.crop)
        if found is not None:
            what, fix = found.what(f" of suite {suite.name}"), found.fix
            yield Finding("warning", what, f"{fix} to `plan` and `run`" if found.fitting else fix)

    def _classes(self) -> Iterator[Finding]:
        names = np.array(self.benchmark.classes)
        for split, summary in self.splits.items():
            if not summary.pixels.any():
                if summary.read:
                    yield Finding(
                        "serious",
                        f"no pixel of the {split} split belongs to a class",
                        "check the label values",
                    )
                continue
            occurs = np.flatnonzero(summary.pixels)
            yield from classes_found(self.benchmark, split, occurs, bool(summary.void))
        holding = np.sum([summary.holding for summary in self.splits.values()], axis=0)
        yield from grouped(
            "warning",
            "classes in fewer than 2 images of the whole set",
            names[holding == 1].tolist(),
            "merge the class with a related one, or ignore its IoU",
        )
        pixels = np.sum([summary.pixels for summary in self.splits.values()], axis=0)
        read = sum(summary.read for summary in self.splits.values())
        seldom = (holding > 1) & (holding <= SELDOM * read)
        rare = np.flatnonzero(seldom & (pixels < RARE * pixels.sum()))
        shares = pixels / max(pixels.sum(), 1)
        if isinstance(self.benchmark, DescribedBenchmark):
            yield from self._unequal(shares)
        yield from grouped(
            "note",
            "classes with few pixels in few images",
            [f"{names[k]} ({_percent(shares[k])} of pixels, {holding[k]} images)" for k in rare],
            "if they are pixels that nobody labelled, make them void; scores weigh a rare class "
            "like any other",
        )

    def _unequal(self, shares: np.ndarray) -> Iterator[Finding]:
        """One class that has nearly all pixels, and splits that hold other shares of a class."""
        names, most = self.benchmark.classes, int(np.argmax(shares))
        if len(names) > 1 and shares[most] >= DOMINANT:
            pairs = zip(names, shares, strict=True)
            others = [f"{n} {_percent(s)}" for k, (n, s) in enumerate(pairs) if k != most]
            yield Finding(
                "note",
                f"{names[most]} has {_percent(shares[most])} of the pixels ({', '.join(others)})",
                "small classes may be missed: compare `--set class_weights=balanced` or `--set "
                "loss=ce+dice` in `run`, and look at the IoU of each class",
            )
        train = self.splits["train"].shares
        for split in ("val", "test"):
            there = self.splits[split]
            unlike = [
                f"{name} ({_percent(a)} of train, {_percent(b)} of {split})"
                for name, a, b in zip(names, train, there.shares, strict=True)
                if there.read and min(a, b) > 0 and max(a, b) > UNLIKE * min(a, b)
            ]
            yield from grouped(
                "note",
                f"classes with another share of the {split} split than of train",
                unlike,
                "a split of few images differs by chance, and so may its scores; more images, or "
                "folders of your own for the splits, help",
            )


def _orientations(benchmark: Benchmark, id: str) -> list[int]:
    """Of the files of an example, its label last; 1 where a file is no image."""
    found: list[int] = []
    try:
        files = benchmark.opened(id)
    except (OSError, ValueError):
        return found  # reading it has reported that
    for file in files:
        with file:
            try:
                found.append(orientation(file))
            except Exception:  # whatever a file that is no image triggers
                found.append(1)
    return found


def _is(values: object, axes: int) -> bool:
    return (
        isinstance(values, np.ndarray)
        and values.dtype == np.uint8
        and values.ndim == axes
        and values.size > 0
    )


def _kind(values: object) -> str:
    if isinstance(values, np.ndarray):
        return f"{values.dtype} {values.shape}"
    return type(values).__name__


_UNREADABLE = "examples that cannot be read"
_AS_TOLD = "do what the message says, for all such files"
_KINDS: dict[str, tuple[Severity, str, str]] = {
    "unlisted": ("serious", "splits that cannot be listed", "fix what the message says"),
    "empty split": (
        "serious",
        "empty splits",
        "check the folder of the images and the lists of the splits",
    ),
    "listed twice": ("serious", "ids listed more than once", "keep the id once, in one split"),
    "malformed": (
        "serious",
        "examples that are not an image (H, W, channels) and a label (H, W) of uint8",
        "fix `read` of the benchmark",
    ),
    "label size": (
        "serious",
        "labels whose size differs from their image's",
        "restore the original pair",
    ),
    "label blended": (
        "serious",
        "labels with blended edges, as resizing or rotating with interpolation makes them",
        "",
    ),
    "label value": ("serious", "labels with values or colours that are no class", ""),
    "out of range": (
        "serious",
        "labels with values that are not a class",
        "map the values to a class or to void (255) in `read`, or fetch the labels again",
    ),
    "all void": (
        "warning",
        "images without a labelled pixel",
        "check the label, or remove the image from its split",
    ),
    "constant": (
        "warning",
        "images of one colour",
        "download the image again, or remove it from its split",
    ),
    "dark": (
        "warning",
        "nearly black images",
        "look at the image; if it is broken, remove it from its split",
    ),
    "bright": (
        "warning",
        "nearly white images",
        "look at the image; if it is broken, remove it from its split",
    ),
    "turned label": (
        "warning",
        "labels with an EXIF orientation, which is not applied",
        "look at the preview; if label and image differ, save the label upright and without EXIF",
    ),
    "turned": (
        "note",
        "images that were turned upright, as their EXIF orientation says",
        "look at the preview; their labels must be drawn on the upright image",
    ),
}


def render(audit: Audit) -> "Group":
    """The audit for the terminal: splits, classes, images, and the findings in full."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{audit.benchmark}: share of the labelled pixels")
    shares = Table(box=None, title=title, title_justify="left")
    shares.add_column("class", overflow="fold")
    for split in audit.splits:
        shares.add_column(split, justify="right")
    shares.add_column("images with it", justify="right")
    for k, name in enumerate(audit.classes):
        cells = [_percent(summary.shares[k]) for summary in audit.splits.values()]
        holding = sum(int(summary.holding[k]) for summary in audit.splits.values())
        shares.add_row(Text(name), *cells, str(holding))
    shares.add_section()
    shares.add_row(
        "void (of all)",
        *(_percent(summary.void_share) for summary in audit.splits.values()),
        str(sum(summary.holding_void for summary in audit.splits.values())),
    )
    shares.add_row(
        "images",
        *(
            f"{s.read}/{s.images}" if s.read != s.images else str(s.images)
            for s in audit.splits.values()
        ),
    )
    images = audit.images
    lines = [
        f"width {images.widths[0]} to {images.widths[2]} px, median {images.widths[1]}; "
        f"height {images.heights[0]} to {images.heights[2]}, median {images.heights[1]}",
        f"mean {_numbers(images.mean)}, standard deviation {_numbers(images.std)} "
        f"({'R G B' if len(images.mean) == 3 else 'of each channel'}, 0..255)",
        f"{images.grey} grey, {images.dark} nearly black, {images.bright} nearly white, "
        f"{images.constant} of one colour",
    ]
    looks = {"serious": "bold red", "warning": "yellow", "note": "cyan"}
    findings = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for finding in audit.findings:
        findings.add_row(
            Text(finding.severity, style=looks[finding.severity]),
            Text(f"{finding.what}\n-> {finding.fix}", overflow="fold"),
        )
    below = findings if audit.findings else Text("nothing found")
    if not any(summary.read for summary in audit.splits.values()):
        return Group(below)  # all numbers would be 0
    return Group(shares, "", *map(Text, lines), "", below)


def _percent(share: float) -> str:
    return "-" if share == 0 else "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)
