"""Who works on a cell: one lock file a cell, so that any number of grids share a folder.

A cell is run by the process that has locked `.<run_id>.lock` beside the run's folder. The lock is
the operating system's (`flock`), so it is free the moment its process ends, however that ends, and
no clock is asked. On a network disk the same holds as far as its locks do: NFS passes them to the
server (`flock` on Linux since 2.6.12; not with the option `local_lock`), which frees those of a
host that is gone after its grace period; Lustre needs the option `flock`. A folder without locks is
refused.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.core.errors import UserError
from benchmark.core.files import make_folder
from benchmark.core.spec import RunSpec

END = ".lock"
"""Of the hidden name."""


def path_of(results: Path, spec: RunSpec) -> Path:
    """Path of a cell's lock."""
    return _beside(results / spec.folder)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{END}")


def hold(results: Path, spec: RunSpec) -> AbstractContextManager[bool]:
    """Holds the lock of a cell inside the block; see `hold_run`."""
    return hold_run(results / spec.folder)


@contextmanager
def hold_run(folder: Path) -> Iterator[bool]:
    """Holds the lock of the cell whose run is in a folder; yields whether it could be had.

    Raises:
        UserError: the folder cannot be written, or its disk has no locks.
    """
    path = _beside(folder)
    lock = _lock(path)
    try:
        make_folder(path.parent)
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise UserError(
            f"{path} cannot be locked ({error.strerror}); make room or fix permissions, or choose "
            "another folder with --results DIR"
        ) from error
    try:
        yield True
    finally:
        # Removed while it is held: who locks the removed file instead is told so by filelock. What
        # the block did stays, even if the folder cannot be changed any more.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds a lock; the file stays as it is.

    Raises:
        OSError: that cannot be found out.
    """
    try:
        there = path.stat().st_ino
    except FileNotFoundError:
        return False
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    try:
        if path.stat().st_ino != there:  # removed meanwhile, and made anew by this
            path.unlink()
    finally:
        lock.release()
    return False


def _lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False, fallback_to_soft=False)
