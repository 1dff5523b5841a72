"""A user's own set, described in a YAML file: the schema, and what both kinds of sets share.

A folder of images (`folder.py`), here with labels that store 0 for void and 1, 2 for the classes:

    name: roads
    classes: {road: "#804080", grass: "#00FF00"}
    offset: 1
    void: [0]
    folder: roads        # relative to this file; holds images/ and labels/

A set of the Hugging Face hub, or saved in a local folder (`hub.py`):

    name: roads
    classes: [road, grass]
    hub: {path: owner/roads, splits: {train: train, test: test}}
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from benchmark.core.errors import DataError, UserError, on_one_line, shown
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import short_hash
from benchmark.core.yaml_file import read_mapping
from benchmark.data.base import IGNORE, Benchmark, carve

_CLOSED = ConfigDict(frozen=True, extra="forbid")


class Splits(BaseModel):
    """What a dataset of the hub calls its splits.

    Attributes:
        train: expression that `datasets` understands, as `train` or `train[:80%]`.
        val: such an expression; None = a tenth of train.
        test: such an expression.
    """

    model_config = _CLOSED

    train: str
    val: str | None = None
    test: str

    @model_validator(mode="after")
    def _apart(self) -> "Splits":
        names = [name for name in (self.train, self.val, self.test) if name is not None]
        for k, name in enumerate(names):
            for other in names[k + 1 :]:
                whole = "[" not in name or "[" not in other
                if name.partition("[")[0] == other.partition("[")[0] and whole:
                    raise ValueError(
                        f"{name!r} and {other!r} share examples; name other splits, or slices "
                        "such as train[:80%] and train[80%:]"
                    )
        return self


def _without_strange_home(path: str | None) -> str | None:
    try:
        Path(path or "").expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path!r}: there is no such user") from error
    return path


class Hub(BaseModel):
    """Where a dataset of the hub is, and which of its columns matter.

    Attributes:
        path: `owner/name` on the hub, a folder relative to the YAML file, or a format of
            `datasets`, such as parquet, together with `data_files`.
        revision: commit, tag or branch; None = the newest.
        image: column with the images, or with paths of image files.
        label: column with the label images.
        splits: what it calls its splits.
        data_files: files by the dataset's own splits; relative to the YAML file if they are there.
    """

    model_config = _CLOSED

    path: str
    revision: str | None = None
    image: str = "image"
    label: str = "label"
    splits: Splits
    data_files: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None = None

    @field_validator("path")
    @classmethod
    def _known(cls, path: str) -> str | None:
        return _without_strange_home(path)


class Description(BaseModel):
    """What the YAML file says.

    Attributes:
        name: letters, digits, - and _; selects the benchmark.
        title: one line for people; empty = the name.
        domain: driving, aerial, ...
        licence: of the data.
        citation: how to cite it.
        classes: names, in order of their index; or names with the colour `#RRGGBB` of each.
        labels: what a pixel of a label stores: index (8 bits, one channel) or colour.
        offset: value of the first class in labels that store an index.
        void: values, or colours, of pixels that count nowhere; None = 255, or no colour.
        scale: factor by which the network sees every image resized; None = 1.
        shorter_side: instead of `scale`, the side to which the shorter one is resized, px.
        folder: with `images/` and `labels/`, relative to the YAML file; None = beside it.
        hub: instead of `folder`.
    """

    model_config = _CLOSED

    name: str
    title: str = ""
    domain: str = "own data"
    licence: str = "not stated"
    citation: str = ""
    classes: dict[str, str]
    labels: Literal["index", "colour"] = "index"
    offset: StrictInt = Field(0, ge=0, le=254)
    void: tuple[StrictInt | str, ...] | None = None
    scale: float | None = Field(None, gt=0)
    shorter_side: StrictInt | None = Field(None, ge=16)
    folder: str | None = None
    hub: Hub | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{name!r} may hold letters, digits, - and _ only")
        return name

    @field_validator("title", "domain", "licence", "citation")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, classes: Any) -> Any:
        if not isinstance(classes, list | dict) or not classes:
            raise ValueError("write a list of names, or names with colours as {road: '#804080'}")
        for name in classes:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"{shown(name)} is no name; put quotes around it")
        if isinstance(classes, dict):
            for name, colour in classes.items():
                # An unquoted # begins a comment in YAML, and nothing is left of the colour.
                if not _is_colour(colour):
                    raise ValueError(
                        f"{name}: {shown(colour)} is no colour; write '#RRGGBB' in quotes"
                    )
            return classes
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice; every class needs a name of its own")
        return dict.fromkeys(classes, "")

    @field_validator("folder")
    @classmethod
    def _known(cls, folder: str | None) -> str | None:
        return _without_strange_home(folder)

    @model_validator(mode="after")
    def _consistent(self) -> "Description":
        if self.folder is not None and self.hub is not None:
            raise ValueError("folder and hub contradict each other; keep one")
        if self.scale is not None and self.shorter_side is not None:
            raise ValueError("scale and shorter_side contradict each other; keep one")
        kind = _is_colour if self.labels == "colour" else _is_index
        for value in self.voids:
            if not kind(value):
                what = "'#RRGGBB' in quotes" if self.labels == "colour" else "0 to 255"
                raise ValueError(f"void: {value!r} does not fit labels: {self.labels}; use {what}")
        if self.labels == "colour":
            if not all(self.classes.values()):
                raise ValueError("labels: colour needs classes with colours, {road: '#804080'}")
            if self.offset:
                raise ValueError("offset is for labels: index; leave it out")
            values: list[int] = [_rgb(c) for c in (*self.classes.values(), *map(str, self.voids))]
            names = [*self.classes, *(f"void {value}" for value in self.voids)]
        else:
            values = [self.offset + k for k in range(len(self.classes))]
            if values[-1] > 255 or len(values) > IGNORE:
                raise ValueError(
                    f"classes: {len(values)} from offset {self.offset} do not fit 8 bits"
                )
            values += [int(value) for value in self.voids]
            names = [*self.classes, *("void" for _ in self.voids)]
        for k, value in enumerate(values):
            if value in values[:k]:
                first, stored = names[values.index(value)], value
                text = f"#{stored:06X}" if self.labels == "colour" else str(stored)
                raise ValueError(f"{first!r} and {names[k]!r} are both stored as {text}")
        return self

    @property
    def voids(self) -> tuple[int | str, ...]:
        """Values or colours of void pixels, the default included."""
        if self.void is not None:
            return self.void
        return (IGNORE,) if self.labels == "index" else ()


def _is_index(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def _is_colour(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("#[0-9A-Fa-f]{6}", value) is not None


def _rgb(colour: str) -> int:
    return int(colour[1:], 16)


def read_description(path: Path) -> Description:
    """Reads and checks a description.

    Raises:
        UserError: the file cannot be read, is no YAML, or does not fit the schema.
    """
    where = f"--plugin {path}"
    content = read_mapping(path, where, "fields", "name: my_set")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_problem(error)}") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair as a key
        raise UserError(f"{where}: {on_one_line(error)}") from error


def _problem(error: ValidationError) -> str:
    problems = error.errors()
    # A misspelt field is reported before the field that is missing because of it.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    *parents, field = ("", *map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        inside: dict[str, type[BaseModel]] = {"hub": Hub, "splits": Splits}
        known = inside.get(parents[-1], Description).model_fields
        return f"unknown field {'.'.join((*parents[1:], field))!r}{did_you_mean(field, known)}"
    text = first["msg"].removeprefix("Value error, ")
    label = ".".join((*parents[1:], field))
    if first["type"] in ("missing", "value_error"):
        return f"{label}: {text}" if label else text
    if first["type"] == "tuple_type":
        return f"{label} must be a list: [{shown(first['input'])}]"
    return f"{label}: {text} (got {shown(first['input'])})"


def _version(description: Description) -> str:
    """Hash of everything that decides images and labels."""
    decisive = {"labels", "offset", "void", "scale", "shorter_side", "folder", "hub"}
    fields = description.model_dump(mode="json", include=decisive)
    # As a list: their order decides the index.
    return short_hash([fields, list(description.classes.items())])


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
        colours = tuple(description.classes.values())
        return {
            "description": description,
            "home": home,
            "title": description.title or description.name,
            "domain": description.domain,
            "classes": tuple(description.classes),
            "colours": colours if all(colours) else (),
            "origin": cls.source(description, home),
            "licence": description.licence,
            "citation": description.citation,
            "version": _version(description),
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

    def decode(self, label: Image.Image, where: str) -> np.ndarray:
        """Class indices (H, W) uint8 with 255 = void, from a label as it is stored.

        Args:
            label: the label image.
            where: its file, for errors.

        Raises:
            DataError: it has another format than described, or a pixel is neither class nor void.
        """
        if self.description.labels == "colour":
            return self._from_colours(label, where)
        if label.mode not in ("L", "P"):
            raise DataError(
                f"{where}: the label has mode {label.mode}, not one channel of 8 bits; convert it, "
                "or describe it by `labels: colour`"
            )
        first, last = self.description.offset, self.description.offset + len(self.classes) - 1
        table, known = np.full(256, IGNORE, np.uint8), np.zeros(256, bool)
        table[first : last + 1] = np.arange(len(self.classes))
        known[first : last + 1] = True
        known[[int(value) for value in self.description.voids]] = True
        raw = np.asarray(label)
        if not known[raw].all():
            raise DataError(
                f"{where}: label value {int(raw[~known[raw]][0])} is out of range; {self.name} has "
                f"classes {first}..{last}, and void {list(self.description.voids)}; correct the "
                "label, or `classes`, `offset` or `void`"
            )
        return table[raw]

    def _from_colours(self, label: Image.Image, where: str) -> np.ndarray:
        pairs = [(_rgb(colour), k) for k, colour in enumerate(self.description.classes.values())]
        pairs += [(_rgb(str(colour)), IGNORE) for colour in self.description.voids]
        keys, values = np.array(sorted(pairs)).T
        r, g, b = np.moveaxis(np.asarray(label.convert("RGB")).astype(np.int64), -1, 0)
        colour = (r << 16) | (g << 8) | b
        index = np.searchsorted(keys, colour).clip(max=len(keys) - 1)
        unknown = keys[index] != colour
        if unknown.any():
            raise DataError(
                f"{where}: colour #{int(colour[unknown][0]):06X} belongs to no class of "
                f"{self.name} and is not void; correct the label, or add it to `classes` or `void`"
            )
        return values[index].astype(np.uint8)

    def carved(self, train: Sequence[str]) -> tuple[list[str], list[str]]:
        """Train and val of a set without val: a tenth of train, drawn by a fixed seed.

        Raises:
            DataError: there are less than two examples.
        """
        if len(train) < 2:
            raise DataError(
                f"{self.name}: {len(train)} training image(s) in {self.origin} are too few to take "
                "a val split from; add images, or a val split"
            )
        share = max(1, round(0.1 * len(train))) / len(train)
        parts = carve(train, (1 - share, share, 0))
        return parts["train"], parts["val"]
