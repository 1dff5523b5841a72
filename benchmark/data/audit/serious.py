"""What makes results on a set wrong, as far as it is known without reading the set again.

`audit` finds more, in one pass over all files; `run` asks for this before anything is trained.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmark.data.audit.near_duplicates import grouped
from benchmark.data.base import Benchmark, Finding, Severity, Split
from benchmark.data.cache import open_split
from benchmark.data.examples import Examples

LEAST_RANGE = 0.1
"""Share of the range of values that the images of a set use at least."""


def serious_findings(
    benchmark: Benchmark, split: Split, examples: Examples | None = None
) -> tuple[Finding, ...]:
    """Serious findings in a split: absent classes in train or test, and hardly any contrast.

    Takes milliseconds on a split that is in the cache.

    Args:
        benchmark: whose split.
        split: which one.
        examples: of the split, where they are open already.

    Raises:
        DataError: the split is empty or all void; an example cannot be read; image and label differ
            in size; a label is out of range.
        RuntimeError: it is the test split, inside `seal_test`.
    """
    examples = open_split(benchmark, split) if examples is None else examples
    absent = np.flatnonzero(~examples.presence.any(axis=0))
    names = [benchmark.classes[k] for k in absent]
    found = [
        *absent_classes(benchmark, split, names, bool(examples.has_void.any())),
        *small_range(examples.levels, f"the {split} split"),
    ]
    return tuple(finding for finding in found if finding.severity == "serious")


def absent_classes(
    benchmark: Benchmark, split: Split, names: Sequence[str], has_void: bool
) -> Iterator[Finding]:
    """Classes that no pixel of a split has; serious where they are to be learnt or scored.

    Args:
        benchmark: whose split.
        split: which one.
        names: the classes.
        has_void: whether a pixel is void.
    """
    if split == "val":
        fix = "read means as those over the classes that occur, or split anew by class"
    else:
        fix = benchmark.absent_fix(names, has_void) or (
            "check the label values and the split; what is not trained on cannot be learnt"
            if split == "train"
            else "check the label values and the split; what is not in test cannot be scored"
        )
    severity: Severity = "warning" if split == "val" else "serious"
    yield from grouped(severity, f"classes absent from the {split} split", names, fix)


def small_range(levels: np.ndarray, what: str) -> Iterator[Finding]:
    """Images whose values lie close together: mostly more bits than are declared.

    Args:
        levels: (N, 2) uint8, of each image; see `Examples.levels`.
        what: the images are of.
    """
    if not len(levels):
        return
    low, high = int(levels[:, 0].min()), int(levels[:, 1].max())
    if high - low < LEAST_RANGE * 255:
        yield Finding(
            "serious",
            f"the images of {what} use {(high - low) / 255:.1%} of the range of their values "
            f"({low} to {high} of 255)",
            "if they store fewer bits than their type has, say which values are black and white in "
            "the YAML file of the set, as in `range: [0, 4095]`; else accept it",
        )
