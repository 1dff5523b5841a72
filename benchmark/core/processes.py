"""Processes of this host: which one is meant, and whether it lives."""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

LONGEST = 10
"""Digits of a process number."""

TAG = rf"[0-9a-f]{{8}}-\d{{1,{LONGEST}}}-[0-9a-f]{{4}}"
"""Pattern of what `tag` makes."""


def is_alive(pid: int) -> bool:
    """Whether a process has this number now."""
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def place() -> str:
    """Names the host and its set of process numbers: containers have their own."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def tag() -> str:
    """A new end for the name of a draft, which says whose it is: `<place>-<pid>-<random>`.

    Hosts and containers that share a folder have processes of the same number.
    """
    return f"{_place_hash()}-{os.getpid()}-{secrets.token_hex(2)}"


def writer(tag: str) -> int | None:
    """Number of the process that made a tag; None where it is of another place, or no tag."""
    if not re.fullmatch(TAG, tag) or not tag.startswith(_place_hash()):
        return None
    return int(tag.split("-")[1])


@functools.cache
def _place_hash() -> str:
    return hashlib.sha256(place().encode()).hexdigest()[:8]
