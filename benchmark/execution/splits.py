"""Benchmarks and their splits, opened once a process. Needs no torch."""

import functools
from pathlib import Path

from benchmark.data.base import Benchmark, Split, check_seal
from benchmark.data.cache import open_split
from benchmark.data.examples import Examples, Progress
from benchmark.planning.catalogue import open_set

_OPEN: dict[tuple[str, Path | None, Split], Examples] = {}


@functools.cache
def open_benchmark(name: str, root: Path | None) -> Benchmark:
    """The benchmark, once a process."""
    return open_set(name, root)


def decoded(
    name: str,
    root: Path | None,
    split: Split,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Examples:
    """A split, opened once a process; training images at the benchmark's working scale.

    Args:
        name: of the benchmark.
        root: data root.
        split: which one.
        progress: called while examples are decoded.
        threads: that decode; None = one a core.
    """
    check_seal(name, split)  # one that is open already, too
    key = (name, root, split)
    if key not in _OPEN:
        benchmark = open_benchmark(name, root)
        _OPEN[key] = open_split(benchmark, split, split == "train", progress, threads)
    return _OPEN[key]
