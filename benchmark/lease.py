"""Who works on a cell: one lease file a cell, so that any number of processes share a grid.

A lease `.<run_id>.lease` beside the run's folder is created exclusively and names host, process and
a token. Its holder touches it as long as it lives. A lease is over when its process is dead, which
is known on the same host, or when it was not touched for `EXPIRY_SECONDS` by the clock of the file
system, which all hosts share: a host whose own clock jumps expires nobody's. Who finds one over
moves it away, looks whether it is the one it saw, and creates its own.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.errors import UserError
from benchmark.spec import RunSpec

HEARTBEAT_SECONDS = 20.0
EXPIRY_SECONDS = 120.0


def path_of(results: Path, spec: RunSpec) -> Path:
    """Where the lease of a cell lies."""
    final = results / spec.folder
    return final.with_name(f".{final.name}.lease")


@contextmanager
def hold(results: Path, spec: RunSpec) -> Iterator[bool]:
    """Holds the lease of a cell inside the block; yields whether it could be had.

    Raises:
        UserError: the folder cannot be written.
    """
    path = path_of(results, spec)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        token = _acquire(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be made ({error.strerror}); make room or mend permissions, or choose "
            "another folder with --results DIR"
        ) from error
    if token is None:
        yield False
        return
    done = threading.Event()
    keeper = threading.Thread(target=_touch, args=(path, done), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        if _read(path).get("token") == token:
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> str | None:
    while True:
        token = secrets.token_hex(8)
        content = {"token": token, "host": _place(), "pid": os.getpid(), "born": _born("self")}
        # Written beside and linked into place: nobody ever reads half a lease.
        draft = path.with_name(f"{path.name}.{token}")
        draft.write_text(json.dumps(content))
        try:
            os.link(draft, path)
            return token
        except FileExistsError:
            seen = _read(path).get("token")
            if not is_over(path) or not _remove(path, seen):
                return None
        finally:
            draft.unlink(missing_ok=True)


def is_over(path: Path) -> bool:
    """Whether nobody holds a lease any more; an unreadable one is judged by its age."""
    content = _read(path)
    if content.get("host") == _place():
        return _born(str(content.get("pid"))) != content.get("born")
    try:
        age = _now(path.parent) - path.stat().st_mtime
    except OSError:
        return False  # just released; the next try will see
    return age > EXPIRY_SECONDS


def _remove(path: Path, seen: object) -> bool:
    """Moves the expired lease with the token `seen` away; whether the way is free."""
    if _read(path).get("token") != seen:
        return False  # somebody was quicker
    away = path.with_name(f"{path.name}.over-{secrets.token_hex(4)}")
    try:
        os.rename(path, away)
    except FileNotFoundError:
        return True  # somebody was quicker, and may have it by now
    try:
        if _read(away).get("token") != seen:
            # Somebody moved the old one away and put a live one there in between: give it back.
            with contextlib.suppress(FileExistsError):
                os.link(away, path)
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


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def _now(folder: Path) -> float:
    """The time by the clock of the file system."""
    probe = folder / f".clock.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        probe.write_text("")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _place() -> str:
    """Names the host and its set of process numbers: containers have their own."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _born(pid: str) -> str | None:
    """When a process of this host started: its number may be given to another one later."""
    if pid != "self" and not pid.isdigit():
        return None
    try:
        text = Path("/proc", pid, "stat").read_text(errors="replace")
    except OSError:
        return _alive(pid)
    # The name in brackets may hold anything; field 22 is the start, and Z means that it is dead.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _alive(pid: str) -> str | None:
    """Where there is no /proc: whether the process lives."""
    if Path("/proc/self").exists() or not pid.isdigit():
        return None if pid != "self" else "alive"
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
