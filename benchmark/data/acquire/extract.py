"""Unpacking of untrusted archives.

`zipfile` and `tarfile` read; nothing that an archive says about itself is trusted. Names must stay
below the target, only plain files and folders are made, and bytes are counted as they are written.
Everything is unpacked into a hidden folder first and moved into place when the whole archive has
been read without a fault.

`tarfile`'s `data` filter is not used: it lets links through, turns `/a` into `a`, and does nothing
for zip archives. One check of names serves both.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.format import size_text
from benchmark.data.acquire.download import CHUNK, Progress

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
RATIO = 400
"""How many times its own size an archive may unpack to, by default."""
MEMBERS = 2_000_000
DEPTH = 64
HEADER = 1 << 20
"""Bytes of a tar archive that one member may spend on what is not its content."""

_COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


class ArchiveError(UserError):
    """An archive is damaged, or holds what is not unpacked; another copy may be better."""


def is_archive(name: str) -> bool:
    """Whether a file of this name is one that `extract` is for."""
    return name.lower().endswith(SUFFIXES)


def extract(
    archive: Path,
    folder: Path,
    inside: str = "",
    limit_bytes: int | None = None,
    limit_members: int = MEMBERS,
    progress: Progress | None = None,
) -> int:
    """Unpacks a zip or tar archive, the latter plain or compressed by gzip, bzip2 or xz.

    Files that are already in `folder` stay unless the archive has them too, since some sets come
    in several archives. Modes, owners and dates are not taken from the archive.

    Args:
        archive: its kind is recognised by its first bytes.
        folder: where to; made if it is missing.
        inside: folder within the archive whose content is taken, `*` for one component of any
            name; empty = everything.
        limit_bytes: that the content taken may have; None = 400 times the archive's size.
        limit_members: files and folders that the archive may have.
        progress: called with the bytes of the archive read, and their total.

    Returns:
        How many files were unpacked.

    Raises:
        ArchiveError: the archive is damaged, is none, has no folder `inside`, or has a member that
            is dangerous, encrypted, a link or a device; no files are left.
        UserError: the disk is full, or the folder cannot be written.
    """
    # In the nearest folder that exists: on the target's disk, and without leaving parents.
    home = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    stage = home / f".unpacking-{archive.name}"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        stage.mkdir()
        with archive.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            room = shutil.disk_usage(home).free
            limit = RATIO * size if limit_bytes is None else limit_bytes
            count = written = 0
            for number, member in enumerate(_members(file, archive)):
                if number >= limit_members:
                    raise ArchiveError(
                        f"{archive} has more than {limit_members:,} files and folders; no "
                        "benchmark has so many: fetch it from its origin"
                    )
                # Names are checked everywhere in the archive, links only where they would be
                # unpacked: a repository may hold some elsewhere.
                rest = _below(_parts(member.name, archive), inside)
                if not rest:
                    continue
                if member.refusal:
                    raise _refused(archive, member.name, member.refusal)
                path = stage.joinpath(*rest)
                if member.is_folder:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as target:
                    for chunk in _content(member, archive):
                        written += len(chunk)
                        if written > min(limit, room):
                            raise _too_large(archive, home, limit, room)
                        target.write(chunk)
                        if progress:
                            progress(min(file.tell(), size), size)
                count += 1
        if not count:
            raise ArchiveError(
                f"{archive} has no file in a folder {inside!r}; its origin may have changed it"
                if inside
                else f"{archive} has no files; fetch it again"
            )
        if folder.is_dir():
            shutil.copytree(stage, folder, copy_function=os.replace, dirs_exist_ok=True)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage, folder)
    except OSError as error:
        raise UserError(
            f"{archive} cannot be unpacked into {folder} ({error.strerror or on_one_line(error)}); "
            "make room there, or fix its permissions, and repeat the command"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return count


class _Member(NamedTuple):
    """A file or folder of an archive."""

    name: str  # as the archive has it
    is_folder: bool
    refusal: str  # why it is not unpacked; empty = it is
    open: Callable[[], IO[bytes] | None]


def _members(file: BinaryIO, archive: Path) -> Iterator[_Member]:
    head = file.read(6)
    file.seek(0)
    with _reading(archive):
        if head.startswith(b"PK"):
            yield from _zip_members(file)
            return
        opens = (open for magic, open in _COMPRESSIONS.items() if head.startswith(magic))
        yield from _tar_members(next(opens, lambda plain: plain)(file))


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            refusal = ""
            if info.flag_bits & 1:
                refusal = "is encrypted"
            elif mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                refusal = "is a link or a device"
            yield _Member(info.filename, info.is_dir(), refusal, partial(archive.open, info))


def _tar_members(stream: Any) -> Iterator[_Member]:
    reader = _TarReader(stream)
    with tarfile.open(fileobj=reader, mode="r:") as archive:
        while info := archive.next():
            reader.left = info.size + HEADER
            # Else the archive keeps every header that it has read.
            archive.members.clear()  # type: ignore[attr-defined]
            plain = (info.isreg() and not info.issparse()) or info.isdir()
            refusal = "" if plain else "is a link or a device"
            yield _Member(info.name, info.isdir(), refusal, partial(archive.extractfile, info))
        # To `tarfile`, a damaged header or a missing rest is the end, too. The true one is zeros,
        # and only after the last byte does a compressed stream prove that it is whole.
        reader.seek(archive.offset)
        rest = io.BufferedReader.read(reader, tarfile.BLOCKSIZE)
        whole = len(rest) == tarfile.BLOCKSIZE
        while rest and (whole := whole and not rest.strip(b"\0")):
            rest = io.BufferedReader.read(reader, CHUNK)
        if not whole:
            raise tarfile.ReadError("the mark of the end is missing")


class _TarReader(io.BufferedReader):
    """Reads no header that pretends to be as long as the memory, which `tarfile` does not mind."""

    left = HEADER

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= size or 0
        if self.left < 0:
            raise tarfile.ReadError("a header is too long")
        return super().read(size)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Reports any error of reading an archive on one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Damage can raise almost any exception in the readers.
        raise ArchiveError(
            f"{archive} is truncated, damaged or no zip or tar archive ({on_one_line(error)}); "
            "fetch it again"
        ) from error


def _content(member: _Member, archive: Path) -> Iterator[bytes]:
    with _reading(archive):
        content = member.open()
        assert content is not None, "only files are opened"
        with content:
            while chunk := content.read(CHUNK):
                yield chunk


def _parts(name: str, archive: Path) -> tuple[str, ...]:
    """Components of a member's name.

    Raises:
        ArchiveError: it may lead out of the target, on this system or another.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or any(re.match("[A-Za-z]:", part) for part in parts):
        raise _refused(archive, name, "has an absolute name")
    if ".." in parts or "\\" in name:
        raise _refused(archive, name, "has a name that may lead elsewhere")
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(parts) > DEPTH:
        raise _refused(archive, name, "has too long a name")
    return parts


def _below(parts: tuple[str, ...], inside: str) -> tuple[str, ...]:
    """What is left of a name below the folder `inside`; nothing if it is not in there."""
    wanted = tuple(part for part in inside.split("/") if part)
    head, rest = parts[: len(wanted)], parts[len(wanted) :]
    fits = len(head) == len(wanted) and all(
        want in ("*", part) for want, part in zip(wanted, head, strict=True)
    )
    return rest if fits else ()


def _refused(archive: Path, name: str, why: str) -> ArchiveError:
    shown = repr(name if len(name) <= 80 else name[:77] + "...")
    return ArchiveError(
        f"{archive}: its member {shown} {why}; nothing was unpacked: fetch it from its origin"
    )


def _too_large(archive: Path, home: Path, limit: int, room: int) -> UserError:
    if room < limit:
        return UserError(
            f"{home} has room for {size_text(room)}, and {archive} unpacks to more; make room and "
            "run again"
        )
    return ArchiveError(
        f"{archive} unpacks to more than {size_text(limit)}, which no benchmark does; nothing was "
        "unpacked: fetch it from its origin"
    )
