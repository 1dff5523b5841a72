"""What was asked for last of each group of runs, so that a report knows which runs are missing.

It is kept beside the runs of a suite, in `.grid.json`. Where it is missing or damaged, a report
knows only of runs that have begun. It also names the folders of weights and data, which no record
does, so that printed commands are complete.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from benchmark.core.files import make_folder, write_atomic
from benchmark.core.spec import RunSpec, plain_name

NAME = ".grid.json"

Group = tuple[str, str, str]
"""Backbone, weights, protocol hash."""


class Cell(NamedTuple):
    """A run, as tables name it."""

    benchmark: str
    method: str  # label
    seed: int


Asked = dict[Group, dict[str, Cell]]
"""The cells of each group, by run id."""


class Folders(NamedTuple):
    """What a grid was run with, beside its cells."""

    weights: tuple[Path, ...] = ()
    data: Path | None = None


class _Folders(BaseModel):
    """As seen from the results folder, so that both may move together."""

    weights: list[str]
    data: str | None


class _Group(BaseModel):
    group: Group
    runs: dict[str, Cell]


class _File(BaseModel):
    groups: list[_Group]
    folders: _Folders | None = None


def note(root: Path, cells: Iterable[RunSpec], folders: Folders | None = None) -> None:
    """Notes a grid; what was noted before of its groups is forgotten.

    Where the folder cannot be written nothing is noted: no number depends on it.

    Args:
        root: folder of the results.
        cells: all of the grid, finished ones included.
        folders: that it was run with, for commands that use its runs.
    """
    seen = None
    if folders is not None:
        weights = [_seen_from(root, path) for path in folders.weights]
        data = _seen_from(root, folders.data) if folders.data else None
        seen = _Folders(weights=weights, data=data)
    suites: dict[str, Asked] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        own = suites[cell.suite][cell.backbone, cell.weights, cell.protocol.hash]
        own[cell.run_id] = Cell(cell.benchmark, cell.method_label, cell.seed)
    for suite, asked in suites.items():
        known = read(root, suite) | asked
        groups = [_Group(group=key, runs=runs) for key, runs in known.items()]
        file = _File(groups=groups, folders=seen)
        path = _path(root, suite)
        with contextlib.suppress(OSError):
            make_folder(path.parent)
            write_atomic(path, file.model_dump_json().encode())


def read(root: Path, suite: str) -> Asked:
    """What was noted of a suite."""
    file = _read(root, suite)
    return {one.group: one.runs for one in file.groups} if file else {}


def folders(root: Path, suite: str) -> Folders | None:
    """What the last grid of a suite was run with, as seen from the working folder.

    Returns:
        None where it is not known, or where a folder is no longer there.
    """
    file = _read(root, suite)
    if file is None or file.folders is None:
        return None
    weights = tuple(_seen_from_here(root, text) for text in file.folders.weights)
    data = _seen_from_here(root, file.folders.data) if file.folders.data else None
    there = all(path.is_dir() for path in (*weights, *([data] if data else [])))
    return Folders(weights, data) if there else None


def _read(root: Path, suite: str) -> _File | None:
    try:
        return _File.model_validate_json(_path(root, suite).read_bytes())
    except (OSError, ValidationError):
        return None


def _seen_from(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()


def _seen_from_here(root: Path, text: str) -> Path:
    path = Path(os.path.normpath(root.resolve() / text))
    near = Path(os.path.relpath(path))
    return near if near.parts.count("..") <= 1 else path


def _path(root: Path, suite: str) -> Path:
    return root / plain_name(suite) / NAME
