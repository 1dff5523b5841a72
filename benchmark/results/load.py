"""Reads stored records into the table from which every report is derived."""

import os
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.errors import printable
from benchmark.core.parallel import spread, uncollected
from benchmark.core.record import PUBLISHED, RECORD, TUNING, Record
from benchmark.results import record_file, remote
from benchmark.results.timing import add_columns

_PARAMS = "method_params."
_APART = (PUBLISHED, TUNING)

_FEW = 500
"""Records that are not worth other processes."""


def load_results(root: Path, suite: str | None = None) -> pd.DataFrame:
    """Loads every record below a results folder, one row a record.

    Args:
        root: the results folder (suites inside), or one suite's folder. Hidden folders are left
            out, and so are `published` and `tuning` unless `root` is that folder or is in it.
        suite: load this suite only; None loads all.

    Returns:
        The records flattened to dotted columns (`metrics.miou`, `costs.params.inserted`, ...) and
        `folder`, relative to `root`, in the order of their paths; empty when there are none. A file
        that is no record is left out with a warning. Beside them are the columns `timing.*` where
        times were measured side by side (`benchmark.results.timing.add_columns`).
    """
    base = root / suite if suite is not None and (root / suite).is_dir() else root
    folders = list(run_folders(base))
    remote.fetch(root, folders)
    with uncollected(), spread(partial(_read, root), folders, len(folders) > _FEW) as found:
        read = found()
    rows: list[dict[str, Any]] = []
    for folder, row in zip(folders, read, strict=True):
        if isinstance(row, str):
            what = printable(f"{folder / RECORD} is left out: {row}")
            warnings.warn(what, stacklevel=2)
        elif suite is None or row["suite"] == suite:
            rows.append(row)
    add_columns(rows, root)
    _tell_apart(rows)
    if not rows:
        return pd.DataFrame(columns=list(Record.model_fields))
    # Copied, because each of many columns is in a block of its own.
    return pd.DataFrame(rows).copy()


def _read(root: Path, folder: Path) -> dict[str, Any] | str:
    """The record of a folder by dotted names, or in one line why there is none."""
    try:
        record = record_file.read(folder)
        return _flat(flat(record) | {"folder": folder.relative_to(root).as_posix()})
    except (OSError, ValueError) as error:
        return _one_line(error)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted names, what is not nested first."""
    own = {name: value for name, value in row.items() if not isinstance(value, dict)}
    return own | dict(_dotted(row))


def _dotted(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested dict by dotted names."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def flat(record: Record) -> dict[str, Any]:
    """A record as a nested dict to normalize; parts that a failed run lacks are left out."""
    content = record.model_dump(mode="json")
    return {name: value for name, value in content.items() if value is not None}


def numbers_of(record: Record) -> dict[str, float]:
    """Metrics and costs of a record by dotted names; those that are missing are left out."""
    content = flat(record)
    parts: dict[str, Any] = {n: content[n] for n in ("metrics", "costs") if n in content}
    return {
        name: float(value)
        for name, value in _dotted(parts)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _tell_apart(rows: list[dict[str, Any]]) -> None:
    """Gives runs of one label but other fields other labels.

    A label names the fields that differ from the defaults of its day; when a default has changed
    since, the same label means two settings, which must not be averaged. A field that a run
    lacks was added later, with the default that leaves the method as it was.
    """
    by_label: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_label.setdefault(row["method"], []).append(row)
    for label, alike in by_label.items():
        settings = [_params(row) for row in alike]
        fields = [
            name
            for name in dict.fromkeys(name for params in settings for name in params)
            if len({repr(params[name]) for params in settings if name in params}) > 1
        ]
        for row in alike if fields else ():
            shown = ",".join(f"{name}={row.get(_PARAMS + name)}" for name in fields)
            row["method"] = (
                f"{label.removesuffix(']')},{shown}]" if "[" in label else f"{label}[{shown}]"
            )


def _params(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(_PARAMS): value for name, value in row.items() if name.startswith(_PARAMS)
    }


def suites_of(root: Path) -> list[str]:
    """Names of the suites' folders with a record below a results folder, sorted."""
    below = sorted(root.iterdir()) if root.is_dir() else []
    names = (path.name for path in below if path.name[0] != "." and path.name not in _APART)
    return [name for name in names if holds_suite(root / name)]


def holds_suite(folder: Path) -> bool:
    """Whether a folder is that of one suite: benchmark, backbone, method and run are below it."""
    return next(folder.glob(f"*/*/*/[!.]*/{RECORD}"), None) is not None


def results_near(root: Path) -> Path | None:
    """A folder with runs below, above or beside one that has none."""
    near = [*_folders(root), root.parent, *_folders(root.parent)]
    return next((folder for folder in near if folder != root and suites_of(folder)), None)


def _folders(path: Path) -> list[Path]:
    found = sorted(path.iterdir()) if path.is_dir() else []
    return [folder for folder in found if folder.is_dir() and folder.name[0] != "."]


def run_folders(root: Path) -> Iterator[Path]:
    """Folders with a record, sorted; `published` and `tuning` only where `root` is or is in them.

    Hidden folders are left out, and links to folders are not followed.
    """
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name[0] != "." and name not in _APART)
        if RECORD in files:
            yield Path(folder)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
