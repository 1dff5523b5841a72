"""One folder per run, written whole or not at all.

A run is built in a hidden sibling of its final folder and renamed into place. Rename is atomic
within a file system, so a reader sees either no run or a complete one; a crash leaves a hidden
folder that nothing reads and the next write of that run removes.

Two processes that write the same run do not disturb each other: each has a folder of its own, and
the last one to finish stays.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError
from benchmark.record import FINAL, Record, parse
from benchmark.spec import RunSpec


def check_writable(root: Path) -> None:
    """Creates the results folder and proves that it takes files.

    Raises:
        UserError: it does not.
    """
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"results folder {root} cannot be written ({reason}); choose another with --results DIR"
        ) from error


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder; None where there is none that can be read."""
    try:
        return parse((folder / "record.json").read_bytes())
    except (OSError, ValueError):
        return None


def is_done(root: Path, spec: RunSpec) -> bool:
    """Whether a run needs no more work."""
    record = read_record(root / spec.folder)
    return record is not None and record.run_id == spec.run_id and record.status in FINAL


def has_result(root: Path, spec: RunSpec) -> bool:
    """Whether a run is there and was evaluated."""
    record = read_record(root / spec.folder)
    return record is not None and record.run_id == spec.run_id and record.metrics is not None


class Discard(Exception):
    """Raised inside `staging`: what was there stays, and the new folder goes."""


@contextmanager
def staging(root: Path, spec: RunSpec) -> Iterator[Path]:
    """A folder to fill; renamed to the run's place when the block ends without an exception."""
    final = root / spec.folder
    stage = final.with_name(f".{final.name}.{os.getpid()}")
    former = final.with_name(f".{final.name}.{os.getpid()}.former")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".{final.name}.*"):
            if not _belongs_to_the_living(stale.name.split(".")[2]):
                if stale.name.endswith(".former") and not final.exists():
                    os.replace(stale, final)  # killed between the two renames
                else:
                    shutil.rmtree(stale, ignore_errors=True)
        stage.mkdir()
        yield stage
        _sync(stage)
        if final.exists():
            os.replace(final, former)
        os.replace(stage, final)
        _sync_folder(final.parent)
    except Discard:
        return
    except OSError as error:
        raise UserError(
            f"run {spec.run_id} cannot be written to {final.parent} ({error.strerror}); make room, "
            "or choose another folder with --results DIR"
        ) from error
    finally:
        if former.exists() and not final.exists():
            os.replace(former, final)
        shutil.rmtree(stage, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _belongs_to_the_living(pid: str) -> bool:
    if not pid.isdigit():
        return True  # a checkpoint or a lease, which live on their own
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Makes renames and new names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Replaces a file as a whole: a draft beside it, synced, renamed, and the folder synced.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_record(folder: Path, record: Record) -> None:
    """Writes record.json."""
    (folder / "record.json").write_text(record.model_dump_json(indent=1) + "\n")


def count_opening(folder: Path, split: str) -> None:
    """Writes into a run's record that a split was evaluated once more.

    Raises:
        UserError: it cannot be written; the record is as it was.
    """
    record = read_record(folder)
    if record is None or record.execution is None:
        return  # older than the count
    opened = record.execution.opened_splits
    opened = opened | {split: opened.get(split, 0) + 1}
    execution = record.execution.model_copy(update={"opened_splits": opened})
    record = record.model_copy(update={"execution": execution})
    try:
        write_atomic(folder / "record.json", (record.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"{folder / 'record.json'} cannot be written ({error.strerror}), where it is counted "
            "that the split is evaluated; copy the results to a folder that can be"
        ) from error


def write_curve(folder: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Writes curve.jsonl, a line a step."""
    (folder / "curve.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))


def write_counts(folder: Path, ids: Sequence[str], counts: Mapping[str, np.ndarray]) -> None:
    """Writes images.npz: ids (N,) and every array of per-image counts, first axis N."""
    arrays: dict[str, Any] = {"ids": np.array(ids), **counts}
    np.savez_compressed(folder / "images.npz", **arrays)


def read_counts(folder: Path) -> dict[str, np.ndarray]:
    """Reads images.npz."""
    with np.load(folder / "images.npz", allow_pickle=False) as archive:
        return dict(archive)


def find_runs(root: Path, prefix: str) -> list[Path]:
    """Folders of the runs whose id starts with `prefix`."""
    return sorted(
        path.parent
        for path in root.glob("*/*/*/*/*/record.json")
        if path.parent.name.startswith(prefix)
    )
