"""Reading the record of a run; it may be torn, foreign, huge or a pipe."""

import stat
from pathlib import Path

from benchmark.core.record import RECORD, Record, parse

LARGEST = 2**30
"""Bytes of a file, packed or not, beyond which it is nothing that the store wrote."""


def check_size(path: Path) -> int:
    """Bytes of a regular file; opening a pipe would wait for ever.

    Raises:
        OSError: it is not there.
        ValueError: it is no file, or too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a file")
    if status.st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return status.st_size


def read_bytes(path: Path) -> bytes:
    """The content of a file that is not trusted; raises as `check_size`."""
    check_size(path)
    return path.read_bytes()


def read(folder: Path) -> Record:
    """The record in a run's folder.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, with the first problem on one line; `UnknownVersion` if it is of a
            later version.
    """
    return parse(read_bytes(folder / RECORD))
