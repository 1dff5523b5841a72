"""Who works on a cell: one lease file a cell, so that any number of processes share a grid.

A lease `.<run_id>.lease` beside the run's folder is created exclusively and names host, process and
a token. Its holder touches it as long as it lives. A lease is over when its process is dead, which
is known on the same host, or when it was not touched for `EXPIRY_SECONDS` by the clock of the file
system, which all hosts share: a host whose own clock jumps expires no lease. A process that finds
an expired lease moves it away, checks that it is the one it saw, and creates its own. A holder that
paused for so long, on a host that slept, sees at its next heartbeat that another has the lease.
"""

import contextlib
import errno
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.files import make_folder
from benchmark.core.processes import HIDDEN, born, place, tag
from benchmark.core.spec import RunSpec

HEARTBEAT_SECONDS = 20.0
EXPIRY_SECONDS = 120.0

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""How file systems without hard links refuse one."""


def path_of(results: Path, spec: RunSpec) -> Path:
    """Path of a cell's lease."""
    final = results / spec.folder
    return final.with_name(f".{final.name}.lease")


@contextmanager
def hold(results: Path, spec: RunSpec, lost: Callable[[], object] | None = None) -> Iterator[bool]:
    """Holds the lease of a cell inside the block; yields whether it could be had.

    Args:
        results: folder of the results.
        spec: the cell.
        lost: called, from another thread, where the lease is found to be another's.

    Raises:
        UserError: the folder cannot be written.
    """
    path = path_of(results, spec)
    try:
        make_folder(path.parent)
        token = _acquire(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be created ({error.strerror}); make room or fix permissions, or choose "
            "another folder with --results DIR"
        ) from error
    if token is None:
        yield False
        return
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(path, token, done, lost), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        # What the block did stays, even if the folder cannot be changed any more.
        with contextlib.suppress(OSError):
            if _read(path).get("token") == token:
                path.unlink(missing_ok=True)


def _acquire(path: Path) -> str | None:
    while True:
        token = secrets.token_hex(8)
        content = {"token": token, "host": place(), "pid": os.getpid(), "born": born("self")}
        # Written beside and linked into place, so a lease is never read half-written.
        draft = path.with_name(f".{path.name}.{tag()}")
        try:
            draft.write_text(json.dumps(content))
            _put(draft, path)
            return token
        except FileExistsError:
            seen = _read(path).get("token")
            if not is_over(path) or not _remove(path, seen):
                return None
        finally:
            draft.unlink(missing_ok=True)


def _put(draft: Path, path: Path) -> None:
    """Gives a file a second name, which must be free; a copy where there are no hard links.

    A process that reads such a copy while it is written sees no token and judges it by its age.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("xb") as file:
            file.write(draft.read_bytes())


def is_over(path: Path) -> bool:
    """Whether a lease is no longer held; an unreadable one is judged by its age."""
    content = _read(path)
    if content.get("host") == place():
        started = born(str(content.get("pid")))
        if started != HIDDEN:
            return started != content.get("born")
    try:
        age = _now(path.parent) - path.stat().st_mtime
    except OSError:
        return False  # just released; the next try will see
    return age > EXPIRY_SECONDS


def _remove(path: Path, seen: object) -> bool:
    """Moves the expired lease with the token `seen` away; whether the way is free."""
    if _read(path).get("token") != seen:
        return False  # another process was quicker
    away = path.with_name(f".{path.name}.over.{tag()}")
    try:
        os.rename(path, away)
    except FileNotFoundError:
        return True  # another process was quicker, and may hold it by now
    try:
        if _read(away).get("token") != seen:
            # In between, another process replaced the old one by a live one: put it back.
            with contextlib.suppress(FileExistsError):
                _put(away, path)
            return False
        return True
    finally:
        away.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(path: Path, token: str, done: threading.Event, lost: Callable[[], object] | None) -> None:
    """Touches a lease until it is given up, or is another's."""
    while not done.wait(HEARTBEAT_SECONDS):
        there = _read(path).get("token")
        if there == token:
            with contextlib.suppress(OSError):
                os.utime(path)
        elif there is not None and lost is not None:
            lost()
            return


def _now(folder: Path) -> float:
    """The time by the clock of the file system."""
    probe = folder / f".clock.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        probe.write_text("")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
