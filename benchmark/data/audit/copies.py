"""Copies among the examples of a benchmark, exact ones and near ones, within and across splits."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from benchmark.data.audit.near_duplicates import Look, lookalikes
from benchmark.data.base import Split
from benchmark.data.findings import Finding, Severity

EXAMPLES = 3
"""How many cases a finding names; the others are counted."""


@dataclass
class Seen:
    """What is kept of an example that was read.

    Attributes:
        split: its split.
        id: its id.
        size: height and width in pixels.
        image: digest of the pixels.
        label: digest of the label.
        look: what the image looks like; None if it is of one colour. Such images are told as what
            they are; that they equal each other adds nothing.
    """

    split: Split
    id: str
    size: tuple[int, int]
    image: bytes
    label: bytes
    look: Look | None


def digest(values: np.ndarray) -> bytes:
    """16 bytes that differ where shapes or values differ."""
    state = blake2b(repr(values.shape).encode(), digest_size=16)
    state.update(np.ascontiguousarray(values).data)
    return state.digest()


def grouped(severity: Severity, what: str, cases: Sequence[str], fix: str) -> Iterator[Finding]:
    """One finding for all cases of a kind, which names the first few; none if there is no case."""
    if cases:
        more = f"; and {len(cases) - EXAMPLES} more" if len(cases) > EXAMPLES else ""
        yield Finding(severity, f"{what} ({len(cases)}): {'; '.join(cases[:EXAMPLES])}{more}", fix)


def copies(examples: Sequence[Seen]) -> Iterator[Finding]:
    """Images that are equal in every pixel, and those of them whose labels differ."""
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for seen in examples:
        if seen.look is not None:
            groups[seen.image].append(seen)
    across: list[str] = []
    inside: list[str] = []
    disputed: list[str] = []
    for group in groups.values():
        if len(group) == 1:
            continue
        text = " = ".join(f"{seen.split} {seen.id}" for seen in group[:EXAMPLES])
        text += f" = {len(group) - EXAMPLES} more" if len(group) > EXAMPLES else ""
        (inside if len({seen.split for seen in group}) == 1 else across).append(text)
        if len({seen.label for seen in group}) > 1:
            disputed.append(text)
    yield from grouped(
        "serious",
        "images that occur in more than one split",
        across,
        "keep each such image in one split",
    )
    yield from grouped(
        "serious",
        "equal images whose labels differ",
        disputed,
        "find out which label is right, and remove the other copies",
    )
    yield from grouped(
        "warning",
        "images that occur more than once in their split",
        inside,
        "remove the copies, or know that they count more than once",
    )


def near_copies(examples: Sequence[Seen]) -> Iterator[Finding]:
    """Images that are nearly equal, and how many of the test images have one in train."""
    # Of equal images one is enough, and many of them would crowd out what is only nearly equal.
    distinct: dict[bytes, Seen] = {}
    looks: list[Look] = []
    for seen in examples:
        if seen.look is not None and seen.image not in distinct:
            distinct[seen.image] = seen
            looks.append(seen.look)
    kept = list(distinct.values())
    across: list[str] = []
    inside: list[str] = []
    tested: set[str] = set()
    for first, second, _ in lookalikes(looks):
        one, other = kept[first], kept[second]
        text = f"{one.split} {one.id} ~ {other.split} {other.id}"
        (inside if one.split == other.split else across).append(text)
        if (one.split, other.split) == ("train", "test"):
            tested.add(other.id)
    tests = sum(seen.split == "test" for seen in examples)
    yield from grouped(
        "warning",
        f"pairs of nearly the same image across splits, with {len(tested)} of {tests} test images "
        "near one in train",
        across,
        "split anew so that a scene or an object stays in one split, or do not read the scores "
        "as those on new ones",
    )
    yield from grouped(
        "note",
        "pairs of nearly the same image inside a split",
        inside,
        "know that the split holds fewer independent images than it counts",
    )
