"""Tiny fake data in the official layout of every set: for tests, and to try a grid beforehand."""

from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.data.base import Benchmark
from benchmark.data.fake import small, standard

WRITERS = small.WRITERS | standard.WRITERS
"""Writer of each set with files, by the name of its benchmark."""


def write_fake(kind: type[Benchmark], root: Path) -> Path:
    """Writes fake data for a benchmark below a data root, where nothing of it is yet.

    Returns:
        The folder of the set.

    Raises:
        UserError: there is data already, or the set has no writer of fake data.
    """
    if kind.folder is None or kind.name not in WRITERS:
        raise UserError(f"{kind.name}: there is no fake data for it; use the set itself")
    mark = root / kind.folder / "FAKE.txt"
    if mark.exists():
        return mark.parent  # of an earlier call, or of a set that shares the folder
    if (root / kind.folder).exists():
        raise UserError(
            f"{root / kind.folder} exists: fake data never goes among real ones; name an empty "
            "folder by --data"
        )
    try:
        folder = WRITERS[kind.name](root)
        mark.write_text("Fake data for trying things out.\n")
    except OSError as error:
        raise UserError(
            f"{kind.name}: fake data cannot be written to {root} ({error.strerror}); name another "
            "folder by --data"
        ) from error
    return folder
