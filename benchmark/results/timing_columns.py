"""Names of the columns that hold times measured side by side."""

import functools
from pathlib import Path

import yaml

KINDS = {
    "training": "training",
    "latency": "latency",
    "latency8": "latency8",
    "latency_merged": "latency",
    "latency8_merged": "latency8",
}
"""What is measured (a training step; a forward pass of one image and of eight, as trained and with
what was inserted folded into the backbone), and which time of the reference it is divided by."""

PREFIX = "timing."


@functools.cache
def references() -> tuple[str, ...]:
    """Methods whose times others are multiples of; the first one's are shown in tables."""
    text = Path(__file__).with_name("references.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["methods"])


def column(kind: str, reference: str = "") -> str:
    """The column of a ratio; `.low` and `.high` after it are the range over the rounds.

    Args:
        kind: one of `KINDS`.
        reference: a method; by default the first of `references`.
    """
    return f"{PREFIX}{kind}.{reference or references()[0]}"


TRAINING, LATENCY = column("training"), column("latency")
"""The columns that tables and figures show."""

RATIOS = tuple(column(kind, reference) for reference in references() for kind in KINDS)
"""All ratios."""
