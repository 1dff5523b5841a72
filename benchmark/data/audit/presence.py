"""What a split's decoded labels alone say against training on it: no file is read again."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmark.data.audit.near_duplicates import grouped
from benchmark.data.base import Benchmark, Finding, Split
from benchmark.data.examples import Direct, Examples


def serious(benchmark: Benchmark, split: Split, examples: Examples) -> Iterator[Finding]:
    """What makes results on a split wrong.

    Args:
        benchmark: whose split.
        split: which one.
        examples: of it; where they are not in the cache nothing is looked at, since every label
            would have to be read.
    """
    if not isinstance(examples, Direct):
        occurs = np.flatnonzero(examples.presence.any(axis=0))
        found = classes_found(split, benchmark.classes, occurs)
        yield from (finding for finding in found if finding.severity == "serious")


def classes_found(split: Split, names: Sequence[str], occurs: np.ndarray) -> Iterator[Finding]:
    """Classes that a split lacks.

    Args:
        split: which one.
        names: of the K classes.
        occurs: indices of those with a pixel in the split.
    """
    absent = [name for k, name in enumerate(names) if k not in occurs]
    if split == "train":
        fix = "check labels and split; a class without training images cannot be learnt"
        yield from grouped("serious", "classes absent from the train split", absent, fix)
    elif len(occurs) < 2 <= len(names):
        fix = "check labels and split; scores need at least two classes"
        what = f"classes absent from the {split} split, which has one class only"
        yield from grouped("serious", what, absent, fix)
    else:
        fix = "means leave these classes out; to include them, change the split"
        yield from grouped("warning", f"classes absent from the {split} split", absent, fix)
