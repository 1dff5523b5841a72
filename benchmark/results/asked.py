"""What was asked for last of each group of runs, so that a report knows which runs are missing.

It is kept beside the runs of a suite, in `.grid.json`. Where it is missing or damaged, a report
knows only of runs that have begun.
"""

import contextlib
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


class _Group(BaseModel):
    group: Group
    runs: dict[str, Cell]


class _File(BaseModel):
    groups: list[_Group]


def note(root: Path, cells: Iterable[RunSpec]) -> None:
    """Notes a grid; what was noted before of its groups is forgotten.

    Where the folder cannot be written nothing is noted: no number depends on it.

    Args:
        root: folder of the results.
        cells: all of the grid, finished ones included.
    """
    suites: dict[str, Asked] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        own = suites[cell.suite][cell.backbone, cell.weights, cell.protocol.hash]
        own[cell.run_id] = Cell(cell.benchmark, cell.method_label, cell.seed)
    for suite, asked in suites.items():
        known = read(root, suite) | asked
        file = _File(groups=[_Group(group=key, runs=runs) for key, runs in known.items()])
        path = _path(root, suite)
        with contextlib.suppress(OSError):
            make_folder(path.parent)
            write_atomic(path, file.model_dump_json().encode())


def read(root: Path, suite: str) -> Asked:
    """What was noted of a suite."""
    try:
        file = _File.model_validate_json(_path(root, suite).read_bytes())
    except (OSError, ValidationError):
        return {}
    return {one.group: one.runs for one in file.groups}


def _path(root: Path, suite: str) -> Path:
    return root / plain_name(suite) / NAME
