"""What checking a set of images finds."""

from dataclasses import dataclass
from typing import Literal

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
