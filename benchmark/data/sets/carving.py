"""Splits and working size of the classic sets, whose public labels end at validation.

The field reports results on the official validation split, so it is `test` here; `val`, on which
settings may be chosen, is carved out of the official training split.
"""

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from benchmark.core.errors import DataError
from benchmark.data.base import Split, carve
from benchmark.data.files import FolderBenchmark, read_with

Official = Literal["train", "val"]


class CarvedBenchmark(FolderBenchmark):
    """Official validation is `test`; `val` is carved out of official training. Lists are cached.

    Class attributes:
        share: part of the official training split that becomes `val`.
    """

    share: ClassVar[float] = 0.02

    @abstractmethod
    def official(self, split: Official) -> list[str]:
        """Ids of an official split, in a fixed order.

        Raises:
            DataError: a folder or list is missing.
        """

    def stratum(self, id: str) -> Hashable:
        """Group of an id of the training split; `val` takes its share of each."""
        return ""

    def unit(self, id: str) -> str:
        """What an id of the training split shows a part of; `train` and `val` share no unit."""
        return id

    def ids(self, split: Split) -> list[str]:
        """See `Benchmark.ids`.

        Raises:
            DataError: an id is in both official splits.
        """
        return list(self._test if split == "test" else self._carved[split == "val"])

    @cached_property
    def _test(self) -> list[str]:
        return self.official("val")

    @cached_property
    def _carved(self) -> tuple[list[str], list[str]]:
        train = self.official("train")
        both = sorted(set(train) & set(self._test))
        if both:
            raise DataError(
                f"{self.path}: {both[0]} is in the official training and validation splits; "
                f"fetch the lists again from {self.origin}"
            )
        units: dict[str, list[str]] = {}
        for id in train:
            units.setdefault(self.unit(id), []).append(id)
        strata = {unit: self.stratum(members[0]) for unit, members in units.items()}
        stay, taken = carve_val(list(units), self.share, strata)
        return _members(stay, units), _members(taken, units)


def _members(names: Sequence[str], units: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted(id for name in names for id in units[name])


def carve_val(
    ids: Sequence[str], share: float, strata: Mapping[str, Hashable] | None = None
) -> tuple[list[str], list[str]]:
    """Takes a share of each stratum out of `ids`, but at least one id, by a fixed seed.

    Args:
        ids: of the training split.
        share: in (0, 1).
        strata: stratum of each id; None = one stratum.

    Returns:
        The ids that stay, and those taken out; both sorted.
    """
    # `carve` rounds towards its first split and leaves the rest to its last one.
    parts = carve(ids, (1 - share, 0, share), strata)
    if ids and not parts["test"]:
        parts = carve(ids, (1 - 1 / len(ids), 0, 1 / len(ids)))
    return parts["train"], parts["test"]


def read_list(path: Path, origin: str) -> list[str]:
    """First words of the lines of a list file.

    Raises:
        DataError: the file is missing or damaged, or lists a name twice.
    """
    lines = read_with(path, origin, lambda file: file.read().decode().splitlines())
    names = [line.split()[0] for line in lines if line.strip()]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(f"{path}: {twice} is listed twice; fetch it again from {origin}")
    return names


def shorter_side(height: int, width: int, side: int, longest: int) -> float:
    """Factor that brings the shorter side to `side` px, or the longer to `longest` if that is less.

    Example:
        >>> shorter_side(256, 512, 512, 2048)
        2.0
        >>> shorter_side(256, 2048, 512, 2048)
        1.0
    """
    return min(side / min(height, width), longest / max(height, width))
