"""Methods, benchmarks and decoders from a user's own file or from an installed package."""

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from benchmark.errors import UserError, on_one_line

GROUP = "petseg_bench"
"""Entry point group: each entry names a module that registers something when it is imported."""

_PREFIX = "petseg_plugin_"
_TYPED: dict[str, Path] = {}
"""Name of the imported module -> path as the user wrote it."""


def load_files(paths: Sequence[Path]) -> None:
    """Imports files once each; what they register becomes selectable.

    Raises:
        UserError: a file is missing, or raises while it is imported.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"--plugin {path}: no such file")
        digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        name = f"{_PREFIX}{digest}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"--plugin {path}: not a Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"--plugin {path}: {on_one_line(error)}") from error
        _TYPED[name] = path


@functools.cache
def load_installed() -> None:
    """Imports what installed packages offer under the entry point group, once a process.

    Raises:
        UserError: an entry cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            raise UserError(
                f"plug-in {entry.name!r} ({entry.value}): {on_one_line(error)}"
            ) from error


def file_of(thing: object) -> Path | None:
    """The plug-in file, as typed, that a class or function comes from; None for all others."""
    return _TYPED.get(getattr(thing, "__module__", ""))
