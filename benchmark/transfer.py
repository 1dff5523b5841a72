"""Finished runs from several results folders into one, and results out to other programs."""

import importlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import store
from benchmark.errors import UserError
from benchmark.record import FINAL, Record
from benchmark.results import RECORD, load_results, run_folders
from benchmark.soundness import check_run, spec_of, told

FORMATS = ("csv", "parquet", "json")
_DELTA = "delta.safetensors"


@dataclass
class Merged:
    """What became of the runs of a merge; folders are the sources'.

    Attributes:
        copied: runs that are in the target now, and were not before.
        same: runs that were there already, with the same record and counts.
        conflicts: finished runs that differ from the finished one that was kept.
        unfinished: runs that are not done; they stay where they are.
        broken: runs that do not hold what they should.
    """

    copied: list[Path] = field(default_factory=list)
    same: list[Path] = field(default_factory=list)
    conflicts: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Copies the finished runs of results folders into one; sources stay as they are.

    Of two finished runs of one cell the first is kept: that in `into`, then the sources' in order.
    An unfinished one in `into` gives way to a finished one. Each run is written whole or not at
    all, so a merge that was interrupted is just started again.

    Args:
        sources: results folders.
        into: results folder, which may be one of the sources or not exist yet.

    Raises:
        UserError: a source has no runs, or `into` cannot be written.
    """
    folders = []
    for source in sources:
        here = list(run_folders(source))
        if not here:
            raise UserError(f"no runs in {told(source)}; name a results folder")
        folders += here
    store.check_writable(into)
    merged = Merged()
    for folder in folders:
        _fate(merged, folder, into).append(folder)
    return merged


def _fate(merged: Merged, folder: Path, into: Path) -> list[Path]:
    """Copies a run where it is due; returns the list that it belongs on."""
    if any(finding.severity == "fault" for finding in check_run(folder)):
        return merged.broken
    record = store.read_record(folder)
    if record is None:
        return merged.broken
    if record.status not in FINAL:
        return merged.unfinished
    spec = spec_of(record)
    place = into / spec.folder
    there = _sound(place)
    if there is not None and there.status in FINAL:
        if not _same(record, there, folder, place):
            return merged.conflicts
        # A published copy has no weights; another copy of the same run may have them.
        if (place / _DELTA).exists() or not (folder / _DELTA).exists():
            return merged.same
    with store.staging(into, spec) as stage:
        for path in folder.iterdir():
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                shutil.copyfile(path, stage / path.name)
    return merged.copied


def _sound(place: Path) -> Record | None:
    """The record at a place where all is well; anything else gives way."""
    if not (place / RECORD).exists():
        return None
    if any(finding.severity == "fault" for finding in check_run(place)):
        raise UserError(f"{told(place)} is broken; `doctor --repair` sets it aside")
    return store.read_record(place)


def _same(a: Record, b: Record, a_folder: Path, b_folder: Path) -> bool:
    if a != b:
        return False
    if a.metrics is None:
        return True
    ours, theirs = store.read_counts(a_folder), store.read_counts(b_folder)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def export(root: Path, form: str, out: Path, suite: str | None = None) -> int:
    """Writes all results as one table, a row a record, with the columns of `load_results`.

    In csv and parquet a value that is a list, or of another type than others of its column, is
    written as JSON text: these formats have one plain type a column.

    Args:
        root: the results folder.
        form: one of `FORMATS`.
        out: file to write; one that is there is replaced as a whole.
        suite: this suite's results only.

    Returns:
        Number of rows.

    Raises:
        UserError: there are no results, or the file cannot be written.
    """
    if form not in FORMATS:
        raise UserError(f"--format {form!r}: choose from {', '.join(FORMATS)}")
    if os.path.lexists(out) and not out.is_file():
        raise UserError(f"--out {told(out)} is there and is no file; name another")
    runs = load_results(root, suite)
    if runs.empty:
        of = f" of suite {suite!r}" if suite else ""
        raise UserError(f"no results{of} in {told(root)}; name a folder with --results DIR")
    content = _encoded(runs, form)
    try:
        store.write_atomic(out, content)
    except OSError as error:
        raise UserError(
            f"--out {told(out)} cannot be written ({error.strerror}); name another"
        ) from error
    return len(runs)


def _encoded(runs: pd.DataFrame, form: str) -> bytes:
    if form == "json":
        rows = [
            {name: None if _is_gap(value) else value for name, value in row.items()}
            for row in runs.to_dict("records")
        ]
        return (json.dumps(rows, indent=1) + "\n").encode()
    plain = runs.apply(_plain)
    if form == "csv":
        return plain.to_csv(index=False).encode()
    try:
        importlib.import_module("pyarrow")
    except ImportError:
        raise UserError(
            "--format parquet needs pyarrow; install it with: pip install 'petseg-bench[hub]'"
        ) from None
    buffer = io.BytesIO()
    plain.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _plain(column: pd.Series) -> pd.Series:
    """A column with one plain type; text where values are lists or of several types."""
    if column.dtype != object:
        return column
    kinds = {type(value) for value in column if not _is_gap(value)}
    if len(kinds) <= 1 and not kinds & {list, dict}:
        return column
    return column.map(lambda value: None if _is_gap(value) else _text(value))


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
