"""Arrays of one shape by number, in a file of the cache that any number of processes share."""

import os
import zlib
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmark.core.cache_folder import CacheFolder
from benchmark.data.cache import make_room

_CHECK = 4
"""Bytes of the checksum after a row; rows never or only partly written do not have a valid one."""


class Rows:
    """A file of rows, each written once, by the process that needs it first.

    Processes that write a row at the same time write the same bytes. Rows are written by calls,
    which fail on a full disk, and read through a map of the file.

    Args:
        path: of the file, which `create` made.
        count: rows.
        size: bytes of a row.
    """

    def __init__(self, path: Path, count: int, size: int) -> None:
        self.size = size
        self._file = os.open(path, os.O_RDWR)
        self._map = np.memmap(path, np.uint8, "r", shape=(count, size + _CHECK))

    def read(self, number: int) -> np.ndarray | None:
        """A copy of a row, (size,) uint8; None where it is missing or damaged."""
        row = np.array(self._map[number])
        whole = int.from_bytes(row[self.size :].tobytes(), "little")
        row = row[: self.size]
        return row if zlib.crc32(row.data) == whole else None

    def write(self, number: int, row: np.ndarray) -> None:
        """Stores a row, (size,) uint8.

        Raises:
            OSError: the disk is full.
        """
        content = row.tobytes() + zlib.crc32(row.data).to_bytes(_CHECK, "little")
        start = number * (self.size + _CHECK)
        while content:
            written = os.pwrite(self._file, content, start)
            content, start = content[written:], start + written

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)


def create(where: CacheFolder, name: str, count: int, size: int) -> Rows:
    """Opens the rows of a name in the cache, which are all missing where it is new.

    Args:
        where: the cache; it has a folder.
        name: contains everything that the rows depend on.
        count: rows.
        size: bytes of a row.

    Raises:
        OSError: there is no room, or the folder cannot be written.
    """
    assert where.folder is not None
    where.folder.mkdir(parents=True, exist_ok=True)
    target = where.folder / f"{name}.bin"
    index = target.with_suffix(".npz")
    whole = count * (size + _CHECK)
    with FileLock(f"{target}.lock"):
        if not (index.exists() and target.exists() and target.stat().st_size == whole):
            if not make_room(where, whole):
                raise OSError(f"{whole / 2**30:.1f} GiB are more than there is room for")
            with target.open("wb") as file:
                file.truncate(whole)
            np.savez(index, shape=np.array([count, size]))
        os.utime(index)  # used now: what was not used for longest gives way first
        return Rows(target, count, size)
