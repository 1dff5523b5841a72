"""Methods, benchmarks and decoders from a user's own files or from an installed package."""

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import yaml

from benchmark.core.answer_cache import GROUP
from benchmark.core.errors import UserError, on_one_line
from benchmark.core.files import file_sha256
from benchmark.core.object_store import is_url

_MOVED = Path(__file__).with_name("moved.yaml")
_PREFIX = "petseg_plugin_"
_TYPED: dict[str, Path] = {}
"""Name of the module -> path as the user wrote it."""
_HASHES: dict[Path, str] = {}
"""Path as the user wrote it -> SHA-256 of what was loaded."""
DESCRIPTIONS = (".yaml", ".yml")
"""Suffixes of files that describe a benchmark."""


def load_files(paths: Sequence[Path], where: str = "--plugin") -> None:
    """Loads files once each; what they register or describe becomes selectable.

    Args:
        paths: Python files, which are imported, and YAML files, which describe a benchmark (see
            `benchmark.data.custom.description`).
        where: what names them, for errors.

    Raises:
        UserError: a file is missing, raises while it is imported, or does not fit the schema.
    """
    for path in paths:
        if not path.is_file():
            what = "is a folder; name a file" if path.is_dir() else "no such file; check the path"
            raise UserError(f"{where} {path}: {what}")
        digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        name = f"{_PREFIX}{digest}"
        if name in _TYPED:
            continue
        if path.suffix.lower() in DESCRIPTIONS:
            _describe(path, name, f"{where} {path}")
            _TYPED[name], _HASHES[path] = path, file_sha256(path)
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"{where} {path}: its name must end in .py, .yaml or .yml")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"{where} {path}: {_told(error)}") from error
        _TYPED[name], _HASHES[path] = path, file_sha256(path)


def loaded() -> list[Path]:
    """The files that were loaded, as users wrote them."""
    return list(_TYPED.values())


def sha256_of(path: Path) -> str:
    """SHA-256 of a loaded file, as it was then; `path` is as the user wrote it."""
    return _HASHES[path]


def _describe(path: Path, module: str, where: str) -> None:
    """Registers the benchmark that a YAML file describes, as if `module` had defined it."""
    from benchmark.data.acquire import at_url
    from benchmark.data.base import register
    from benchmark.data.custom.described import DescribedBenchmark
    from benchmark.data.custom.description import read_description
    from benchmark.data.custom.folder import ImageFolder
    from benchmark.data.custom.hub import HubDataset

    description = read_description(path, where)
    check_free(description.name, f"{where}: name")
    kind: type[DescribedBenchmark] = HubDataset if description.hub else ImageFolder
    attributes = kind.attributes(description, path.parent) | {"__module__": module}
    if is_url(description.folder):
        # Its version is that of the URL; its files are looked for in the mirror.
        mirror = at_url.located(description.folder)
        local = description.model_copy(update={"folder": str(mirror)})
        attributes |= {"description": local, "origin": description.folder}
    register(description.name)(type(description.name, (kind,), attributes))


def check_free(name: str, where: str) -> None:
    """Checks that a new benchmark may have a name.

    Args:
        name: of the benchmark.
        where: what names it, for the error.

    Raises:
        UserError: a suite or another benchmark has it.
    """
    from benchmark.core.spec import load_suites
    from benchmark.data import available

    if name in load_suites():
        raise UserError(f"{where}: {name!r} is the name of a suite; choose another")
    if name in available():
        raise UserError(f"{where}: a benchmark {name!r} exists already; choose another name")


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
            raise UserError(f"plug-in {entry.name!r} ({entry.value}): {_told(error)}") from error


def _told(error: Exception) -> str:
    """An exception on one line; of an import of ours that has moved, also where it is now."""
    text = on_one_line(error)
    if isinstance(error, ImportError) and error.name:
        moved = yaml.safe_load(_MOVED.read_text(encoding="utf-8"))
        if error.name in moved:
            return f"{text}; {error.name} is now {moved[error.name]}"
    return text


def file_of(thing: object) -> Path | None:
    """The plug-in file, as typed, that a class or function comes from; None for all others."""
    return _TYPED.get(getattr(thing, "__module__", ""))
