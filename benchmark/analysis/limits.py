"""Limits on the costs of a method: absolute (1MB, 20ms) or as a multiple of a reference (1.2x)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from benchmark.analysis.costs import BACKBONE, STORED, TRAINABLE, by_column
from benchmark.core.errors import UserError
from benchmark.core.format import Kind, human
from benchmark.core.quantity import BYTES, COUNTS, TIMES, factor, split_unit
from benchmark.results.timing_columns import LATENCY, PREFIX, TRAINING, references


@dataclass(frozen=True)
class Limited:
    """A cost that can be limited.

    Attributes:
        column: of the cost, as in `COSTS`.
        absolute: column of its value in a unit; that of the cost itself, but for times.
        units: what can be typed behind a number, with the factor to that column's unit.
        kind: how an absolute value is shown.
        share_of: column that a percentage is of; "" = percentages make no sense.
        example: of an absolute limit.
    """

    column: str
    absolute: str
    units: Mapping[str, float]
    kind: Kind
    example: str
    share_of: str = ""


LIMITED: dict[str, Limited] = {
    "stored": Limited(STORED, STORED, BYTES, "bytes", "1MB"),
    "trainable": Limited(TRAINABLE, TRAINABLE, COUNTS, "count", "300k", BACKBONE),
    "memory": Limited(
        "costs.train.memory.peak_bytes", "costs.train.memory.peak_bytes", BYTES, "bytes", "2GB"
    ),
    "latency": Limited(LATENCY, f"{PREFIX}latency.seconds", TIMES, "seconds", "20ms"),
    "training": Limited(TRAINING, f"{PREFIX}training.seconds", TIMES, "seconds", "500ms"),
}
"""By the name that follows --max-."""


@dataclass(frozen=True)
class Limit:
    """The most that a method may cost.

    Attributes:
        name: a key of `LIMITED`.
        text: as typed.
        value: in units of the cost's absolute column; a multiple or a share where `relative`.
        relative: "" for an absolute limit, "x" for a multiple of the reference, "%" for a share.
    """

    name: str
    text: str
    value: float
    relative: str

    def __str__(self) -> str:
        return f"--max-{self.name} {self.text}"

    def measured(self, costs: pd.DataFrame) -> pd.Series:
        """What this limit bounds, of each method of a group; NaN where it is not known.

        Args:
            costs: a row a method: `method` and the columns of the costs.

        Raises:
            UserError: the limit is a multiple of a method that is not among them.
        """
        cost = LIMITED[self.name]
        if not self.relative:
            return _numbers(costs, cost.absolute)
        values = _numbers(costs, cost.column)
        if self.relative == "%":
            return 100 * values / _numbers(costs, cost.share_of)
        if by_column(cost.column).reference:  # a ratio already
            return values
        base = values[costs["method"] == references()[0]]
        if base.isna().all():
            raise UserError(
                f"{self} is a multiple of {references()[0]}, which has no finished run here; write "
                f"an absolute limit, as in --max-{self.name} {cost.example}"
            )
        return values / base.iloc[0]

    def shown(self, value: float) -> str:
        """A measured value in the unit of the limit."""
        if self.relative == "x":
            return human(value, "ratio")
        if self.relative == "%":
            return f"{value:.3g} %"
        kind = LIMITED[self.name].kind
        return human(1000 * value, "ms") if kind == "seconds" else human(value, kind)


def parse_limit(name: str, text: str) -> Limit:
    """Reads what was typed behind --max-NAME.

    Raises:
        UserError: it is no positive number with a unit of this cost.
    """
    cost = LIMITED[name]
    number, unit = split_unit(text) or (0.0, "")
    relative = unit if unit == "x" or (unit == "%" and cost.share_of) else ""
    times = 1.0 if relative else factor(cost.units, unit)
    if not number or times is None:
        units = ", ".join(filter(None, cost.units))
        share = ", as a share of the backbone's parameters (2%)" if cost.share_of else ""
        raise UserError(
            f"--max-{name} {text!r}: write a number above 0 with its unit ({units}), as in "
            f"{cost.example}{share}, or as a multiple of {references()[0]}, as in 1.2x"
        )
    return Limit(name, text.strip(), number * times, relative)


def _numbers(costs: pd.DataFrame, column: str) -> pd.Series:
    if column not in costs:
        return pd.Series(math.nan, index=costs.index, dtype=float)
    return costs[column].astype(float)
