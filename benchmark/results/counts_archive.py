"""Reads the class counts of an images.npz, several times as fast as `np.load`.

A report reads thousands of small archives, and most of the time of `np.load` goes into parsing the
same headers again and again. Nothing is unpickled.
"""

import io
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

_LOCAL = struct.Struct("<26xHH")
"""Header of a member of a zip: its last fields are the lengths of the name and of the extras."""

_PREFIX = 10
"""Bytes of a version 1.0 npy file before its header: magic, version, length of the header."""

Fingerprint = tuple[tuple[int, int], ...]


class Archive:
    """One images.npz, held in memory, its arrays decoded when they are asked for.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive, or a torn one.
    """

    def __init__(self, path: str | Path) -> None:
        with open(path, "rb") as file:
            self._content = file.read()
        with ZipFile(io.BytesIO(self._content)) as archive:
            self._members = {one.filename: one for one in archive.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        """An array by its name; read-only.

        Raises:
            KeyError: there is none of this name.
            Exception: the member is damaged; zip, zlib and numpy fail in many ways.
        """
        member = self._members[f"{name}.npy"]
        header = self._content[member.header_offset : member.header_offset + _LOCAL.size]
        start = member.header_offset + _LOCAL.size + sum(_LOCAL.unpack(header))
        content = self._content[start : start + member.compress_size]
        if member.compress_type == ZIP_DEFLATED:
            content = zlib.decompress(content, -zlib.MAX_WBITS, member.file_size)
        elif member.compress_type != ZIP_STORED:
            raise BadZipFile("unknown compression")
        if zlib.crc32(content) != member.CRC:
            raise BadZipFile("wrong checksum")
        return _decode(content)

    def fingerprint(self, *names: str) -> Fingerprint:
        """Checksum and length of arrays, from the directory of the archive alone.

        Arrays whose CRC-32 and length agree are taken to be equal: these are files of one's own,
        and `ids` and `label` would both have to collide.
        """
        members = [self._members[f"{name}.npy"] for name in names]
        return tuple((member.CRC, member.file_size) for member in members)


def _decode(content: bytes) -> np.ndarray:
    if content[6:8] != b"\x01\x00":
        return npy.read_array(io.BytesIO(content), allow_pickle=False)
    start = _PREFIX + int.from_bytes(content[8:_PREFIX], "little")
    shape, fortran, dtype = _header(content[:start])
    flat = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=256)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    file = io.BytesIO(content)
    npy.read_magic(file)
    return npy.read_array_header_1_0(file)
