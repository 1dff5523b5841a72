"""Checks the folder of a run file by file: the record, and whether the files agree with it.

No file is trusted: it may be truncated, written by another program, huge or a pipe.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from benchmark.core.errors import printable
from benchmark.core.record import PUBLISHED, SCHEMA_VERSION, Metrics, Record, UnknownVersion
from benchmark.core.spec import Protocol, RunSpec
from benchmark.results import record_file, remote, store
from benchmark.results import timing as timings
from benchmark.results.load import RECORD
from benchmark.results.metrics import CLASS_COUNTS, class_dice, class_iou
from benchmark.results.record_file import LARGEST, check_size, read_bytes
from benchmark.results.robustness import Robustness, read_names

TOLERANCE = 1e-9
"""A recorded mIoU differs from that of its counts by rounding at most."""

ASIDE = "doctor --repair moves it to .set-aside"
AGAIN = f"{ASIDE}; then repeat the run"
_MEASURE = "`evaluate --corruptions` measures them again"
_STRESS = f"{ASIDE}; {_MEASURE}"

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        severity: fault: it breaks a run or a report; note: good to know.
        path: the folder or file, below the results folder that was looked through.
        what: what was found, on one line of printable characters.
        fix: what to do about it, on one line.
        movable: whether a repair sets `path` aside.
    """

    severity: Literal["fault", "note"]
    path: Path
    what: str
    fix: str
    movable: bool = False


def told(text: object, limit: int = 300) -> str:
    """Foreign text, as a name or a message may be, on one line that is not endless."""
    text = printable(str(text))
    return text if len(text) <= limit else f"{text[:limit]}..."


def spec_of(record: Record) -> RunSpec:
    """What was run, from its record.

    Raises:
        ValueError: the record's protocol is none of this version.
    """
    return RunSpec(
        suite=record.suite,
        benchmark=record.benchmark,
        benchmark_version=record.benchmark_version,
        backbone=record.backbone,
        weights=record.weights,
        method=record.method_name,
        method_label=record.method,
        method_params=record.method_params,
        seed=record.seed,
        protocol=Protocol.model_validate(record.protocol),
        tuning=record.tuning,
    )


def check_run(folder: Path) -> list[Finding]:
    """What is wrong with a folder that holds a record.

    Args:
        folder: the run's, at its full path `.../suite/benchmark/backbone/method/run_id`.
    """
    try:
        record = record_file.read(folder)
    except UnknownVersion as error:
        update = f"this petseg-bench reads versions up to {SCHEMA_VERSION}; update it"
        return [Finding("fault", folder, f"{RECORD}: {in_words(error)}", update)]
    except Exception as error:
        return [fault(folder, f"{RECORD} is damaged or not a record: {in_words(error)}")]
    found = [fault(folder, what) for what in misplaced(folder, record)]
    if record.status != "done":
        return found
    if record.metrics is None or record.costs is None:
        return [*found, fault(folder, "done, but without metrics or costs")]
    checks: dict[str, Callable[[Path], str]] = {
        "images.npz": lambda path: _check_counts(path, record.metrics),
        "curve.jsonl": lambda path: _check_curve(path, record),
        "delta.safetensors": lambda path: _check_delta(path, record),
    }
    for name, check in checks.items():
        path = folder / name
        if os.path.lexists(path):
            what, problem = attempt(check, path)
            if what or problem:
                text = what or f"cannot be read: {problem}"
                found.append(fault(folder, f"{name}: {told(text)}"))
        elif name == "delta.safetensors":
            # Those are published without, and a mirror fetches them when they are used.
            if PUBLISHED not in folder.resolve().parts and not remote.holds(path):
                fix = "to use it with `evaluate`, copy it here from where the run was made"
                found.append(Finding("note", folder, f"done, but {name} is missing", fix))
        else:
            found.append(fault(folder, f"done, but {name} is missing"))
    return [*found, *_check_robustness(folder, record)]


def _check_robustness(folder: Path, record: Record) -> Iterator[Finding]:
    """What is wrong with the scores on corrupted images, if there are any; the run is sound."""
    path, counts = folder / "robustness.json", folder / "robustness.npz"
    if not os.path.lexists(path):
        if os.path.lexists(counts):
            yield Finding("note", counts, "counts without robustness.json", _MEASURE)
        return
    scores, problem = attempt(lambda p: Robustness.model_validate_json(read_bytes(p)), path)
    if scores is None:
        yield Finding("fault", path, f"is damaged or not valid: {problem}", _STRESS, True)
        return
    if scores.run_id != record.run_id:
        what = f"has the scores of another run, {told(scores.run_id)}"
        yield Finding("fault", path, what, _STRESS, True)
    names = {f"{s.corruption}/{s.severity}/{kind}" for s in scores.scores for kind in CLASS_COUNTS}
    held, problem = attempt(_count_names, counts)
    if held is None or not held >= names:
        what = problem or "has no counts for some scores of robustness.json"
        yield Finding("fault", counts, what, _STRESS, True)


def check_timing(path: Path) -> list[Finding]:
    """What is wrong with a file of times that were measured side by side.

    Args:
        path: the file's, at its full path `.../suite/timing/name`.
    """
    timing, problem = attempt(lambda p: timings.parse(read_bytes(p)), path)
    again = f"{ASIDE}; `timing` measures again"
    if timing is None:
        return [Finding("fault", path, f"is damaged or not valid: {problem}", again, movable=True)]
    if path.resolve().parts[-len(timing.path.parts) :] != timing.path.parts:
        what = f"the times belong in {told(timing.path)}"
        return [Finding("fault", path, what, again, movable=True)]
    return []


def _count_names(path: Path) -> set[str]:
    check_size(path)
    return read_names(path)


def fault(folder: Path, what: str) -> Finding:
    """A fault of a run, which goes away when the cell is run again."""
    return Finding("fault", folder, what, AGAIN, movable=True)


def in_words(error: BaseException) -> str:
    """An error's message, never empty."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return told(words or type(error).__name__)


def attempt(function: Callable[[Path], T], path: Path) -> tuple[T | None, str]:
    """What a reader returns, or None and why it does not."""
    try:
        return function(path), ""
    # Readers of foreign bytes raise almost anything: zlib.error, SyntaxError, MemoryError, ...
    except Exception as error:
        return None, in_words(error)


def read_record(folder: Path) -> tuple[Record | None, str]:
    """The record in a folder, or None and why it cannot be read."""
    return attempt(record_file.read, folder)


def misplaced(folder: Path, record: Record) -> list[str]:
    """How a record contradicts itself or its place."""
    found, problem = attempt(lambda folder: list(_contradictions(folder, record)), folder)
    return [f"the record is not valid: {problem}"] if found is None else found


def _contradictions(folder: Path, record: Record) -> Iterator[str]:
    spec = spec_of(record)
    if record.run_id != folder.name:
        yield f"the record is of run {told(record.run_id)}, but the folder has another name"
    if record.run_id != spec.run_id:
        yield f"the record's fields give run id {spec.run_id}, but it has another"
    if record.protocol_hash != spec.protocol.hash:
        yield f"the record's protocol has hash {spec.protocol.hash}, but it names another"
    place = spec.folder.parent.parts
    if folder.resolve().parent.parts[-len(place) :] != place:
        yield f"the record belongs in {told(spec.folder.parent)}"


def _check_counts(path: Path, metrics: Metrics | None) -> str:
    assert metrics is not None
    check_size(path)
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            return f"unpacks to more than {LARGEST} bytes"
    counts = store.read_counts(path.parent)
    ids = counts.get("ids", np.zeros((), int))
    shape = (metrics.images, len(metrics.class_iou))
    if ids.shape != shape[:1] or len(set(ids.tolist())) != metrics.images:
        return f"image ids of shape {ids.shape}; the record has {metrics.images} different images"
    for name, array in counts.items():
        if array.shape[:1] != shape[:1]:
            return f"{told(name)} has shape {array.shape}; the record has {metrics.images} images"
    for name in CLASS_COUNTS:
        array = counts.get(name, np.zeros(()))
        if array.shape != shape or array.dtype.kind not in "iu":
            return f"{name} is {array.shape} {array.dtype}, not {shape} integers"
    return _check_mean("mIoU", class_iou, counts, metrics.miou) or (
        "" if metrics.mdice is None else _check_mean("mDice", class_dice, counts, metrics.mdice)
    )


def _check_mean(
    name: str,
    of_classes: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    counts: Mapping[str, np.ndarray],
    recorded: float,
) -> str:
    with np.errstate(all="ignore"):
        values = of_classes(counts)
    present = ~np.isnan(values)
    mean = float(values[present].mean()) if present.any() else float("nan")
    # Written so that NaN is a difference, too.
    if not abs(mean - recorded) <= TOLERANCE:
        return f"its {name} is {mean:.9f}, the record says {recorded:.9f}"
    return ""


def _check_curve(path: Path, record: Record) -> str:
    lines = read_bytes(path).decode().split("\n")
    if lines.pop():
        return "its last line is incomplete"
    points = [json.loads(line) for line in lines]
    if not all(isinstance(p, dict) and isinstance(p.get("loss"), float | int) for p in points):
        return "a line does not give a step and its loss"
    if record.curve is not None and record.curve.steps != len(lines):
        return f"{len(lines)} steps; the record says {record.curve.steps}"
    return ""


def _check_delta(path: Path, record: Record) -> str:
    from safetensors import safe_open

    assert record.costs is not None
    stored = record.costs.stored
    size = check_size(path)
    if size != stored.bytes:
        return f"{size} bytes; the record says {stored.bytes}"
    with safe_open(path, framework="numpy") as file:
        numbers = sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    if numbers != stored.params:
        return f"{numbers} numbers; the record says {stored.params}"
    return ""
