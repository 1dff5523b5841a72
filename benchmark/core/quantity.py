"""Numbers with units, as users type them: 1MB, 300k, 20ms."""

import re
from collections.abc import Mapping

from benchmark.core.errors import UserError

BYTES = {
    "B": 1.0,
    **{f"{prefix}B": 1e3**power for power, prefix in enumerate("kMG", start=1)},
    **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMG", start=1)},
}
COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
"""Units, each with the factor to the base unit."""


def split_unit(text: str) -> tuple[float, str] | None:
    """A number and its unit; None where the text is not that."""
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*|%)\s*", text)
    return (float(found[1]), found[2]) if found else None


def factor(units: Mapping[str, float], unit: str) -> float | None:
    """That of a unit, in any case: mb is read as MB, as no one means millibytes."""
    if unit in units:
        return units[unit]
    lower = {name.lower(): value for name, value in units.items()}
    return lower.get(unit.lower())


def quantity(text: str, units: Mapping[str, float], option: str, example: str) -> float:
    """A number above 0 with a unit, in the base unit.

    Args:
        text: as typed.
        units: that it may have.
        option: that it was typed for, for the error.
        example: of what can be typed.

    Raises:
        UserError: it is none.
    """
    number, unit = split_unit(text) or (0.0, "")
    times = factor(units, unit)
    if not number or times is None:
        known = ", ".join(filter(None, units))
        raise UserError(
            f"{option} {text!r}: write a number above 0 with its unit ({known}), as in {example}"
        )
    return number * times
