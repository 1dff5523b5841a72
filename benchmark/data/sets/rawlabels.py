"""Label values as official files store them, and what they mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.files import read_with

_MEANINGLESS = -1


def lookup_table(meaning: Mapping[int, int]) -> np.ndarray:
    """Table for `look_up` from raw value to class index or 255."""
    table = np.full(max(meaning) + 1, _MEANINGLESS, dtype=np.int16)
    table[list(meaning)] = list(meaning.values())
    return table


MASK = lookup_table({0: 0, 1: 1, 255: 1})
"""Of masks of one class: files of one bit store 0 and 1, those of eight either that or 0 and 255.

A threshold at 128 would make the former all background.
"""


def look_up(raw: np.ndarray, table: np.ndarray, where: str, origin: str) -> np.ndarray:
    """Replaces every raw value by its class.

    Args:
        raw: (H, W) of any integer type.
        table: (n,), from `lookup_table`.
        where: the label file, for the error.
        origin: where to fetch it again, for the error.

    Returns:
        (H, W) uint8, class index or 255.

    Raises:
        DataError: the table gives a raw value no meaning.
    """
    inside = (raw >= 0) & (raw < len(table))
    label = table[np.where(inside, raw, 0)]
    bad = ~inside | (label == _MEANINGLESS)
    if bad.any():
        raise DataError(
            f"{where}: label value {int(raw[bad][0])} is out of range, no class of the set has it; "
            f"fetch it again from {origin}"
        )
    return label.astype(np.uint8)


def read_mat(path: Path, origin: str, key: str, field: str = "") -> np.ndarray:
    """A label map (H, W) int32 out of a MATLAB file.

    Args:
        path: the file.
        origin: where to fetch it again, for the error.
        key: name of the variable.
        field: of the variable, where that is a struct.

    Raises:
        DataError: the file is missing or damaged, or holds no such map of whole numbers.
    """

    def decode(file: BinaryIO) -> Any:
        from scipy.io import loadmat

        values = loadmat(file, variable_names=[key])[key]
        if field:
            values = values[field][0, 0]
        raw = values.astype(np.int32)
        if raw.ndim != 2 or (raw != values).any():
            raise ValueError("not a map of whole numbers")
        return raw

    return read_with(path, origin, decode)
