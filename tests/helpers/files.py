"""Files for tests of what reads them."""

import os
import struct
import zlib
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


def png_file(width: int, height: int, depth: int = 8, colour: int = 2, body: bytes = b"") -> bytes:
    """A PNG whose checksums are right, whatever it says; `body` is not compressed yet."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    )
