"""What a user's YAML file says of a set: the schema.

A folder of images (`folder.py`), here with labels that store 0 for void and 1, 2 for the classes:

    name: roads
    classes: {road: "#804080", grass: "#00FF00"}
    offset: 1
    void: [0]
    folder: roads        # relative to this file; holds images/ and labels/

Masks that store 0 and 255, in files such as `0001_mask.png`, of images with 12 bits:

    name: parts
    classes: {ground: 0, part: 255}
    labels: "{stem}_mask.png"
    range: [0, 4095]

A folder without split folders, with names of its own:

    name: fruit
    classes: [background, apple]
    images: photos
    masks: annotations
    splits: [0.6, 0.1, 0.3]   # shares of train, val and test, drawn by a fixed seed
    groups: "^(tree[0-9]+)_"  # tree12_a.jpg and tree12_b.jpg go into one split
    near_duplicates: together # and so do images that look nearly the same

Masks whose edges are smoothed, from 128 on of the second class:

    name: tiles
    classes: [sound, defect]
    threshold: 128

A set of the Hugging Face hub, or saved in a local folder (`hub.py`):

    name: roads
    classes: [road, grass]
    hub: {path: owner/roads, splits: {train: train, test: test}}
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from benchmark.core.errors import UserError, on_one_line, plain, shown
from benchmark.core.selectors import MOST, did_you_mean
from benchmark.core.spec import short_hash
from benchmark.core.yaml_file import read_mapping
from benchmark.data.base import IGNORE
from benchmark.data.pixels import Span

LABELS = (".png", ".tif", ".tiff", ".bmp")
"""Suffixes of label files: of formats that keep every value as it is."""

GROUPS_FILE = ".csv"
"""How `groups` ends where it names a file."""

VOID = "void"
"""What errors call the class of pixels that count nowhere."""

Value = StrictInt | str
"""What labels store of a class: an index, or a colour `#RRGGBB`."""

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


class Labels(BaseModel):
    """What label files are called, and what their pixels store.

    In the YAML file a name stands for `files` alone, and `index`, `colour` or a mapping of values
    for `values` alone.

    Attributes:
        files: the name of a label, with `{stem}` for the name of its image without suffix.
        values: `index`: one channel of class indices; `colour`: the colours that `classes` gives;
            or the class of each stored value or colour. Several may have one class.
    """

    model_config = _CLOSED

    files: str = "{stem}.png"
    values: Literal["index", "colour"] | dict[Value, str] = "index"

    @field_validator("files")
    @classmethod
    def _a_name(cls, files: str) -> str:
        if files.count("{stem}") != 1 or re.search(r"[{}/\\]", files.replace("{stem}", "")):
            raise ValueError(
                f"{files!r} must contain {{stem}} once, for the name of the image "
                "without suffix, as in '{stem}_mask.png'"
            )
        if Path(files).suffix.lower() not in LABELS:
            raise ValueError(
                f"{files!r}: labels may be {', '.join(LABELS)}, which keep every value as it is; "
                "export them as PNG"
            )
        return files

    @field_validator("values", mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if isinstance(values, dict):
            if not values or not any(all(map(kind, values)) for kind in (_is_index, _is_colour)):
                raise ValueError("write values 0 to 255, or colours, as in {0: ground, 255: thing}")
        elif values not in ("index", "colour"):
            raise ValueError(
                f"{shown(values)} is neither index nor colour, nor a name such as "
                "'{stem}_mask.png', nor values such as {0: ground, 255: thing}"
            )
        return values

    @property
    def kind(self) -> Literal["index", "colour"]:
        """What a pixel stores."""
        if isinstance(self.values, dict):
            return "colour" if _is_colour(next(iter(self.values))) else "index"
        return self.values


class Description(BaseModel):
    """What the YAML file says.

    Attributes:
        name: letters, digits, - and _; selects the benchmark.
        title: one line for people; empty = the name.
        domain: driving, aerial, ...
        licence: of the data.
        citation: how to cite it.
        metric: what its field reports: `iou`, or `dice`, which is then given beside mIoU.
        classes: names, in order of their index; or names with the colour `#RRGGBB` of each; or
            names with what labels store for each, one value or several (`road: [1, 2]`).
        labels: what label files are called, and what their pixels store; see `Labels`.
        offset: value of the first class in labels that store an index.
        threshold: for two classes: grey values from this one on are of the second class, all others
            of the first; None = labels store classes.
        void: values, or colours, of pixels that nobody labelled; None = 255 unless a class is
            stored so, or no colour.
        ignore: values, or colours, of classes that are left out; they count nowhere, either.
        bands: bands of an image to take, from 0 and in this order; None = as RGB.
        range: stored values that become black and white, one pair for all bands or one for each;
            None = all that 8 or 16 bits can hold.
        scale: factor by which the network sees every image resized; None = 1.
        shorter_side: instead of `scale`, the side to which the shorter one is resized, px.
        folder: with images and labels, relative to the YAML file; None = beside it.
        images: the folder of the images in it, which holds those of the splits; `{split}` where
            these hold it: `{split}/images`.
        masks: the folder of the labels in it.
        splits: shares of train, val and test to draw by a fixed seed, for folders that are not
            divided; None = there are folders train, test and perhaps val.
        groups: which images stay together where a split is drawn: a regular expression with one
            group, searched for in the path of an image below `images` without its suffix; or a CSV
            file, relative to the YAML file, with the columns stem (such a path) and group.
        near_duplicates: `together`: images that look nearly the same stay together, too.
        hub: instead of `folder`.
    """

    model_config = _CLOSED

    name: str
    title: str = ""
    domain: str = "own data"
    licence: str = "not stated"
    citation: str = ""
    metric: Literal["iou", "dice"] = "iou"
    classes: dict[str, tuple[Value, ...]]
    labels: Labels = Labels()
    offset: StrictInt = Field(0, ge=0, le=254)
    threshold: StrictInt | None = Field(None, ge=1, le=255)
    void: tuple[Value, ...] | None = None
    ignore: tuple[Value, ...] = ()
    bands: tuple[Annotated[StrictInt, Field(ge=0)], ...] | None = None
    range: tuple[Span, ...] | None = None
    scale: float | None = Field(None, gt=0)
    shorter_side: StrictInt | None = Field(None, ge=16)
    folder: str | None = None
    images: str = "images"
    masks: str = "labels"
    splits: tuple[float, float, float] | None = None
    groups: str | None = None
    near_duplicates: Literal["together"] | None = None
    hub: Hub | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, content: Any) -> Any:
        for field, value in content.items() if isinstance(content, dict) else ():
            if value is None and field in cls.model_fields:
                raise ValueError(f"{field} is empty; write a value, or leave it out{_COMMENT}")
        return content

    @field_validator("splits", mode="before")
    @classmethod
    def _three(cls, shares: Any) -> Any:
        if not (isinstance(shares, list) and len(shares) == 3 and all(map(_is_number, shares))):
            hint = "; names of splits belong in `hub`" if isinstance(shares, dict) else ""
            raise ValueError(
                f"{shown(shares)} are no shares of train, val and test; write three, as in "
                f"[0.6, 0.1, 0.3]{hint}"
            )
        return shares

    @field_validator("splits")
    @classmethod
    def _whole(cls, shares: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if shares is not None and (min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6):
            raise ValueError(
                f"{list(shares)} are not shares of train, val and test; write three that add up to "
                "1, as in [0.6, 0.1, 0.3]"
            )
        return shares

    @field_validator("groups")
    @classmethod
    def _one_group(cls, groups: str | None) -> str | None:
        if groups is None or groups.lower().endswith(GROUPS_FILE):
            return groups
        try:
            count = re.compile(groups).groups
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"{groups!r} is no regular expression ({on_one_line(error)}), nor the name of a "
                "CSV file"
            ) from error
        if count != 1:
            raise ValueError(
                f"{groups!r} has {count} groups in parentheses; put one around the part of the "
                "name that images of one scene share, as in '^(scene[0-9]+)_'"
            )
        return groups

    @field_validator("images", "masks")
    @classmethod
    def _below(cls, name: str) -> str:
        if not name.strip() or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(
                f"{name!r} is not a folder below `folder`; name one, or `.` for itself"
            )
        return name

    @field_validator("images", "masks")
    @classmethod
    def _one_split(cls, name: str) -> str:
        if re.search(r"[{}]", name.replace("{split}", "", 1)):
            raise ValueError(f"{name!r}: write {{split}} once, as in '{{split}}/images'")
        return name

    @field_validator("name", mode="before")
    @classmethod
    def _text(cls, name: Any) -> Any:
        if not isinstance(name, str):  # YAML reads yes, no, on and off as true and false
            raise ValueError(f"{shown(name)} is no text; put quotes around the name")
        return name

    @field_validator("void", "ignore", mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        if isinstance(values, str) and values.lower() in ("none", "no", "nothing"):
            raise ValueError(f"{values!r} is no value; write [] where there is none")
        for value in values if isinstance(values, list) else ():
            if value is None:
                raise ValueError(f"a value is empty{_COMMENT}")
        return values

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
                raise ValueError(f"{shown(name)} is not a name; put quotes around it")
        if isinstance(classes, dict):
            _refuse_triples(classes)
            return {name: _values(name, stored) for name, stored in classes.items()}
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice; every class needs a name of its own")
        return dict.fromkeys(classes, ())

    @field_validator("labels", mode="before")
    @classmethod
    def _short_forms(cls, labels: Any) -> Any:
        if isinstance(labels, str) and "{" in labels:
            return {"files": labels}
        if isinstance(labels, dict) and any(isinstance(k, str) and k[:1] != "#" for k in labels):
            return labels
        return {"values": labels}

    @field_validator("bands")
    @classmethod
    def _some(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands == ():
            raise ValueError("write the numbers of the bands to take, as in [0, 1, 2]")
        return bands

    @field_validator("range", mode="before")
    @classmethod
    def _pairs(cls, spans: Any) -> Any:
        if isinstance(spans, list) and not any(isinstance(span, list) for span in spans):
            spans = [spans]
        for span in spans if isinstance(spans, list) else [spans]:
            pair = isinstance(span, list) and len(span) == 2 and all(map(_is_number, span))
            if not pair or span[0] >= span[1]:
                raise ValueError(
                    f"{shown(span)} is not a range; write the stored values of black and white, as "
                    "in [0, 4095]"
                )
        return spans

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
        if self.hub is not None and self.labels.files != Labels().files:
            raise ValueError("labels: names of files are for folders; a hub has columns")
        folders_only = {"images", "masks", "splits", "groups", "near_duplicates"}
        if self.hub is not None and folders_only & self.model_fields_set:
            raise ValueError(
                "images, masks, splits, groups and near_duplicates are for folders; a hub has "
                "splits of its own"
            )
        self._check_threshold()
        if self.splits and "{split}" in f"{self.images}{self.masks}":
            raise ValueError("splits and {split} contradict each other; keep one")
        if self.bands and self.range and len(self.range) not in (1, len(self.bands)):
            raise ValueError(
                f"range: {len(self.range)} pairs do not fit {len(self.bands)} bands; write one "
                "pair, or one for each band"
            )
        if self.offset and self.labels.kind == "colour":
            raise ValueError("offset is for labels: index; leave it out")
        if self.offset and self.states_values:
            raise ValueError("offset and values of the classes contradict each other; keep one")
        if len(self.classes) > IGNORE or self.offset + len(self.classes) > 256:
            raise ValueError(
                f"classes: {len(self.classes)} from offset {self.offset} do not fit 8 bits"
            )
        self._check_stored()
        return self

    def _check_threshold(self) -> None:
        """Raises ValueError unless a threshold has two classes, and nothing else gives values."""
        if self.threshold is None:
            return
        if len(self.classes) != 2:
            raise ValueError(
                f"threshold: there are {len(self.classes)} classes; it is for two, of which the "
                "second has the values from the threshold on"
            )
        stated = {
            **{name: name in self.model_fields_set for name in ("offset", "void", "ignore")},
            "values of `classes`": any(self.classes.values()),
            "values of `labels`": self.labels.values != "index",
        }
        others = [name for name, there in stated.items() if there]
        if others:
            raise ValueError(f"threshold and {others[0]} contradict each other; keep one")

    def _check_stored(self) -> None:
        """Raises ValueError unless every class is stored as something, and no value is two."""
        kind = self.labels.kind
        owners: dict[Value, str] = {}
        for field, value, name in self._stored():
            if not (_is_colour if kind == "colour" else _is_index)(value):
                write = "'#RRGGBB' in quotes" if kind == "colour" else "0 to 255"
                if value in self.classes:
                    write = f"what labels store for {value!r}, {write}"
                raise ValueError(f"{field}: {value!r} does not fit labels: {kind}; use {write}")
            if name not in self.classes and name != VOID:
                more = ", ..." if len(self.classes) > MOST else ""
                raise ValueError(
                    f"labels names {name!r}, which is not in classes; write one of "
                    f"{', '.join([*self.classes][:MOST])}{more}, or add its value to `ignore`"
                )
            if value in owners and field in ("void", "ignore") and owners[value] != VOID:
                raise ValueError(
                    f"{field}: {value} is what labels store for the class {owners[value]!r}; take "
                    f"it out of `{field}`, or the class out of `classes`"
                )
            if value in owners:
                raise ValueError(f"{owners[value]!r} and {name!r} are both stored as {value}")
            owners[value] = name
        for name in self.classes:
            if name not in owners.values():
                if kind == "colour":
                    raise ValueError("labels: colour needs classes with colours, {road: '#804080'}")
                raise ValueError(
                    f"classes: others have values, but {name!r} has none; write what labels store "
                    "for it, as in {road: [1, 2]}"
                )

    @property
    def states_values(self) -> bool:
        """Whether the file says which indices stand for a class; else they count from `offset`."""
        return self.labels.kind == "index" and (
            isinstance(self.labels.values, dict)
            or any(isinstance(value, int) for values in self.classes.values() for value in values)
        )

    def _stored(self) -> list[tuple[str, Value, str]]:
        """Field, value and class of everything that labels may store."""
        if self.threshold is not None:
            low, high = self.classes
            return [("threshold", v, high if v >= self.threshold else low) for v in range(256)]
        if isinstance(self.labels.values, dict):
            found = [("labels", value, str(name)) for value, name in self.labels.values.items()]
        elif self.labels.kind == "colour" or self.states_values:
            pairs = [(v, name) for name, values in self.classes.items() for v in values]
            found = [("classes", value, name) for value, name in pairs]
        else:
            found = [("offset", self.offset + k, name) for k, name in enumerate(self.classes)]
        voids = self.void
        if voids is None:
            taken = self.labels.kind == "colour" or IGNORE in self.ignore
            taken |= self.states_values and any(value == IGNORE for _, value, _ in found)
            voids = () if taken else (IGNORE,)
        found += [("void", value, VOID) for value in voids]
        found += [("ignore", value, VOID) for value in self.ignore]
        return [(field, _upper(value), name) for field, value, name in found]

    @property
    def assumes_void(self) -> bool:
        """Whether 255 counts as void because the file does not mention it."""
        return self.void is None and IGNORE not in self.ignore and self.stored.get(255) == IGNORE

    @cached_property
    def stored(self) -> dict[Value, int]:
        """Class index of everything that labels may store; 255 of what counts nowhere."""
        index = {name: k for k, name in enumerate(self.classes)} | {VOID: IGNORE}
        return {value: index[name] for _, value, name in self._stored()}

    @property
    def values(self) -> tuple[Value, ...]:
        """What labels store of each class, the first of several values."""
        if self.threshold is not None:
            return (0, 255)
        first: dict[int, Value] = {}
        for value, index in self.stored.items():
            first.setdefault(index, value)
        return tuple(first[index] for index in range(len(self.classes)))

    @property
    def colours(self) -> tuple[str, ...]:
        """The colour of each class, the first of several; empty unless all have one."""
        own = {name: values[0] for name, values in self.classes.items() if values}
        if isinstance(self.labels.values, dict):
            own = {name: value for value, name in reversed(self.labels.values.items())} | own
        colours = [str(own.get(name, "")) for name in self.classes]
        return tuple(colours) if all(map(_is_colour, colours)) else ()

    @property
    def version(self) -> str:
        """Hash of everything that decides images and labels, and of the names of classes."""
        return self.version_named(list(self.classes))

    def version_named(self, names: Sequence[str]) -> str:
        """What the version would be if the classes had other names.

        Args:
            names: one for each class, in their order.
        """
        called = dict(zip(self.classes, names, strict=True))
        decisive = {"offset", "void", "scale", "shorter_side", "folder", "hub"}
        fields = self.model_dump(mode="json", include=decisive)
        # As they were written before there were `files` and several values: old runs stay valid.
        stored = self.labels.values
        if isinstance(stored, dict):
            stored = {value: called.get(str(name), name) for value, name in stored.items()}
        fields["labels"] = stored
        if self.labels.files != Labels().files:
            fields["files"] = self.labels.files
        own = {name for name in ("images", "masks") if name in self.model_fields_set}
        more = self.model_dump(mode="json", include=_LATER | own)
        fields |= {name: value for name, value in more.items() if value}
        # As a list: their order decides the index.
        classes = [
            (called[name], values[0] if len(values) == 1 else values or "")
            for name, values in self.classes.items()
        ]
        return short_hash([fields, classes])


_LATER = {
    *("ignore", "bands", "range", "splits"),
    *("threshold", "groups", "near_duplicates"),
}
"""Fields that are part of a version only where they are set: older ones stay as they were."""

_COMMENT = " (an unquoted # begins a comment: write colours in quotes, '#RRGGBB')"


def _refuse_triples(classes: dict[str, Any]) -> None:
    """Raises ValueError where every class has three numbers that can only be red, green, blue."""
    triples = list(classes.values())
    if not all(isinstance(v, list) and len(v) == 3 and all(map(_is_index, v)) for v in triples):
        return
    values = [value for triple in triples for value in triple]
    if len(set(values)) < len(values):
        name, triple = next(iter(classes.items()))
        colour = "#{:02X}{:02X}{:02X}".format(*triple)
        raise ValueError(
            f"{name}: {triple} looks like red, green and blue; write it as '{colour}' in quotes, "
            "and `labels: colour`"
        )


def _values(name: str, stored: Any) -> tuple[Any, ...]:
    """What a class is stored as, of one value or several."""
    values = stored if isinstance(stored, list) and stored else [stored]
    for value in values:
        if value is None:
            raise ValueError(f"{name} has no value{_COMMENT}")
        # An unquoted # begins a comment in YAML, and nothing is left of the colour.
        if not _is_colour(value) and not _is_index(value):
            raise ValueError(
                f"{name}: {shown(value)} is not a colour; write '#RRGGBB' in quotes, or what "
                "labels store, as in [1, 2]"
            )
    return tuple(values)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_colour(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("#[0-9A-Fa-f]{6}", value) is not None


def _is_number(value: object) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and abs(value) < 1e30  # type: ignore[arg-type]


def _upper(value: Value) -> Value:
    return value.upper() if isinstance(value, str) and _is_colour(value) else value


def read_description(path: Path, where: str = "") -> Description:
    """Reads and checks a description.

    Args:
        path: the file.
        where: what names it, for errors; empty = `--plugin PATH`.

    Raises:
        UserError: the file cannot be read, is no YAML, or does not fit the schema.
    """
    where = where or f"--plugin {path}"
    try:
        content = read_mapping(path, where, "fields", "name: my_set")
    except UserError as error:
        if "not YAML" in str(error) and _BARE_COLOUR.search(path.read_text("utf-8")):
            raise UserError(f"{error}{_COMMENT}") from error
        raise
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_problem(error)}") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair as a key
        raise UserError(f"{where}: {on_one_line(error)}") from error


_BARE_COLOUR = re.compile(r"[:,\[]\s*#[0-9A-Fa-f]{6}\b")
"""A colour that YAML takes for a comment."""


def _problem(error: ValidationError) -> str:
    problems = error.errors()
    # A misspelt field is reported before the field that is missing because of it.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    *parents, field = ("", *map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        inside: dict[str, type[BaseModel]] = {"hub": Hub, "splits": Splits, "labels": Labels}
        known = inside.get(parents[-1], Description).model_fields
        return f"unknown field {'.'.join((*parents[1:], field))!r}{did_you_mean(field, known)}"
    text = plain(first["msg"])
    label = ".".join((*parents[1:], field))
    if label in ("labels.files", "labels.values"):
        label = "labels"  # as it is usually written
    if first["type"] in ("missing", "value_error"):
        return f"{label}: {text}" if label else text
    if first["type"] == "tuple_type":
        return f"{label} must be a list: [{shown(first['input'])}]"
    return f"{label}: {text} (got {shown(first['input'])})"
