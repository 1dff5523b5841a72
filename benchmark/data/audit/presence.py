"""What makes results on a set wrong, as far as the index of a split tells.

An audit and `run` both ask here, so what is serious to one is serious to the other. An index is in
the cache; without a cache every file is read once for it.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from benchmark.data.audit.near_duplicates import Seen, copies
from benchmark.data.base import Benchmark, Finding, Split, grouped
from benchmark.data.examples import Examples

LEAST_RANGE = 0.1
"""Share of the range of values that the images of a set use at least."""

RARE, SELDOM = 0.005, 0.1
"""Shares of pixels and of images up to which a class may be one that nobody meant."""


def serious(benchmark: Benchmark, split: Split, examples: Examples) -> Iterator[Finding]:
    """What makes results on a split wrong.

    Args:
        benchmark: whose split.
        split: which one.
        examples: of it.
    """
    occurs = np.flatnonzero(examples.presence.any(axis=0))
    has_void = bool(examples.has_void.any())
    found = classes_found(benchmark, split, occurs, has_void)
    yield from (finding for finding in found if finding.severity == "serious")
    yield from small_range(examples.levels, f"the {split} split")


def seen_in(split: Split, examples: Examples) -> list[Seen]:
    """What `copies` compares of the examples of a split."""
    pairs = zip(examples.ids, examples.digests, strict=True)
    return [Seen(split, id, image.tobytes(), label.tobytes()) for id, (image, label) in pairs]


def serious_across(splits: Mapping[Split, list[Seen]]) -> Iterator[Finding]:
    """What makes results on one split wrong because of another.

    Args:
        splits: what a run opens: train, and the split that its scores come from.
    """
    scored: Split = next((split for split in splits if split != "train"), "train")
    found = copies([seen for some in splits.values() for seen in some], scored)
    yield from (finding for finding in found if finding.severity == "serious")


def classes_found(
    benchmark: Benchmark, split: Split, occurs: np.ndarray, has_void: bool
) -> Iterator[Finding]:
    """Classes that a split lacks.

    Args:
        benchmark: whose split.
        split: which one.
        occurs: indices of the classes with a pixel in the split.
        has_void: whether a pixel of the split is void.
    """
    names = benchmark.classes
    absent = [name for k, name in enumerate(names) if k not in occurs]
    special = benchmark.absent_fix(absent, has_void)
    if len(names) == 1:
        what = f"the set has one class only, {names[0]}: every prediction is right"
        yield Finding("serious", what, "add a class, such as one for the background")
    elif split == "train":
        fix = special or "check labels and split; a class without training images cannot be learnt"
        yield from grouped("serious", "classes absent from the train split", absent, fix)
    elif split == "test" and len(occurs) < 2 <= len(names):
        fix = special or "check labels and split; scores need at least two classes"
        what = f"classes absent from the {split} split, which has one class only"
        yield from grouped("serious", what, absent, fix)
    else:
        fix = "means leave these classes out; to include them, change the split"
        yield from grouped("warning", f"classes absent from the {split} split", absent, fix)


def small_range(levels: np.ndarray, what: str) -> Iterator[Finding]:
    """Images whose values are close together, usually because they have fewer bits than their type.

    Args:
        levels: (N, 2) uint8, of each image; see `Examples.levels`.
        what: has the images.
    """
    if not len(levels):
        return
    low, high = int(levels[:, 0].min()), int(levels[:, 1].max())
    if high - low < LEAST_RANGE * 255:
        yield Finding(
            "serious",
            f"the images of {what} use {(high - low) / 255:.1%} of the range of their values "
            f"({low} to {high} of 255)",
            "if they store fewer bits than their type has, write which values are black and white "
            "in the YAML file of the set, as in `range: [0, 4095]`",
        )
