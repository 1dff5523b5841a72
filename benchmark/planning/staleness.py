"""Whether a finished run still describes what would be run now.

A run's id says what was asked for: names, hyperparameters and protocol. It says nothing of what the
names meant on that day. Here the hashes that its record keeps of the method's source, of the
benchmark and of the weights file are compared with those of today.
"""

import contextlib
import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmark.core.answer_cache import kept
from benchmark.core.errors import UserError
from benchmark.core.files import file_sha256
from benchmark.core.format import counted
from benchmark.core.record import FINAL, Record
from benchmark.core.spec import RunSpec
from benchmark.results import store
from benchmark.results.index import Held
from benchmark.results.provenance import comparable

METHOD = "the method's code has changed"
BENCHMARK = "the benchmark's files or code have changed"
WEIGHTS = "the weights file has changed"


class Recorded(Protocol):
    """What was noted when the run was made: `index.Entry` and `record.Provenance` have it."""

    @property
    def method_sha256(self) -> str | None:
        """See `provenance.method_sha256`."""

    @property
    def benchmark_sha256(self) -> str | None:
        """See `provenance.benchmark_sha256`."""

    @property
    def weights_sha256(self) -> str | None:
        """Of the weights file."""


class CurrentHashes:
    """The hashes of today, each found out when it is first asked for and then kept.

    Args:
        data: data root; None where there is none.
        weights: folders with weight files.
    """

    def __init__(self, data: Path | None = None, weights: Sequence[Path] = ()) -> None:
        self._data, self._dirs = data, tuple(weights)
        # Bound here and not cached on the class: another data root has other answers.
        self.method: Callable[[str], str | None] = functools.cache(self._method)
        self.benchmark: Callable[[str], str | None] = functools.cache(self._benchmark)
        self.weights: Callable[[str], str | None] = functools.cache(self._weights)

    def _method(self, name: str) -> str | None:
        from benchmark.planning.catalogue import METHODS
        from benchmark.results import provenance

        with contextlib.suppress(UserError, OSError, SyntaxError):
            # One question for all: once it is asked, the package is loaded and asked itself.
            known = {} if "methods" in sys.modules else kept("hashes", "methods", _method_hashes)
            return known.get(name) or provenance.method_sha256(METHODS.get(name))
        return None

    def _benchmark(self, name: str) -> str | None:
        from benchmark.planning.catalogue import open_set
        from benchmark.results import provenance

        with contextlib.suppress(UserError, OSError, SyntaxError):
            return provenance.benchmark_sha256(open_set(name, self._data))
        return None

    def _weights(self, backbone: str) -> str | None:
        from benchmark.models.find_weights import find_weights

        with contextlib.suppress(UserError, OSError):
            path = find_weights(backbone, self._dirs)
            return None if path is None else file_sha256(path)
        return None


def _method_hashes() -> dict[str, str]:
    import methods
    from benchmark.results import provenance

    loaded = methods.METHODS.loaded()
    return {name: provenance.method_sha256(cls) for name, cls in loaded.items()}


def reasons(spec: RunSpec, recorded: Recorded, current: CurrentHashes) -> list[str]:
    """Why a finished run no longer describes what would be run now; empty if nothing speaks so.

    What cannot be compared is no reason; see `unknown`. A hash of the weights names no scheme.
    """
    return [
        reason
        for reason, (then, now) in _compared(spec, recorded, current).items()
        if comparable(then, now()) and then != now()
    ]


def unknown(spec: RunSpec, recorded: Recorded, current: CurrentHashes) -> bool:
    """Whether something cannot be compared: an older record, or data or weights not here."""
    pairs = _compared(spec, recorded, current).values()
    return any(not comparable(then, now()) for then, now in pairs)


def _compared(
    spec: RunSpec, recorded: Recorded, current: CurrentHashes
) -> Mapping[str, tuple[str | None, Callable[[], str | None]]]:
    """By reason: the hash of then, and how to get that of now."""
    pairs: dict[str, tuple[str | None, Callable[[], str | None]]] = {
        METHOD: (recorded.method_sha256, lambda: current.method(spec.method)),
        BENCHMARK: (recorded.benchmark_sha256, lambda: current.benchmark(spec.benchmark)),
    }
    if spec.weights == "pretrained":
        pairs[WEIGHTS] = (recorded.weights_sha256, lambda: current.weights(spec.backbone))
    return pairs


STATES = tuple(
    ["done", "unsupported", "stale", "interrupted", "failed", "nan", "oom", "timeout", "missing"]
)
"""What a cell can be, in the order of counting; stale: finished, but see `reasons`."""


class State(NamedTuple):
    """How far a cell is."""

    name: str  # one of STATES
    reasons: tuple[str, ...] = ()  # why it is stale
    unknown: bool = False  # finished, but not everything can be compared


def state_of(cell: RunSpec, held: Held, current: CurrentHashes) -> State:
    """How far a cell is, from what its results folder holds."""
    place = cell.folder.as_posix()
    entry = held.entries.get(place)
    if entry is None or entry.run_id != cell.run_id:
        return State("interrupted" if place in held.interrupted else "missing")
    if entry.status not in FINAL:
        return State(entry.status)
    if found := reasons(cell, entry, current):
        return State("stale", tuple(found))
    if entry.status == "unsupported":
        return State("unsupported")
    return State("done", unknown=unknown(cell, entry, current))


def made_before(missing: Iterable[RunSpec], results: Path) -> list[Record]:
    """Finished runs that differ from missing cells in nothing but the description of their set.

    Args:
        missing: cells that have not run; only those of described sets are looked at.
        results: folder of the results.

    Returns:
        One record for each missing cell that has one.
    """
    found, seen = [], dict[Path, dict[str, Record]]()
    for cell in missing:
        if not cell.benchmark_version:
            continue
        place = (results / cell.folder).parent
        if place not in seen:
            records = (store.read_record(folder) for folder in sorted(place.glob("[!.]*")))
            seen[place] = {_undescribed(r): r for r in records if r and r.status == "done"}
        record = seen[place].get(_without_version(cell))
        if record is not None and record.benchmark_version != cell.benchmark_version:
            found.append(record)
    return found


def redescribed(records: Iterable[Record]) -> list[str]:
    """Says of runs of sets whose description has changed since what changed; a sentence a set.

    Args:
        records: of finished runs; those of unknown sets, or of the present description, are
            left out.
    """
    from benchmark.planning.catalogue import BENCHMARKS

    changed: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        if record.metrics is None or record.benchmark not in BENCHMARKS.names():
            continue
        now = BENCHMARKS.get(record.benchmark)
        if record.benchmark_version != now.version:
            how = _differing(list(record.metrics.class_iou), list(now.classes))
            changed[record.benchmark, how] += 1
    return [
        f"{counted(number, 'run')} of {name} {'was' if number == 1 else 'were'} made with {how}; "
        f"`run` trains {'it' if number == 1 else 'them'} again"
        for (name, how), number in changed.items()
    ]


_MOST_NAMES = 3


def _differing(then: Sequence[str], now: Sequence[str]) -> str:
    """What differs between two descriptions of a set, as far as its classes tell."""
    if then == now:
        return "another description of the set (its folder, splits, labels or size of images)"
    if len(then) != len(now):
        return f"another number of classes ({len(then)} -> {len(now)})"
    if sorted(then) == sorted(now):
        return f"another order of classes ({', '.join(then)} -> {', '.join(now)})"
    pairs = [f"{a} -> {b}" for a, b in zip(then, now, strict=True) if a != b]
    more = [f"{len(pairs) - _MOST_NAMES} more"] if len(pairs) > _MOST_NAMES else []
    return f"other class names ({', '.join([*pairs[:_MOST_NAMES], *more])})"


def _undescribed(record: Record) -> str:
    """`_without_version` of a record; empty where its protocol is none of this version."""
    from benchmark.results.validate import spec_of  # takes pandas

    try:
        return _without_version(spec_of(record))
    except ValueError:
        return ""


def _without_version(cell: RunSpec) -> str:
    # Not `model_copy`, which would keep the run id.
    return RunSpec.model_validate(cell.model_dump() | {"benchmark_version": ""}).run_id
