"""What a results folder holds, at a glance: one short entry a run, kept in `.index.json`.

The index is derived and disposable. An entry holds for as long as size and time of its record stay
the same. Entries that are missing, damaged or of another version are read from the records again,
and a folder that cannot be written is read without leaving an index.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from benchmark.core.files import write_atomic
from benchmark.core.record import PUBLISHED, RECORD, TUNING, Memory, Record, Status
from benchmark.results import record_file, store

NAME = ".index.json"
VERSION = 4
DEPTH = 4
"""Folders between the results folder and the runs: suite, benchmark, backbone, method."""


class Entry(NamedTuple):
    """What planning needs of a record; None where the record does not say it."""

    run_id: str
    status: Status
    benchmark: str
    backbone: str
    method: str  # label
    device: str
    crop: int | None = None  # px
    batch_size: int | None = None
    method_sha256: str | None = None
    benchmark_sha256: str | None = None
    weights_sha256: str | None = None
    images_per_second: float | None = None  # of training
    memory_bytes: int | None = None  # the larger of what training and inference need
    other_seconds: float | None = None  # of all phases but training
    disk_bytes: int | None = None  # of the run's folder, with its delta
    compile_seconds: float | None = None  # None: not compiled, or too late to be known
    compile_gain: float | None = None  # times as fast as before
    stored_bytes: int | None = None  # of the delta


class Held(NamedTuple):
    """A results folder as it is now; runs by their path below it, with `/`."""

    entries: dict[str, Entry]
    interrupted: frozenset[str]  # runs that left a checkpoint


class _Stamped(NamedTuple):
    mtime_ns: int
    size: int
    entry: Entry | None  # None: the file is no record


class _Index(BaseModel):
    version: int
    runs: dict[str, _Stamped]


def read_index(results: Path) -> Held:
    """The runs of a results folder, hidden and published ones left out.

    Reads only the records that are new or changed since the index was written, and writes it again
    if there were any.
    """
    former = _load(results / NAME)
    runs: dict[str, _Stamped] = {}
    interrupted = set()
    fresh = 0
    for parent, name in _leaves(results, "", DEPTH):
        run = f"{parent}/{name}"
        if name.startswith("."):
            if name.endswith(store.CHECKPOINT):
                interrupted.add(f"{parent}/{name[1:].removesuffix(store.CHECKPOINT)}")
            continue
        try:
            status = os.stat(f"{results}/{run}/{RECORD}")
        except OSError:
            continue
        known = former.get(run)
        if known is None or (known.mtime_ns, known.size) != (status.st_mtime_ns, status.st_size):
            known = _Stamped(status.st_mtime_ns, status.st_size, _read(f"{results}/{run}"))
            fresh += 1
        runs[run] = known
    if fresh or len(runs) != len(former):
        with contextlib.suppress(OSError):
            text = _Index(version=VERSION, runs=runs).model_dump_json()
            write_atomic(results / NAME, text.encode())
    return Held({run: s.entry for run, s in runs.items() if s.entry}, frozenset(interrupted))


def summary(record: Record, disk_bytes: int | None = None) -> Entry:
    """The entry of a record.

    Args:
        record: of any status.
        disk_bytes: size of the run's folder, where known.
    """
    costs, made = record.costs, record.provenance
    others = [seconds for phase, seconds in record.timings.items() if phase != "train"]
    compiled = record.execution.compiled if record.execution else None
    crop, batch_size = record.protocol.get("crop"), record.protocol.get("batch_size")
    return Entry(
        run_id=record.run_id,
        status=record.status,
        benchmark=record.benchmark,
        backbone=record.backbone,
        method=record.method,
        device=made.device,
        crop=crop if isinstance(crop, int) else None,
        batch_size=batch_size if isinstance(batch_size, int) else None,
        method_sha256=made.method_sha256,
        benchmark_sha256=made.benchmark_sha256,
        weights_sha256=made.weights_sha256,
        images_per_second=costs.train.images_per_second if costs else None,
        memory_bytes=needed(costs.train.memory, costs.infer.memory) if costs else None,
        other_seconds=round(sum(others), 3) if others else None,
        disk_bytes=disk_bytes,
        compile_seconds=compiled.seconds if compiled else None,
        compile_gain=compiled.gain if compiled else None,
        stored_bytes=costs.stored.bytes if costs else None,
    )


def needed(*measured: Memory | None) -> int | None:
    """Bytes that the largest of several takes: on a GPU with what its allocator adds."""
    return max((one.allocated_bytes or one.peak_bytes for one in measured if one), default=None)


def is_torn(results: Path) -> bool:
    """Whether there is an index that cannot be read."""
    path = results / NAME
    try:
        _Index.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValidationError):
        return True
    return False


def _load(path: Path) -> dict[str, _Stamped]:
    try:
        index = _Index.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    return index.runs if index.version == VERSION else {}


def _read(folder: str) -> Entry | None:
    try:
        record = record_file.read(Path(folder))
        with os.scandir(folder) as files:
            sizes = {file.name: file.stat().st_size for file in files}
    except (OSError, ValueError):
        return None
    if record.costs:
        # A delta that was cleared away would be written again.
        sizes.setdefault("delta.safetensors", record.costs.stored.bytes)
    return summary(record, sum(sizes.values()))


def _leaves(root: Path, below: str, depth: int) -> Iterator[tuple[str, str]]:
    """Parent (relative to `root`) and name of everything at `depth`, hidden ones included."""
    try:
        with os.scandir(f"{root}/{below}") as found:
            names = sorted(entry.name for entry in found)
    except OSError:
        return
    for name in names:
        if depth == 0:
            yield below, name
        elif not name.startswith(".") and (below or name not in (PUBLISHED, TUNING)):
            yield from _leaves(root, f"{below}/{name}" if below else name, depth - 1)
