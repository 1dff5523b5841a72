"""A user's own set, described in a YAML file (`description.py`): what both kinds of sets share."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.format import counted
from benchmark.data.base import IGNORE, Benchmark, LabelFault, size_mismatch
from benchmark.data.custom.description import Description, Labels, Value
from benchmark.data.custom.grouping import draw, together
from benchmark.data.palette import distinct_colours
from benchmark.data.pixels import (
    Unfit,
    blended,
    image_bytes,
    label_colours,
    label_values,
    orientation,
)

THRESHOLD = 128
"""Grey values from it on are closer to white than to black."""

MOST_VALUES = 8
"""Values that an error spells out; more are numbers of classes gone wrong, or no labels."""

FEW = 2
"""More values of no class in one label may be those of smoothed edges."""

_UNKNOWN = -1
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


class DescribedBenchmark(Benchmark):
    """A benchmark that a YAML file describes; a subclass is made for each file.

    Class attributes:
        description: what the file says.
        home: the folder of the file.
    """

    description: ClassVar[Description]
    home: ClassVar[Path]

    @classmethod
    def attributes(cls, description: Description, home: Path) -> dict[str, Any]:
        """The attributes of the subclass for a description."""
        return {
            "description": description,
            "home": home,
            "title": description.title or description.name,
            "domain": description.domain,
            "classes": tuple(description.classes),
            "metric": description.metric,
            "channels": len(description.bands) if description.bands else 3,
            "colours": description.colours or distinct_colours(list(description.classes)),
            "origin": cls.source(description, home),
            "licence": description.licence,
            "citation": description.citation,
            "version": description.version,
        }

    @classmethod
    def source(cls, description: Description, home: Path) -> str:
        """Where the examples come from, for people."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """See `Benchmark.fingerprint`: what the file says about decoding."""
        return self.version

    def scale(self, height: int, width: int) -> float:
        """See `Benchmark.scale`."""
        side = self.description.shorter_side
        return side / min(height, width) if side else self.description.scale or 1.0

    def image_of(self, file: BinaryIO) -> np.ndarray:
        """An image (H, W, C) uint8 from its file, as the description says; see `image_bytes`."""
        return image_bytes(file, self.description.bands, self.description.range)

    def stored_in(self, file: BinaryIO) -> tuple[np.ndarray, int]:
        """What a label file stores, for `decode`: indices or colours, and the bits of a value."""
        if self.description.labels.kind == "colour":
            return label_colours(file), 8
        return label_values(file) if self.description.threshold is None else (_grey(file), 8)

    def decode(self, stored: tuple[np.ndarray, int], id: str, size: tuple[int, ...]) -> np.ndarray:
        """Class indices (H, W) uint8 with 255 = void.

        Args:
            stored: what `stored_in` found.
            id: of the example, for errors.
            size: of its image, height and width first.

        Raises:
            LabelFault: the label has another size than its image, or a pixel is neither of a class
                nor void.
        """
        values, bits = stored
        known = self.description.stored
        if self.description.labels.kind == "colour":
            found = _colour_classes(values, known)
        else:
            if bits == 1 and 1 not in known and known.get(255, IGNORE) != IGNORE:
                values = values * 255  # one bit: white is the largest value of any depth
            table = np.full(256, _UNKNOWN, np.int16)
            for value, k in known.items():
                table[int(value)] = k
            found = np.where(values == values.astype(np.uint8), table[values & 255], _UNKNOWN)
        unknown = found == _UNKNOWN
        if values.shape[:2] != size[:2]:
            raise self._misfit(values, unknown, id, size)
        if unknown.any():
            if blended(values, unknown):
                what, fix = _BLENDED
                raise LabelFault("blended", self.where(id), what, f"{fix}{self._smooth_fix()}")
            several = len(np.unique(values[unknown])) > FEW
            smooth = self._smooth_fix() if several else ""
            fault = self._not_stored(values[unknown], smooth, values)
            raise LabelFault("value", self.where(id), *fault)
        return found.astype(np.uint8)

    def _misfit(
        self, values: np.ndarray, unknown: np.ndarray, id: str, size: tuple[int, ...]
    ) -> LabelFault:
        """What to say of a label that has another size than its image."""
        fault = size_mismatch(self.where(id), values.shape, size)
        if values.shape[:2] == size[1::-1]:
            photograph, *others = self.opened(id)
            with photograph:
                turn = orientation(photograph)
            for other in others:
                other.close()
            if turn in _SIDEWAYS:
                what = f"{fault.what}, which its EXIF orientation {turn} has turned upright"
                fix = (
                    "the label is drawn on the picture as it is stored: turn the label, or remove "
                    "the orientation from the image"
                )
                return LabelFault("size", fault.where, what, fix)
        if unknown.any() and blended(values, unknown):
            what = f"{fault.what}, and its edges are blended, as by resizing with interpolation"
            fix = "export it at the size of its image, or resize it with nearest-neighbour"
            return LabelFault("size", fault.where, what, fix)
        return fault

    def _smooth_fix(self) -> str:
        """What else to do about smoothed edges: of two classes a threshold tells them apart."""
        if len(self.classes) != 2 or self.description.labels.kind == "colour":
            return ""
        stated = " in place of the values of the classes" if self.description.states_values else ""
        return (
            f", or write `threshold: {THRESHOLD}` in the YAML file{stated}: pixels from "
            f"{THRESHOLD} on are then {self.classes[1]!r}"
        )

    def _not_stored(self, unknown: np.ndarray, smooth: str, values: np.ndarray) -> tuple[str, str]:
        """What to say of values that stand for nothing, and what to do.

        Args:
            unknown: an index or colour for each pixel with such a value.
            smooth: what else to do, where edges may be smoothed.
            values: all indices or colours of the label.
        """
        value = unknown[0]
        said, last = self.description, self.description.offset + len(self.classes) - 1
        if said.labels.kind == "colour":
            r, g, b = value
            share = len(unknown) / (values.shape[0] * values.shape[1])
            return (
                f"colour #{r:02X}{g:02X}{b:02X} belongs to no class of {self.name} and is not void "
                f"(unknown colours: {'<0.1' if share < 0.0005 else f'{100 * share:.1f}'} % of its "
                "pixels)",
                "correct the label, or add it to `classes` or `void`",
            )
        void = [value for value, k in said.stored.items() if k == IGNORE]
        if said.states_values:
            few = np.unique(unknown)[:MOST_VALUES].tolist()
            ignored = sorted({*said.ignore, *few}, key=lambda value: (len(str(value)), str(value)))
            what = (
                f"label value {few[0]} belongs"
                if len(few) == 1
                else f"label values {', '.join(map(str, few))} belong"
            )
            return (
                f"{what} to no class of {self.name}, and {'is' if len(few) == 1 else 'are'} not "
                f"void {void} ({counted(len(unknown), 'pixel')})",
                "correct the label, add a class, or leave out by "
                f"`ignore: [{', '.join(map(str, ignored))}]`{smooth}",
            )
        return (
            f"label value {value} is out of range: {self.name} has classes {said.offset}..{last}, "
            f"and void {void}",
            f"correct the label, or {self._named(np.unique(values).tolist())}{smooth}",
        )

    def _named(self, values: list[int]) -> str:
        """What to write in the YAML file where labels are to store these values."""
        said = self.description
        if not said.assumes_void or len(values) != len(self.classes):  # else 255 is a class
            values = [value for value in values if said.stored.get(value) != IGNORE]
        if said.offset or len(values) > MOST_VALUES or values[-1] > IGNORE:
            return "`classes`, `offset` or `void`"
        names = self.classes if len(values) == len(self.classes) else ["..."] * len(values)
        return f"say which class each value is: {self._labels(values, names)}"

    def _labels(self, values: Sequence[Value], names: Sequence[str]) -> str:
        """The field `labels` that gives each value its class."""
        pairs = ", ".join(f"{value}: {name}" for value, name in zip(values, names, strict=True))
        files = self.description.labels.files
        if files == Labels().files:
            return f"`labels: {{{pairs}}}`"
        return f"`labels: {{files: {files!r}, values: {{{pairs}}}}}`"

    def absent_fix(self, names: Sequence[str], has_void: bool) -> str:
        """See `Benchmark.absent_fix`: 255 is void unless the file says otherwise."""
        said = self.description
        usual = said.labels.values == "index" and not said.states_values and said.void is None
        if not (names and has_void and usual):
            return ""
        values = [*range(said.offset, said.offset + len(self.classes) - 1), IGNORE]
        others = [name for name in self.classes if name != names[-1]]
        return (
            "labels store 255, which is void unless the YAML file gives it to a class; if it is "
            f"{names[-1]!r}, write {self._labels(values, [*others, names[-1]])}, else correct "
            "labels or split"
        )

    def void_fix(self) -> str:
        """What to do where much is 255 and the file does not mention 255; empty where it does."""
        if not self.description.assumes_void:
            return ""
        stored = {v: self.classes[k] for v, k in self.description.stored.items() if k != IGNORE}
        values, names = [*stored, IGNORE], [*stored.values(), "NAME"]
        short = len(values) <= MOST_VALUES
        example = f", as in {self._labels(values, names)}" if short else ""
        return f"if it is a class, add it to `labels`, and its name to `classes`{example}"

    def carved(
        self, train: Sequence[str], links: Iterable[tuple[str, str]] = ()
    ) -> tuple[list[str], list[str]]:
        """Train and val of a set without val: a tenth of train, drawn by a fixed seed.

        Args:
            train: ids.
            links: pairs of ids that stay together.

        Raises:
            DataError: there are less than two examples.
        """
        if len(train) < 2:
            raise DataError(
                f"{self.name}: {len(train)} training image(s) in {self.origin} are too few to take "
                "a val split from; add images, or a val split"
            )
        share = max(1, round(0.1 * len(train))) / len(train)
        parts = draw(together(train, links), (1 - share, share, 0))
        if not (parts["train"] and parts["val"]):
            raise DataError(
                f"{self.name}: all training images in {self.origin} belong together, so none can "
                "be val; correct `groups`, leave `near_duplicates` out, or add a val split"
            )
        return parts["train"], parts["val"]


_BLENDED = (
    "its edges are blended: many values that are no class, each of few pixels, as resizing or "
    "rotating with interpolation makes them",
    "export it again, or resize it with nearest-neighbour",
)


def _grey(file: BinaryIO) -> np.ndarray:
    """Grey values (H, W) uint8 of a label, 0 = black; also of one with three equal channels.

    Raises:
        Unfit: it is compressed with loss, or has colours, or no values of 8 bits.
    """
    colours = label_colours(file)
    if (colours != colours[..., :1]).any():
        raise Unfit(
            "has colours, and `threshold` is for grey values",
            "leave `threshold` out, and describe it by `labels: colour`",
        )
    return colours[..., 0]


def _colour_classes(colours: np.ndarray, known: dict[Value, int]) -> np.ndarray:
    """(H, W) int64 class indices of colours (H, W, 3) uint8; `_UNKNOWN` where there is none."""
    pairs = sorted((int(str(colour)[1:], 16), k) for colour, k in known.items())
    keys, classes = np.array(pairs).T
    r, g, b = np.moveaxis(colours.astype(np.int64), -1, 0)
    packed = (r << 16) | (g << 8) | b
    index = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
    return np.where(keys[index] == packed, classes[index], _UNKNOWN)
