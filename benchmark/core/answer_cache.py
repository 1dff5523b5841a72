"""Answers that depend on code alone, cached so that a plan needs no torch.

Only a method's class knows its fields and which values fit them, and importing the classes takes
torch, for seconds. The answers are cached with a hash of the names, sizes and times of the source
files, and of all installed packages with their versions: if any of these differs, the cached
answers are ignored.
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from benchmark.core.cache_folder import cache_folder
from benchmark.core.errors import UserError
from benchmark.core.files import write_atomic

NAME = "answers.json"
_ANSWERING = ("benchmark", "methods", "timm", "peft")
MOST = 1000
"""Answers that are kept, the latest ones."""

T = TypeVar("T")


def kept(question: str, module: str, ask: Callable[[], T]) -> T:
    """The answer to a question, as `ask` gives it or as it once gave it.

    A module that is loaded is always asked itself: a plug-in may have registered something there.
    Installed plug-ins may do so at any time; beside them nothing is kept.

    Args:
        question: its unique name.
        module: what `ask` imports, which is slow.
        ask: gives what JSON can hold; what it raises is raised, and not cached.
    """
    folder = None if module in sys.modules or are_installed() else _folder()
    if folder is None:
        return ask()
    path, code = folder / NAME, _code()
    answers = _read(path, code)
    if question not in answers:
        answers[question] = ask()
        latest = dict(list(answers.items())[-MOST:])
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps({"code": code, "answers": latest}).encode())
    return answers[question]


def are_there() -> bool:
    """Whether there are answers of the present code, so that a plan is likely to need no torch."""
    folder = None if are_installed() else _folder()
    return folder is not None and bool(_read(folder / NAME, _code()))


def _folder() -> Path | None:
    try:
        return cache_folder().folder
    except (UserError, RuntimeError):  # no number as its limit; no home
        return None


def _read(path: Path, code: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        return dict(content["answers"]) if content["code"] == code else {}
    except (OSError, ValueError, LookupError, TypeError):  # none, or not what is written here
        return {}


@functools.cache
def _code() -> str:
    """Hash of what identifies the code that answers, computed once per process."""
    folders = [Path(folder) for folder in sys.path if os.path.isdir(folder)]
    told = [sys.version, *sorted(p.name for folder in folders for p in folder.glob("*-info"))]
    for package in _ANSWERING:
        spec = find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(root).rglob("*.py")):
                status = path.stat()
                told.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


GROUP = "petseg_bench"
"""Entry point group: each entry names a module that registers something when it is imported."""


def are_installed() -> bool:
    """Whether an installed package offers something under the entry point group."""
    return bool(entry_points(group=GROUP))
