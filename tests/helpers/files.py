"""Files for tests of what reads them."""

import os
from pathlib import Path

from benchmark.data.fake import small


def truncate(path: Path, share: float = 0.5) -> None:
    """Cuts the end off a file."""
    os.truncate(path, int(path.stat().st_size * share))


def write_all(root: Path) -> Path:
    """Writes every small set; returns the data root."""
    for write in small.WRITERS.values():
        write(root)
    return root
