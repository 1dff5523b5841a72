"""What was measured of a group, one file a group: `<suite>/timing/<group>.json`.

A group is the methods of one suite, backbone, kind of weights and protocol. A file holds the
seconds of each round, from which ratios are made when it is read: of times of the same round, so
that what else the machine did falls on both.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from benchmark.core.errors import UserError, printable
from benchmark.core.files import make_folder, write_atomic
from benchmark.core.ratio import Ratio, ratio
from benchmark.core.spec import plain_name
from benchmark.results.timing_columns import KINDS, PREFIX, column, references

FOLDER = "timing"
SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Part):
    """Where and with what was measured."""

    device: str  # the processor, with the number of its cores, or the GPU
    threads: int
    precision: str  # fp32 | bf16
    platform: str
    python: str
    packages: dict[str, str]
    git_commit: str | None  # None: not run from a checkout
    git_dirty: bool | None


class Load(_Part):
    """Load of the machine during the measurement; None where the system does not report it."""

    before: float | None  # load average over a minute, this process included
    after: float | None
    others: float | None  # share of the time of all cores that other processes took
    stolen: float | None  # share that other machines on the same host took


class Measured(_Part):
    """One method: by kind (see `KINDS`) the median seconds of each round."""

    method: str  # name without fields
    method_params: dict[str, Any]
    seconds: dict[str, tuple[float, ...]]


class Timing(_Part):
    """Times of the methods of a group, measured in turns in one process."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    benchmark: str  # on whose training images
    backbone: str
    weights: str
    protocol: dict[str, Any]
    protocol_hash: str
    measured: str  # when it began, UTC, ISO 8601
    duration: float  # seconds
    rounds: int  # in each of which every method had its turn
    steps: int  # timed training steps a turn
    machine: Machine
    load: Load
    methods: dict[str, Measured]  # by label

    @model_validator(mode="after")
    def _consistent(self) -> "Timing":
        for label, one in self.methods.items():
            for kind, seconds in one.seconds.items():
                if kind not in KINDS or len(seconds) != self.rounds or min(seconds) <= 0:
                    raise ValueError(f"{label}: {kind} has not {self.rounds} positive times")
        return self

    @property
    def path(self) -> Path:
        """Where it belongs, below the results folder."""
        name = file_name(self.backbone, self.weights, self.protocol_hash)
        return Path(plain_name(self.suite), FOLDER, name)

    def ratio(self, label: str, kind: str, reference: str) -> Ratio | None:
        """How many times as long a method takes as another; None where one was not measured.

        Args:
            label: of the method.
            kind: one of `KINDS`.
            reference: label of the other.
        """
        times = {
            "own": self._seconds(label, kind),
            "reference": self._seconds(reference, KINDS[kind]),
        }
        return ratio(times, "reference", "own") if all(times.values()) else None

    def _seconds(self, label: str, kind: str) -> list[float]:
        one = self.methods.get(label)
        return list(one.seconds.get(kind, ())) if one else []


def file_name(backbone: str, weights: str, protocol_hash: str) -> str:
    """The name of a group's file."""
    return plain_name(f"{backbone}-{weights}-{protocol_hash}.json")


def path_of(suite: str, backbone: str, weights: str, protocol_hash: str) -> Path:
    """Where the file of a group is, below the results folder."""
    return Path(plain_name(suite), FOLDER, file_name(backbone, weights, protocol_hash))


def parse(text: bytes) -> Timing:
    """Reads a timing.

    Raises:
        ValueError: it is none, with the first problem on one line.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"not a timing of version {SCHEMA_VERSION}")
        return Timing.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(printable(f"{where}: {first['msg']}".removeprefix(": "))) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read(path: Path) -> Timing | None:
    """The timing in a file; None where there is none that can be read."""
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError):
        return None


def write(root: Path, timing: Timing) -> Path:
    """Stores a timing whole, in the place of the former one of its group.

    Returns:
        The file.

    Raises:
        UserError: it cannot be written; a former one is as it was.
    """
    path = root / timing.path
    try:
        make_folder(path.parent)
        write_atomic(path, (timing.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another with --results DIR"
        ) from error
    return path


def add_columns(rows: Sequence[dict[str, Any]], root: Path) -> None:
    """Adds to rows of records what was measured of their methods; nothing where nothing was.

    That is for each kind and reference the ratio, and its ends over the rounds (`.low`, `.high`),
    the median `.seconds` of each kind, and how it was measured (`timing.machine.device`, ...).

    Args:
        rows: records by dotted names, with `folder`, before their labels are changed.
        root: what they were loaded from.
    """
    timings: dict[str, Timing | None] = {}
    columns: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name = file_name(row["backbone"], row["weights"], row["protocol_hash"])
        path = os.path.abspath(f"{root}/{row['folder']}/../../../../{FOLDER}/{name}")
        if path not in timings:
            timings[path] = read(Path(path))
        timing, label = timings[path], row["method"]
        if timing is None or timing.path.name != name:
            continue
        if (path, label) not in columns:
            columns[path, label] = _columns(timing, label)
        one = timing.methods.get(label)
        # The same label means other fields if a default has changed since.
        same = one is None or all(
            row.get(f"method_params.{field}", value) == value
            for field, value in one.method_params.items()
        )
        row |= columns[path, label] if same else about(timing)


def _columns(timing: Timing, label: str) -> dict[str, Any]:
    found = about(timing)
    one = timing.methods.get(label)
    for kind, seconds in one.seconds.items() if one else ():
        found[f"{PREFIX}{kind}.seconds"] = median(seconds)
        for reference in references():
            if value := timing.ratio(label, kind, reference):
                name = column(kind, reference)
                found |= {name: value.value, f"{name}.low": value.low, f"{name}.high": value.high}
    return found


def about(timing: Timing) -> dict[str, Any]:
    """How it was measured, by the names of columns."""
    machine, load = timing.machine, timing.load
    facts: Mapping[str, Any] = {
        "benchmark": timing.benchmark,
        "measured": timing.measured,
        "rounds": timing.rounds,
        "batch_size": timing.protocol.get("batch_size"),
        "device": machine.device,
        "threads": machine.threads,
        "precision": machine.precision,
        "git_commit": machine.git_commit,
        "load_before": load.before,
        "load_after": load.after,
        "others": load.others,
        "stolen": load.stolen,
    }
    return {f"{PREFIX}{name}": value for name, value in facts.items()}
