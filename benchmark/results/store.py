"""One folder per run, written whole or not at all.

A run is built in a hidden sibling of its final folder and renamed into place. Rename is atomic
within a file system, so a reader sees either no run or a complete one; a crash leaves a hidden
folder that nothing reads and the next write of that run on the same host removes.

Two processes that write the same run do not disturb each other: each has a folder of its own, and
the last one to finish stays. What cannot be read is never removed but moved to `.set-aside/`.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import UserError
from benchmark.core.files import make_folder, sync, sync_folder, unused, write_atomic
from benchmark.core.processes import is_alive, tag, writer
from benchmark.core.record import FINAL, RECORD, Record, UnknownVersion
from benchmark.core.spec import RunSpec
from benchmark.results import record_file

SET_ASIDE = ".set-aside"
CHECKPOINT = ".checkpoint"
"""End of the hidden name, beside a run's folder, of the checkpoint that training resumes from."""


def check_writable(root: Path) -> None:
    """Creates the results folder and proves that it takes files.

    Raises:
        UserError: it does not.
    """
    probe = root / f".probe-{tag()}"
    try:
        make_folder(root)
        probe.write_text("")
        probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"results folder {root} cannot be written ({reason}); choose another with --results DIR"
        ) from error


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder; None where there is none that can be read."""
    try:
        return record_file.read(folder)
    except (OSError, ValueError):
        return None


def record_of(root: Path, spec: RunSpec) -> Record | None:
    """The record of a run; None where there is none that can be read, or that of another run."""
    record = read_record(root / spec.folder)
    return record if record is not None and record.run_id == spec.run_id else None


def check_replaceable(folder: Path) -> None:
    """Makes sure that a run's folder may be overwritten.

    Raises:
        UserError: there is a record that is not damaged, but cannot be read.
    """
    path = folder / "record.json"
    try:
        record_file.read(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnknownVersion as error:
        raise UserError(f"{path}: {error}, or choose another folder with --results DIR") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}), so the run may be finished; fix that, or "
            "choose another folder with --results DIR"
        ) from error
    except ValueError:
        pass  # torn or foreign, and moved away when the run is written


def is_done(root: Path, spec: RunSpec) -> bool:
    """Whether a run needs no more work."""
    record = record_of(root, spec)
    return record is not None and record.status in FINAL


def has_result(root: Path, spec: RunSpec) -> bool:
    """Whether a run is there and was evaluated."""
    record = record_of(root, spec)
    return record is not None and record.metrics is not None


class Discard(Exception):
    """Raised inside `staging`: what was there stays, the new folder beside it, hidden."""


@contextmanager
def staging(root: Path, spec: RunSpec) -> Iterator[Path]:
    """A folder to fill; renamed to the run's place when the block ends without an exception.

    The former record of the run is replaced; anything else there is set aside.

    Raises:
        UserError: the results cannot be written; what was there stays.
    """
    final = root / spec.folder
    discarded = final.with_name(f".{final.name}.discarded")
    stage = final.with_name(f".{final.name}.{tag()}")
    former = stage.with_name(f"{stage.name}.former")
    try:
        make_folder(final.parent)
        _sweep(final)
        stage.mkdir()
        yield stage
        sync(stage)
        if final.exists():
            if record_of(root, spec) is None:
                set_aside(root, final)
            else:
                os.replace(final, former)
        os.replace(stage, final)
        sync_folder(final.parent)
        shutil.rmtree(discarded, ignore_errors=True)
    except Discard:
        shutil.rmtree(discarded, ignore_errors=True)
        with suppress(OSError):
            os.replace(stage, discarded)
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


def _sweep(final: Path) -> None:
    """Removes what killed processes left of a run: folders, and drafts of single files."""
    for stale in final.parent.glob(f".{final.name}.*"):
        if _is_of_the_dead(stale.name.split(".")[2]):
            if stale.name.endswith(".former") and not final.exists():
                os.replace(stale, final)  # killed between the two renames
            else:
                shutil.rmtree(stale, ignore_errors=True)
    for draft in final.parent.glob(f"..{final.name}.*"):
        if _is_of_the_dead(draft.name.rpartition(".")[2]):
            draft.unlink(missing_ok=True)


def _is_of_the_dead(tag: str) -> bool:
    """False of a checkpoint or a lock, which live on their own, and of what other hosts wrote."""
    pid = writer(tag)
    return pid is not None and (pid == os.getpid() or not is_alive(pid))


def set_aside(root: Path, path: Path) -> Path:
    """Moves what is broken to `.set-aside/<same relative path>`, under a number if that is taken.

    Returns:
        Where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    target = root / SET_ASIDE / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    free = unused(target)
    os.rename(path, free)
    return free


def write_record(folder: Path, record: Record) -> None:
    """Writes record.json."""
    (folder / "record.json").write_bytes(_text(record))


def _text(record: Record) -> bytes:
    return (record.model_dump_json(indent=1) + "\n").encode()


def openings(root: Path, spec: RunSpec) -> dict[str, int]:
    """Times that scores of a run on a split were seen or saved, by the split, over all attempts."""
    record = record_of(root, spec)
    counts = dict(record.execution.opened_splits) if record and record.execution else {}
    try:
        logged = json.loads(_opened(root, spec).read_bytes())
        attempted = {str(split): int(number) for split, number in logged.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        attempted = {}  # none; or a torn file of another hand
    return larger(counts, attempted)


def larger(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """By name the larger of two counts."""
    return {name: max(a.get(name, 0), b.get(name, 0)) for name in {**a, **b}}


def log_openings(root: Path, spec: RunSpec, counts: Mapping[str, int]) -> None:
    """Writes down, before scores on a split are saved, how often there were any, these included.

    It outlives an attempt that leaves no record.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(_opened(root, spec), json.dumps(counts).encode())


def left_behind(root: Path, spec: RunSpec) -> bool:
    """Whether there is something beside a run's record from an attempt before it."""
    try:
        stored = (root / spec.folder / "record.json").stat().st_mtime_ns
    except OSError:
        return False
    for path in (checkpoint_of(root, spec), _opened(root, spec)):
        with suppress(OSError):
            if path.stat().st_mtime_ns <= stored:
                return True
    return False


def forget_attempts(root: Path, spec: RunSpec) -> None:
    """Removes what is beside a finished run: its checkpoint, and what `log_openings` wrote.

    The run is stored, so what cannot be removed is left to `doctor`.
    """
    for path in (checkpoint_of(root, spec), _opened(root, spec)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def checkpoint_of(root: Path, spec: RunSpec) -> Path:
    """Path of a run's checkpoint."""
    final = root / spec.folder
    return final.with_name(f".{final.name}{CHECKPOINT}")


def _opened(root: Path, spec: RunSpec) -> Path:
    final = root / spec.folder
    return final.with_name(f".{final.name}.opened")


def count_opening(folder: Path, split: str) -> None:
    """Writes into a run's record that a split was evaluated once more.

    Raises:
        UserError: it cannot be written; the record is as it was.
    """
    record = read_record(folder)
    if record is None or record.execution is None:
        return  # older than the count
    opened = record.execution.opened_splits
    record = with_openings(record, opened | {split: opened.get(split, 0) + 1})
    try:
        write_atomic(folder / "record.json", _text(record))
    except OSError as error:
        raise UserError(
            f"{folder / 'record.json'} cannot be written ({error.strerror}), so this evaluation "
            "cannot be counted; copy the results to a writable folder"
        ) from error


def with_openings(record: Record, opened: Mapping[str, int]) -> Record:
    """A record with other counts of how often splits were evaluated; older ones have none."""
    if record.execution is None:
        return record
    execution = record.execution.model_copy(update={"opened_splits": dict(opened)})
    return record.model_copy(update={"execution": execution})


def note_tuning(root: Path, spec: RunSpec) -> None:
    """Writes into a finished run's record how its setting was chosen, where it does not say so.

    The run may have been made before: its setting was typed, or is the default.

    Raises:
        UserError: it cannot be written; the record is as it was.
    """
    record = record_of(root, spec)
    if record is None or record.tuning == spec.tuning:
        return
    path = root / spec.folder / "record.json"
    try:
        write_atomic(path, _text(record.model_copy(update={"tuning": spec.tuning})))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}), so it would not say that its setting "
            "was tuned; copy the results to a writable folder"
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


def find_one(root: Path, prefix: str) -> tuple[Path, Record]:
    """The one run whose id starts with `prefix`: its folder and its record.

    Raises:
        UserError: there is none, there are several, or its record cannot be read.
    """
    if not prefix.strip():
        raise UserError("the run id is empty; `plan` lists the ids of runs")
    found = find_runs(root, prefix)
    if not found:
        raise UserError(f"no run {prefix!r} has finished in {root}; {_finished(root, prefix)}")
    if len(found) > 1:
        ids = ", ".join(folder.name for folder in found[:6])
        raise UserError(f"run id {prefix!r} matches {len(found)} runs ({ids}); type more of it")
    record = read_record(found[0])
    if record is None:
        raise UserError(f"{found[0] / 'record.json'} cannot be read; `doctor` says why")
    return found[0], record


def _finished(root: Path, name: str) -> str:
    """Some ids of finished runs, first those of a method of that name; else what lists others."""
    folders = [path.parent for path in sorted(root.glob(f"*/*/*/*/[!.]*/{RECORD}"))]
    if not folders:
        return "name another folder with --results; `plan` lists planned runs"
    folders.sort(key=lambda folder: folder.parent.name != name)
    ids = [f"{one.name} ({one.parts[-2]} on {one.parts[-4]})" for one in folders[:_MOST_NAMED]]
    more = len(folders) - len(ids)
    return (
        f"finished are {', '.join(ids)}{f' and {more} more' if more else ''}; --results names "
        "another folder"
    )


_MOST_NAMED = 3


def find_runs(root: Path, prefix: str) -> list[Path]:
    """Folders of the runs whose id starts with `prefix`."""
    return sorted(
        path.parent
        for path in root.glob("*/*/*/*/*/record.json")
        if path.parent.name.startswith(prefix)
    )
