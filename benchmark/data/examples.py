"""Decoded examples as a sequence, from memory, the cache or files."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import Benchmark, Example, Split, read_example


class Examples(Sequence[Example]):
    """Examples of a split, in the order of its ids.

    Attributes:
        ids: of the examples.
        sha256: fingerprint of ids, native sizes, pixels and labels.
        presence: (N, K) bool, whether a class has a pixel in an image.
    """

    ids: Sequence[str]
    sha256: str
    presence: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        """The example at `index`; an image may be read-only."""
        if isinstance(index, slice):
            return [self.at(i) for i in range(len(self))[index]]
        return self.at(range(len(self))[index])

    def __iter__(self) -> Iterator[Example]:
        return (self.at(i) for i in range(len(self)))

    @abstractmethod
    def at(self, index: int) -> Example:
        """The example at 0 <= index < len."""


def offsets(shapes: np.ndarray) -> np.ndarray:
    """Where examples of these sizes begin in a file, and where it ends: (N + 1,) int64."""
    return np.append(0, np.cumsum(4 * shapes.astype(np.int64).prod(1)))


class Mapped(Examples):
    """Examples in one memory-mapped file, which all processes share."""

    def __init__(
        self, path: Path, ids: list[str], shapes: np.ndarray, presence: np.ndarray, sha256: str
    ) -> None:
        self.ids, self.shapes, self.presence, self.sha256 = ids, shapes, presence, sha256
        self.path, self._offsets = path, offsets(shapes)
        # Held from now on: another process may remove the file's name.
        self._bytes = np.memmap(path, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        # Sent to a worker process: the file's name, not its content.
        return {**self.__dict__, "_bytes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_bytes": np.memmap(state["path"], np.uint8, "r")}

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        height, width = map(int, self.shapes[index])
        begin, end = self._offsets[index], self._offsets[index + 1]
        middle = begin + 3 * height * width
        # Plain arrays over the map: slices of a memmap carry its bookkeeping along.
        data = np.asarray(self._bytes)
        return Example(
            self.ids[index],
            data[begin:middle].reshape(height, width, 3),
            data[middle:end].reshape(height, width),
        )


class Direct(Examples):
    """Examples that are decoded whenever they are asked for.

    `sha256` is a fingerprint of the source files' names, sizes and times: reading all pixels for
    it could take hours.
    """

    def __init__(
        self, benchmark: Benchmark, split: Split, ids: list[str], scaled: bool, key: str
    ) -> None:
        self.benchmark, self.split, self.ids, self.scaled = benchmark, split, ids, scaled
        self.sha256 = f"files:{key}"
        self.at(0)  # finds the usual faults before anything is trained

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        return resized(self.benchmark, read_example(self.benchmark, self.ids[index]), self.scaled)

    @cached_property
    def presence(self) -> np.ndarray:  # type: ignore[override]
        """Reads every label once, at native size."""
        labels = (read_example(self.benchmark, id).label for id in self.ids)
        classes = len(self.benchmark.classes)
        found = np.stack([np.bincount(x.ravel(), minlength=256)[:classes] > 0 for x in labels])
        if not found.any():
            raise no_label(self.benchmark, self.split, self.ids)
        return found


class Part(Examples):
    """Some examples of a split."""

    def __init__(self, whole: Examples, indices: np.ndarray) -> None:
        self.whole, self.indices = whole, indices
        self.ids = [whole.ids[i] for i in indices]
        self.sha256 = whole.sha256

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        return self.whole.at(int(self.indices[index]))

    @cached_property
    def presence(self) -> np.ndarray:  # type: ignore[override]
        """Of these examples."""
        return self.whole.presence[self.indices]


def resized(benchmark: Benchmark, example: Example, scaled: bool) -> Example:
    """The example at the benchmark's working scale if it is to be `scaled`, else as it is."""
    if not scaled:
        return example
    from benchmark.data.batches import at_working_scale

    return at_working_scale(benchmark, example)


def no_label(benchmark: Benchmark, split: Split, ids: Sequence[str]) -> DataError:
    """What to say of a split without a labelled pixel."""
    return DataError(
        f"{benchmark.where(ids[0])}: no pixel of the {split} split is labelled, all are void; "
        "check the label values"
    )
