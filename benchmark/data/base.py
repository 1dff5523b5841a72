"""What a benchmark is, and the checks that every example passes before training starts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, TypeVar

import numpy as np

from benchmark.core.errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IGNORE = 255
"""Label value of pixels that count nowhere; every loader maps its own void to it."""


@dataclass(frozen=True)
class Example:
    """One image with its labels, as decoded.

    Attributes:
        id: unique and stable within the benchmark.
        image: (H, W, C) uint8; C = 3 is RGB.
        label: (H, W) uint8, class index or 255.
    """

    id: str
    image: np.ndarray
    label: np.ndarray


Severity = Literal["serious", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a set, or worth knowing.

    Attributes:
        severity: serious: results on this set would be wrong; warning: they need care; note: good
            to know.
        what: what was found and where, on one line.
        fix: what to do about it, on one line.
    """

    severity: Severity
    what: str
    fix: str


EXAMPLES = 3
"""How many cases a finding names; the others are counted."""


def grouped(severity: Severity, what: str, cases: Sequence[str], fix: str) -> Iterator[Finding]:
    """One finding for all cases of a kind, which names the first few; none if there is no case."""
    if cases:
        more = f"; and {len(cases) - EXAMPLES} more" if len(cases) > EXAMPLES else ""
        yield Finding(severity, f"{what} ({len(cases)}): {'; '.join(cases[:EXAMPLES])}{more}", fix)


class LabelFault(DataError):
    """A label does not fit its image or the classes.

    Args:
        kind: `size`: it has another size than its image; `blended`: its edges were smoothed;
            `value`: it stores a value that is no class.
        where: the label.
        what: is wrong with it, after "the label".
        fix: what its owner can do.
    """

    def __init__(
        self, kind: Literal["size", "blended", "value"], where: str, what: str, fix: str
    ) -> None:
        super().__init__(f"{where}: {what}; {fix}")
        self.kind, self.where, self.what, self.fix = kind, where, what, fix

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.where, self.what, self.fix)


@dataclass(frozen=True)
class Source:
    """One file to download.

    Attributes:
        url: http or https.
        to: folder below the data root where the archive is unpacked, or a plain file is put.
        inside: folder within the archive whose content is taken, `*` for one component of any
            name; empty = everything.
        checksum: `sha256:<hex>`, or `md5:<hex>` where the origin publishes only that; empty =
            not known.
        bytes: roughly, for the forecast; 0 = not known.
    """

    url: str
    to: str
    inside: str = ""
    checksum: str = ""
    bytes: int = 0


class Benchmark(ABC):
    """A segmentation task with fixed splits.

    Class attributes:
        name: what users type; set by `register`.
        title: one line for people.
        domain: driving, aerial, ...
        classes: names; the label value is the index.
        channels: of an image; 3 = RGB.
        metric: what the field reports: `iou`, or `dice`, which is then given beside mIoU.
        folder: folder below the data root in its origin layout; None = not there: it is generated,
            or a user's own.
        origin: where the files come from, and how to get them.
        licence: licence of the data.
        citation: how to cite it.
        colours: `#RRGGBB` of each class, as its makers draw it; empty = PASCAL VOC's colour map.
        sources: what `data prepare` downloads; empty = nothing, or `manual` says why.
        version: of what a user's description says; runs of different versions are different runs.
        manual: what a person has to fetch, from where, and where to put it, on one line.

    Args:
        root: the data root (`BENCHMARK_DATA`); None for generated benchmarks.

    Raises:
        DataError: the folder or a file that the layout needs is missing.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str]
    domain: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    channels: ClassVar[int] = 3
    metric: ClassVar[Literal["iou", "dice"]] = "iou"
    folder: ClassVar[str | None] = None
    origin: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str] = ""
    colours: ClassVar[tuple[str, ...]] = ()
    sources: ClassVar[tuple[Source, ...]] = ()
    version: ClassVar[str] = ""
    manual: ClassVar[str] = ""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root

    @abstractmethod
    def ids(self, split: Split) -> list[str]:
        """Ids of a split, in a fixed order; the three splits share none."""

    @abstractmethod
    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, channels) uint8 and label (H, W) uint8 with 255 = void, at native size.

        Raises:
            DataError: a file is missing, truncated, or not what the layout promises.
        """

    def files(self, id: str) -> tuple[Path, ...]:
        """The files that `read` opens for an example, its label last.

        None if there are no files, or nothing is known of them: then examples are cached only if
        `fingerprint` says what they depend on.
        """
        return ()

    def opened(self, id: str) -> list[BinaryIO]:
        """What `read` decodes, as open files, its label last; to be closed by who asks."""
        return [path.open("rb") for path in self.files(id)]

    def where(self, id: str) -> str:
        """Where the example comes from (its label file), for error messages."""
        files = self.files(id)
        return str(files[-1]) if files else f"{self.name}/{id}"

    @property
    def fingerprint(self) -> str:
        """Of anything that decides the examples besides ids, `files` and code; empty if nothing."""
        return ""

    def faults(self) -> Iterator[Finding]:
        """Serious faults of the set as a whole that show without reading an example.

        An audit lists them; whatever else opens the set refuses it.
        """
        yield from ()

    def oddities(self) -> Iterator[Finding]:
        """What an audit of this very set should look at besides what it checks in all sets."""
        yield from ()

    def absent_fix(self, names: Sequence[str], has_void: bool) -> str:
        """What to do about classes that no pixel of a split has; empty = nothing special.

        Args:
            names: of the classes.
            has_void: whether a pixel of the split is void.
        """
        return ""

    def scale(self, height: int, width: int) -> float:
        """Factor by which the network sees an image of this native size resized; 1 = as it is.

        Labels of evaluated images keep their native size.
        """
        return 1.0


BENCHMARKS: dict[str, type[Benchmark]] = {}

B = TypeVar("B", bound=type[Benchmark])


def register(name: str) -> Callable[[B], B]:
    """Class decorator: makes a benchmark selectable under `name`."""

    def add(cls: B) -> B:
        if name in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} is registered twice")
        cls.name = name
        BENCHMARKS[name] = cls
        return cls

    return add


def require_sound(benchmark: Benchmark) -> None:
    """Refuses a set with faults.

    Raises:
        DataError: names every kind of fault, on one line.
    """
    if faults := [f"{fault.what}; {fault.fix}" for fault in benchmark.faults()]:
        raise DataError(f"{benchmark.name}: {'. '.join(faults)}")


def read_example(benchmark: Benchmark, id: str) -> Example:
    """Reads an example and checks what every example must keep.

    Raises:
        DataError: it cannot be read; image and label differ in size; the image has other channels
            than the benchmark; a label is out of range.
    """
    try:
        image, label = benchmark.read(id)
    except OSError as error:
        where = benchmark.where(id)
        raise DataError(f"{where} cannot be read ({error}); restore the file") from error
    if image.ndim != 3 or image.shape[2] != benchmark.channels:
        raise DataError(
            f"{benchmark.where(id)}: the image has the shape {image.shape}, but {benchmark.name} "
            f"promises (H, W, {benchmark.channels}); fix `read` of the benchmark"
        )
    if image.shape[:2] != label.shape:
        raise size_mismatch(benchmark.where(id), label.shape, image.shape)
    bad = (label >= len(benchmark.classes)) & (label != IGNORE)
    if bad.any():
        raise DataError(
            f"{benchmark.where(id)}: label value {int(label[bad][0])} is out of range; "
            f"{benchmark.name} has classes 0..{len(benchmark.classes) - 1} and void"
        )
    return Example(id, image, label)


def size_mismatch(where: str, label: Sequence[int], image: Sequence[int]) -> LabelFault:
    """What to say of a label that has another size than its image.

    Args:
        where: the label.
        label: its shape, height and width first.
        image: that of its image.
    """
    what = f"the label is {label[1]}x{label[0]} px but its image is {image[1]}x{image[0]}"
    return LabelFault("size", where, what, "restore the original pair")


_SEALED: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def seal_test() -> Iterator[None]:
    """Inside the block the test split cannot be opened: what selects settings runs in it."""
    token = _SEALED.set(True)
    try:
        yield
    finally:
        _SEALED.reset(token)


def check_seal(name: str, split: Split) -> None:
    """Asked by all that hands out the examples of a split.

    Args:
        name: of the benchmark.
        split: that is to be opened.

    Raises:
        RuntimeError: it is sealed.
    """
    if split == "test" and _SEALED.get():
        raise RuntimeError(f"{name}: the test split is sealed for runs that select settings")


def carve(
    ids: Sequence[str],
    fractions: tuple[float, float, float],
    strata: Mapping[str, Hashable] | None = None,
    seed: int = 0,
) -> dict[Split, list[str]]:
    """Splits ids that come without official splits, by a fixed seed, within each stratum.

    Args:
        ids: all ids.
        fractions: of train, val and test; they sum to 1.
        strata: stratum of each id; None = one stratum.
        seed: of the permutation; part of the benchmark's definition, not of a run.

    Returns:
        Sorted ids per split.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[str]] = {}
    for id in sorted(ids):
        groups.setdefault(str(strata[id]) if strata else "", []).append(id)
    out: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for key in sorted(groups):
        members = groups[key]
        order = [members[i] for i in rng.permutation(len(members))]
        first = round(fractions[0] * len(order))
        second = first + round(fractions[1] * len(order))
        out["train"] += order[:first]
        out["val"] += order[first:second]
        out["test"] += order[second:]
    return {split: sorted(members) for split, members in out.items()}
