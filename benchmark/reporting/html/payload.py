"""The contract between Python and the page's script: what `data` holds, and how it is packed.

Methods, groups and benchmarks are referred to by their index in the lists of the same name. Tables
are stored by column (`Frame`), because names of columns would outweigh the numbers ten to one.
"""

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from benchmark.core.format import human

SCHEMA_VERSION = 1
AVERAGE, SHARED = -1, -2
"""Scopes beside the benchmarks: the mean over all of a group, over those that all finished."""

Frame = dict[str, list[Any]]
"""Name of a column: its values, all equally long; None is a missing value."""


class Group(TypedDict):
    """Runs that are ranked together."""

    backbone: str
    weights: str
    protocol: str
    label: str  # by what differs from the other groups
    benchmarks: list[int]
    shared: list[int]  # benchmarks that every method with a result finished
    critical_difference: float | None  # of average ranks
    parameters: float | int | None  # of the frozen backbone
    seeds: str  # how many there are, and how many are usual
    timing: str  # how its times were measured, or why there are none
    conditions: str  # of its times; only groups for which they are equal share a column


class Method(TypedDict):
    """A method and how it looks, as in the static figures."""

    name: str
    colour: str
    dark: str  # its colour on a dark page
    symbol: str  # plotly's name of the marker


class Axis(TypedDict):
    """A cost that can be an axis; lower is better."""

    column: str
    label: str
    short: str  # heading of a column
    kind: str
    main: bool  # in the leaderboard even where not all costs are shown


class Field(TypedDict):
    """A number of a single run, in the order of the panel."""

    column: str
    label: str
    kind: str
    time: bool  # what it took under the load at that time; not to be compared


class Series(TypedDict):
    """One line of a diagram; x, y, low and high are equally long, or low and high are empty."""

    kind: str  # one of `Payload.kinds`
    group: int  # -1: it joins several protocols
    panel: str  # lines of one panel are drawn together
    name: str
    method: int  # whose style it has; -1: none
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


class Kind(TypedDict):
    """What the lines of one kind mean."""

    name: str
    label: str
    x: str
    y: str
    log: bool
    note: str


class Shot(TypedDict):
    """One test image with what the methods made of it; pictures are data URIs."""

    benchmark: str
    image: str
    width: int
    height: int
    disagreement: float  # share of labelled pixels on which not all methods agree
    photo: str
    truth: str
    predictions: list[dict[str, Any]]  # group, method, miou, prediction, error
    classes: list[tuple[str, str]]  # name, colour, of those that appear


class Payload(TypedDict):
    """Everything that the script draws."""

    schema: int
    groups: list[Group]
    methods: list[Method]
    benchmarks: list[str]
    costs: list[Axis]
    terms: dict[str, str]  # what words and headings mean
    fields: list[Field]
    points: Frame  # group, scope, method, rank, rank_to, miou, low, high, complete, status, ...
    runs: Frame  # group, benchmark, method, seed, status, run_id, command, and `fields`
    classes: list[dict[str, Any]]  # group, benchmark, names, methods, iou (method x class)
    pairs: Frame  # group, scope, a, b, difference, low, high, p, significant
    ranks: Frame  # group, method, average_rank, cells
    fronts: Frame  # group, scope, cost, method, on_front, probability
    reference: Frame  # method, backbone, decoder, miou, cost, params, source
    kinds: list[Kind]
    series: list[Series]
    shots: list[Shot]


def number(value: Any) -> float | int | None:
    """A number with six significant digits or so, as no screen shows more; None for NaN."""
    if value is None or value is pd.NA:
        return None
    real = float(value)
    return _short(real) if math.isfinite(real) else None


def numbers(values: ArrayLike) -> list[float | int | None]:
    """`number` of each value of a column or a list."""
    found = np.asarray(values, dtype=float)
    known = zip(found.tolist(), np.isfinite(found).tolist(), strict=True)
    return [_short(value) if finite else None for value, finite in known]


def _short(real: float) -> float | int:
    short = float(f"{real:.6g}")
    if abs(real) <= 1 and human(short, "points") != human(real, "points"):
        return real  # a score that was rounded twice would differ from the tables
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def columns(table: pd.DataFrame, names: Sequence[str] = ()) -> Frame:
    """A table by column.

    Args:
        table: numbers, booleans and texts.
        names: of the columns to take; by default all.

    Returns:
        Plain JSON values.
    """
    result: Frame = {}
    for name in names or table.columns:
        column = table[name]
        if pd.api.types.is_bool_dtype(column):
            result[str(name)] = [bool(value) for value in column]
        elif pd.api.types.is_numeric_dtype(column):
            result[str(name)] = numbers(column.to_numpy(dtype=float, na_value=np.nan))
        else:
            result[str(name)] = [None if pd.isna(value) else str(value) for value in column]
    return result


def to_json(content: Any) -> str:
    """JSON in ASCII.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
    """
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def packed(text: str) -> str:
    """A text compressed, as base64: what `unpack` of the page's script reads.

    The format has no date in it, so the same text gives the same page. Base64 of any text cannot
    end a script element.
    """
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")
