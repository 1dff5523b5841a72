"""Files: written so that a crash leaves the old one or the new one, and hashed once a process."""

import hashlib
import os
import time
from pathlib import Path

from benchmark.core.processes import tag

_LOADED = time.time()


def unused(path: Path) -> Path:
    """The path if it is free, else the path with the first number appended that is free."""
    number, free = 0, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, so that they outlast a loss of power.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync(folder: Path) -> None:
    """Makes the files of a folder, and their names, outlast a loss of power."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def draft_beside(path: Path) -> Path:
    """A free name beside a path, for what takes its place when it is complete.

    A long name is cut: names have 255 bytes at most.
    """
    end = f".{tag()}"
    kept = os.fsencode(path.name)[: 254 - len(end)]
    return path.with_name(f".{os.fsdecode(kept)}{end}")


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Replaces a file as a whole: a draft beside it, synced, renamed, and the folder synced.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    draft = draft_beside(path)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


CHANGED = (
    "the program's files changed while it ran, as when it is updated; to resume, repeat the command"
)


def is_of_changed_files(error: Exception) -> bool:
    """Whether an error may be that of newer source files than those that this process began with.

    An import that comes late then meets modules, or names in them, that do not fit.
    """
    kinds = (ImportError, AttributeError, SyntaxError, NameError, TypeError)
    return isinstance(error, kinds) and _changed_since(_LOADED)


def _changed_since(seconds: float) -> bool:
    """Whether a source file of this package, or of the methods, has changed since a time.

    Args:
        seconds: since the epoch.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.with_name("methods")):
        for path in folder.rglob("*.py"):
            status = path.stat()
            # An installer sets the time of a file to that in its archive.
            if max(status.st_mtime, status.st_ctime) > seconds:
                return True
    return False


_HASHES: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, computed once a process for as long as its size and time stay the same.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    if key not in _HASHES:
        with path.open("rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]
