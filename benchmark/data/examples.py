"""Decoded examples as a sequence, from memory, the cache or files."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.machine import cores
from benchmark.data.base import IGNORE, Benchmark, Example, Split, read_example
from benchmark.data.pixels import MOST_PIXELS

PLAIN = bytes(16)
"""The digest of an image of one colour, which is not compared with others."""

Progress = Callable[[str, int, int], None]
"""Called while a split is decoded: what it is, examples so far, examples in all."""


class Examples(Sequence[Example]):
    """Examples of a split, in the order of its ids.

    Attributes:
        ids: of the examples.
        sha256: fingerprint of ids, native sizes, pixels and labels.
        presence: (N, K) bool, whether a class has a pixel in an image.
        has_void: (N,) bool, whether a pixel of an image is void.
        levels: (N, 2) uint8, nearly the least and the largest value of an image (`levels_of`).
        digests: (N, 2, 16) uint8, by which equal images and equal labels are known (`digests_of`).
    """

    ids: Sequence[str]
    sha256: str
    presence: np.ndarray
    has_void: np.ndarray
    levels: np.ndarray
    digests: np.ndarray

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


def presence_in(label: np.ndarray, classes: int) -> tuple[np.ndarray, bool]:
    """Whether each class has a pixel in a label, and whether one is void."""
    counts = np.bincount(label.ravel(), minlength=256)
    return counts[:classes] > 0, bool(counts[IGNORE])


def levels_of(image: np.ndarray) -> tuple[int, int]:
    """Values that 0.1 % of an image are below and above, in every fourth row and column.

    A few defective pixels, which sensors have, do not count.
    """
    return quantiles(np.bincount(image[::4, ::4].ravel(), minlength=256))


def digests_of(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(2, 16) uint8 of image and label that differ where shapes or values do.

    That of an image of one colour is `PLAIN`.
    """

    def digest(values: np.ndarray) -> bytes:
        state = blake2b(repr(values.shape).encode(), digest_size=16)
        state.update(np.ascontiguousarray(values).data)
        return state.digest()

    plain = bool((image == image[:1, :1]).all())
    both = (PLAIN if plain else digest(image)) + digest(label)
    return np.frombuffer(both, np.uint8).reshape(2, 16)


def quantiles(counts: np.ndarray) -> tuple[int, int]:
    """The values that 0.1 % are below and above, from how often each one occurs."""
    shares = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = np.searchsorted(shares, (0.001, 0.999))
    return int(low), int(min(high, len(counts) - 1))


def offsets(shapes: np.ndarray) -> np.ndarray:
    """Where examples of sizes (H, W, C) begin in a file, and where it ends: (N + 1,) int64."""
    height, width, channels = shapes.astype(np.int64).T
    return np.append(0, np.cumsum(height * width * (channels + 1)))


@dataclass(frozen=True)
class Index:
    """What is known of the examples of a file.

    Attributes:
        ids: of the examples.
        shapes: (N, 3) int32, height, width and channels of the images in the file.
        presence, has_void, levels, digests, sha256: see `Examples`.
    """

    ids: list[str]
    shapes: np.ndarray
    presence: np.ndarray
    has_void: np.ndarray
    levels: np.ndarray
    digests: np.ndarray
    sha256: str


class Mapped(Examples):
    """Examples in one memory-mapped file, which all processes share."""

    def __init__(self, path: Path, index: Index) -> None:
        self.path, self.ids, self.shapes, self.sha256 = path, index.ids, index.shapes, index.sha256
        self.presence, self.has_void, self.levels = index.presence, index.has_void, index.levels
        self.digests = index.digests
        self._offsets = offsets(self.shapes)
        # Held from now on: another process may remove the file's name.
        self._bytes = np.memmap(path, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        # Sent to a worker process: the file's name, not its content.
        return {**self.__dict__, "_bytes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_bytes": np.memmap(state["path"], np.uint8, "r")}

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        height, width, channels = map(int, self.shapes[index])
        begin, end = self._offsets[index], self._offsets[index + 1]
        middle = begin + channels * height * width
        # Plain arrays over the map: slices of a memmap carry its bookkeeping along.
        data = np.asarray(self._bytes)
        return Example(
            self.ids[index],
            data[begin:middle].reshape(height, width, channels),
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
        self._scanned: dict[str, np.ndarray] = {}
        self.at(0)  # finds the usual faults before anything is trained

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        return resized(self.benchmark, read_example(self.benchmark, self.ids[index]), self.scaled)

    def scan(
        self, progress: Progress | None = None, threads: int | None = None
    ) -> dict[str, np.ndarray]:
        """Reads every example once, at native size: what `Examples` says of each, by name.

        Args:
            progress: called during the work.
            threads: that read; None = one a core.

        Raises:
            DataError: an example cannot be read, or no pixel of the split is labelled.
        """
        if self._scanned:
            return self._scanned
        found: list[tuple[np.ndarray, bool, tuple[int, int], np.ndarray]] = []
        workers = min(8, threads or cores())
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(self.ids), 4 * workers):
                found += pool.map(self._look, self.ids[start : start + 4 * workers])
                if progress:
                    name = f"{self.benchmark.name} {self.split}"
                    progress(name, len(found), len(self.ids))
        presence, has_void, levels, digests = zip(*found, strict=True)
        if not np.any(presence):
            raise no_label(self.benchmark, self.split, self.ids)
        self._scanned = {
            "presence": np.stack(presence),
            "has_void": np.array(has_void),
            "levels": np.array(levels, np.uint8),
            "digests": np.stack(digests),
        }
        return self._scanned

    def _look(self, id: str) -> tuple[np.ndarray, bool, tuple[int, int], np.ndarray]:
        example = read_example(self.benchmark, id)
        classes, void = presence_in(example.label, len(self.benchmark.classes))
        return classes, void, levels_of(example.image), digests_of(example.image, example.label)

    @property
    def presence(self) -> np.ndarray:  # type: ignore[override]
        """See `Examples`; reads every example when it is first asked for."""
        return self.scan()["presence"]

    @property
    def has_void(self) -> np.ndarray:  # type: ignore[override]
        """See `presence`."""
        return self.scan()["has_void"]

    @property
    def levels(self) -> np.ndarray:  # type: ignore[override]
        """See `presence`."""
        return self.scan()["levels"]

    @property
    def digests(self) -> np.ndarray:  # type: ignore[override]
        """See `presence`."""
        return self.scan()["digests"]


class Part(Examples):
    """Some examples of a split."""

    def __init__(self, whole: Examples, indices: np.ndarray) -> None:
        self.whole, self.indices = whole, indices
        self.ids = [whole.ids[i] for i in indices]
        self.sha256 = whole.sha256

    def at(self, index: int) -> Example:
        """See `Examples.at`."""
        return self.whole.at(int(self.indices[index]))

    @property
    def presence(self) -> np.ndarray:  # type: ignore[override]
        """Of these examples."""
        return self.whole.presence[self.indices]

    @property
    def has_void(self) -> np.ndarray:  # type: ignore[override]
        """Of these examples."""
        return self.whole.has_void[self.indices]

    @property
    def levels(self) -> np.ndarray:  # type: ignore[override]
        """Of these examples."""
        return self.whole.levels[self.indices]

    @property
    def digests(self) -> np.ndarray:  # type: ignore[override]
        """Of these examples."""
        return self.whole.digests[self.indices]


def resized(benchmark: Benchmark, example: Example, scaled: bool) -> Example:
    """The example at the benchmark's working scale if it is to be `scaled`, else as it is."""
    if not scaled:
        return example
    from benchmark.data.batches import at_working_scale

    factor = benchmark.scale(*example.label.shape)
    if factor**2 * example.label.size > MOST_PIXELS:
        height, width = (round(factor * side) for side in example.label.shape)
        raise DataError(
            f"{benchmark.where(example.id)} would be resized to {width}x{height} px, more than "
            f"{MOST_PIXELS // 10**6} million pixels; write a smaller `scale` or `shorter_side`"
        )

    return at_working_scale(benchmark, example)


def no_label(benchmark: Benchmark, split: Split, ids: Sequence[str]) -> DataError:
    """What to say of a split without a labelled pixel."""
    return DataError(
        f"{benchmark.where(ids[0])}: no pixel of the {split} split is labelled, all are void; "
        "check the label values"
    )
