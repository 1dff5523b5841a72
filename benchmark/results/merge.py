"""Finished runs from several results folders into one, and results out to other programs."""

import importlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.core.errors import UserError
from benchmark.core.files import write_atomic
from benchmark.core.record import FINAL, Record
from benchmark.core.spec import RunSpec
from benchmark.results import lock, remote, store
from benchmark.results import timing as timings
from benchmark.results.load import RECORD, load_results, run_folders
from benchmark.results.validate import check_run, spec_of, told

FORMATS = ("csv", "parquet", "json")
_PARTS = (("delta.safetensors",), ("robustness.json", "robustness.npz"))
"""Files that a finished run may lack or get later, those together that belong together."""


@dataclass
class Merged:
    """What became of the runs of a merge; folders are the sources', unless stated otherwise.

    Attributes:
        copied: runs copied to the target as a whole, or in part where it lacked files.
        same: runs that were there already, with the same record and counts; times that a split was
            evaluated may differ, of which the larger count is kept.
        conflicts: finished runs that differ from the finished one that was kept.
        unfinished: runs that are not done; they stay where they are.
        broken: runs with missing or wrong files; those in the target are its folders.
        busy: runs that another process is using in the target.
        timings: files of times copied to the target, which had none of that group, or none with
            all of their methods.
    """

    copied: list[Path] = field(default_factory=list)
    same: list[Path] = field(default_factory=list)
    conflicts: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    busy: list[Path] = field(default_factory=list)
    timings: list[Path] = field(default_factory=list)


def merge(sources: Sequence[Path], into: Path) -> Merged:
    """Copies the finished runs of results folders into one; sources stay as they are.

    Of two finished runs of one cell the first is kept: that in `into`, then the sources' in order.
    What was added to the other later, by evaluating it again, is taken over where the first lacks
    it. A finished run replaces an unfinished one in `into`. Each run is written whole or not at
    all, so an interrupted merge is simply repeated. Of times that were measured side by side the
    first are kept, too, unless others are of these methods and more.

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
        remote.fetch(source, here, deltas=True)
        folders += here
    remote.check_writable(into)
    merged = Merged()
    for folder in folders:
        _merge_run(merged, folder, into)
    suites = dict.fromkeys(folder.resolve().parents[3] for folder in folders)
    for suite in suites:
        for path in sorted((suite / timings.FOLDER).glob("[!.]*.json")):
            _merge_timing(merged, path, into)
    return merged


def _merge_timing(merged: Merged, path: Path, into: Path) -> None:
    """Copies times that were measured side by side, if they are of more methods than those there.

    Two files of a group are never joined: they were not measured in turns.
    """
    timing = timings.read(path)
    if timing is None:
        merged.broken.append(path)
        return
    there = timings.read(into / timing.path)
    if there is None or there.methods.keys() < timing.methods.keys():
        timings.write(into, timing)
        merged.timings.append(path)


def _merge_run(merged: Merged, folder: Path, into: Path) -> None:
    """Copies a run if needed, and adds it to the matching list."""
    record = _sound(folder)
    if record is None:
        merged.broken.append(folder)
        return
    if record.status not in FINAL:
        merged.unfinished.append(folder)
        return
    spec = spec_of(record)
    place = into / spec.folder
    with lock.hold(into, spec) as mine:
        if not mine:
            merged.busy.append(folder)
        elif not (place / RECORD).exists():
            _copy(folder, record, into, spec)
            merged.copied.append(folder)
        elif (there := _sound(place)) is None:
            merged.broken.append(place)
        elif there.status not in FINAL:
            _copy(folder, record, into, spec)
            merged.copied.append(folder)
        elif not _same(record, there, folder, place):
            merged.conflicts.append(folder)
        elif _complete(folder, record, into, spec, there):
            merged.copied.append(folder)
        else:
            merged.same.append(folder)


def _sound(folder: Path) -> Record | None:
    """The record of a run's folder; None where something is wrong there."""
    if any(finding.severity == "fault" for finding in check_run(folder)):
        return None
    return store.read_record(folder)


def _copy(folder: Path, record: Record, into: Path, spec: RunSpec) -> None:
    """Copies a finished run to where there is none, with the attempts made at it there."""
    with store.staging(into, spec) as stage:
        _copy_files(folder, stage)
        _count_openings(stage, record, store.openings(into, spec))
    store.forget_attempts(into, spec)


def _complete(folder: Path, record: Record, into: Path, spec: RunSpec, there: Record) -> bool:
    """Adds to a run the files that only another copy has; whether there were any.

    A published copy has no weights, only one of two may have been evaluated again, and only one may
    say how its setting was chosen.
    """
    place = into / spec.folder
    added = [
        name
        for first, *others in _PARTS
        if not (place / first).exists() and (folder / first).exists()
        for name in (first, *others)
    ]
    told = there.model_copy(update={"tuning": there.tuning or record.tuning})
    counted = store.larger(_opened(there), _opened(record)) == _opened(there)
    if told == there and counted and not added:
        return False
    with store.staging(into, spec) as stage:
        _copy_files(place, stage)
        for name in added:
            shutil.copyfile(folder / name, stage / name)
        store.write_record(stage, told)
        _count_openings(stage, told, _opened(record))
    return bool(added)


def _copy_files(folder: Path, stage: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            shutil.copyfile(path, stage / path.name)


def _count_openings(stage: Path, record: Record, opened: Mapping[str, int]) -> None:
    """Writes the larger counts of evaluations into a copy that is not in its place yet."""
    larger = store.larger(_opened(record), opened)
    if larger != _opened(record):
        store.write_record(stage, store.with_openings(record, larger))


def _opened(record: Record) -> Mapping[str, int]:
    return record.execution.opened_splits if record.execution else {}


def _same(a: Record, b: Record, a_folder: Path, b_folder: Path) -> bool:
    """Whether two copies hold the same results.

    How often they were evaluated since does not matter, nor whether both say how their setting was
    chosen.
    """
    bare = (store.with_openings(one, {}).model_copy(update={"tuning": None}) for one in (a, b))
    if next(bare) != next(bare):
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
        raise UserError(f"--out {told(out)} exists and is not a file; name another")
    runs = load_results(root, suite)
    if runs.empty:
        of = f" of suite {suite!r}" if suite else ""
        raise UserError(f"no results{of} in {told(root)}; name a folder with --results DIR")
    content = _encoded(runs, form)
    try:
        write_atomic(out, content)
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
