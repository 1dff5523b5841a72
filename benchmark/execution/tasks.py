"""What the processes of a grid are asked to do: check a cell, decode a split, train a cell.

A task travels to the process that does it, so it holds plain values, and imports torch only there.
Each is itself alone: two of the same content are two tasks.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from benchmark.core.errors import UserError
from benchmark.core.record import FINAL, Record, Status
from benchmark.core.spec import Compute, RunSpec
from benchmark.data.base import Finding
from benchmark.results import lock, remote, store

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal
    from benchmark.data.audit.near_duplicates import Alike, Seen
    from benchmark.data.base import Split
    from benchmark.execution.environment import Environment

TRACEBACK_LINES = 30
"""Of a record."""

Mark = tuple[str, str] | None
"""Status and start of a cell's record, by which a new one is known from the one that was there."""


class Listener(Protocol):
    """What wants to know how a grid proceeds."""

    def decoding(self, what: str, done: int, total: int) -> None:
        """Before the first cell: a split that is not in the cache is decoded."""

    def refused(self, cells: Sequence[RunSpec], verdict: "Verdict") -> None:
        """Before the first cell: these will not be trained."""

    def note(self, text: str) -> None:
        """Something about the grid as a whole, one line."""

    def cell_started(self, spec: RunSpec) -> None:
        """A cell begins."""

    def resumed(self, spec: RunSpec, step: int) -> None:
        """A cell resumes from a checkpoint that was taken after this step."""

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """A cell made a training step."""

    def validated(self, spec: RunSpec, step: int, miou: float) -> None:
        """A cell was evaluated on the validation split after a step; before `step` tells of it."""

    def cell_finished(self, record: Record) -> None:
        """A cell is stored."""

    def cell_found(self, record: Record) -> None:
        """Another command has stored a cell."""

    def waiting(self, cells: int) -> None:
        """Only cells that other commands work on are left."""


class Silent:
    """A listener that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Task(Protocol):
    """Something to do; its result travels back."""

    def __call__(self, environment: "Environment", listener: Listener) -> Any:
        """Does it; an exception that it raises ends the grid."""


@runtime_checkable
class Light(Task, Protocol):
    """A task without torch, which the command itself may do while its processes start."""

    def alone(self, watch: "StopSignal", listener: Listener) -> Any:
        """Does it without an environment."""


class Outcome(Enum):
    """Why a cell was not run here."""

    BUSY = "another command works on it"
    FOUND = "another command has finished it"
    FOLLOWED = "the first of its processes stores it"
    LEFT = "another of its processes has ended"


@dataclass(frozen=True)
class Verdict:
    """Whether a cell can run.

    Attributes:
        reason: why it cannot, on one line; empty = it can.
        status: that it gets without running; None = none, because what is missing may be there the
            next time.
        traceback: of a fault in the method's code.
        by_user: whether what was typed, or what is installed or stored, is the cause.
        unmeasured: why costs will be missing, though the cell can run; empty = none will.
    """

    reason: str = ""
    status: Status | None = None
    traceback: str = ""
    by_user: bool = False
    unmeasured: str = ""


@dataclass(frozen=True, eq=False)
class Check:
    """Whether a cell's backbone can be built, and its method trained and stored on it."""

    cell: RunSpec

    def __call__(self, environment: "Environment", listener: Listener) -> Verdict:
        """Trains nothing, reads no data."""
        from benchmark.execution.checks import check

        return check(self.cell, environment)


@dataclass(frozen=True)
class Opened:
    """A split that was opened.

    Attributes:
        problem: why it cannot be read, on one line; empty = it can.
        findings: what makes results on it wrong.
        seen: by which copies of its images in other splits are found.
    """

    problem: str = ""
    findings: tuple[Finding, ...] = ()
    seen: tuple["Seen", ...] = ()


@dataclass(frozen=True, eq=False)
class Decode:
    """Opens a split of a benchmark, and decodes it where it is not in the cache.

    Attributes:
        benchmark: its name.
        split: which one.
        data: data root.
        threads: that decode; None = one a core.
    """

    benchmark: str
    split: "Split"
    data: Path | None
    threads: int | None

    def __call__(self, environment: "Environment", listener: Listener) -> "Opened":
        """See `alone`."""
        return self.alone(environment.watch, listener)

    def alone(self, watch: "StopSignal", listener: Listener) -> "Opened":
        """What is wrong with the split; raises Interrupted at a signal."""
        from benchmark.data.audit.presence import seen_in, serious
        from benchmark.data.examples import Direct
        from benchmark.execution.splits import decoded, open_benchmark

        def watched(what: str, done: int, total: int) -> None:
            watch.check_signal(f"while {what} was decoded")
            listener.decoding(what, done, total)

        try:
            examples = decoded(self.benchmark, self.data, self.split, watched, self.threads)
            if isinstance(examples, Direct):
                examples.scan(watched, self.threads)
        except UserError as error:
            return Opened(str(error))
        benchmark = open_benchmark(self.benchmark, self.data)
        findings = tuple(serious(benchmark, self.split, examples))
        return Opened("", findings, tuple(seen_in(self.split, examples)))


@dataclass(frozen=True, eq=False)
class Compare:
    """Looks for images of a benchmark that are the same, or nearly so.

    Attributes:
        benchmark: its name.
        data: data root.
    """

    benchmark: str
    data: Path | None

    def __call__(self, environment: "Environment", listener: Listener) -> "Alike | None":
        """See `alone`."""
        return self.alone(environment.watch, listener)

    def alone(self, watch: "StopSignal", listener: Listener) -> "Alike | None":
        """None where nobody looks (see `twins_of`); raises Interrupted at a signal."""
        from benchmark.data.audit.twins import twins_of
        from benchmark.execution.splits import open_benchmark

        def watched(done: int, total: int) -> None:
            watch.check_signal(f"while images of {self.benchmark} were compared")
            listener.decoding(f"{self.benchmark} for near-duplicates", done, total)

        try:
            return twins_of(open_benchmark(self.benchmark, self.data), watched)
        except UserError:
            return None  # `Decode` says why


@dataclass(frozen=True, eq=False)
class Choose:
    """Finds out which precision and attention are fast for a cell's backbone and batches."""

    cell: RunSpec

    def __call__(self, environment: "Environment", listener: Listener) -> Compute | None:
        """None where the backbone cannot be built; `Check` says why."""
        try:
            return environment.compute_of(self.cell)
        except UserError:
            return None


@dataclass(frozen=True)
class Failure:
    """Why a cell ended where its record could not be stored: as the record has it."""

    status: Status
    reason: str
    traceback: str = ""


@dataclass(frozen=True, eq=False)
class Follow:
    """Trains and evaluates a cell beside the process that runs `Train`.

    Attributes:
        cell: what that process runs.
        results: folder of the results; nothing is written to it.
        compute: how.
    """

    cell: RunSpec
    results: Path
    compute: Compute

    def __call__(self, environment: "Environment", listener: Listener) -> Failure | Outcome:
        """Why it ended early, if it did; an exception of the cell is a failure."""
        from benchmark.engine.ranks import RankLost
        from benchmark.execution.cell import failure_of, follow_cell

        environment = dataclasses.replace(environment, compute=self.compute)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the first process gives the same ones
                follow_cell(self.cell, self.results, environment)
        except RankLost:
            return Outcome.LEFT
        except Exception as error:
            return Failure(*failure_of(error))
        return Outcome.FOLLOWED


@dataclass(frozen=True, eq=False)
class Train:
    """Runs a cell that no other command works on.

    Attributes:
        cell: what to run.
        results: folder of the results.
        before: mark of its record when the cells were chosen; a newer record is another's work.
        again: run it though it is finished.
        compute: how.
        findings: of the audit, which the user accepted.
        near_copies: see `Record.near_copies`.
    """

    cell: RunSpec
    results: Path
    before: Mark
    again: bool
    compute: Compute
    findings: tuple[str, ...] = ()
    near_copies: int | None = None

    def __call__(self, environment: "Environment", listener: Listener) -> Record | Outcome:
        """The record; an exception in the cell is a record with a status."""
        from benchmark.engine.ranks import RankLost
        from benchmark.execution.cell import run_cell

        cell = self.cell
        with lock.hold(self.results, cell) as mine:
            if not mine:
                return Outcome.BUSY
            remote.look(self.results, cell)
            if is_settled(self.results, cell, self.before, self.again):
                return Outcome.FOUND
            listener.cell_started(cell)
            try:
                record = run_cell(
                    cell,
                    self.results,
                    dataclasses.replace(environment, compute=self.compute),
                    lambda *progress: listener.step(cell, *progress),
                    self.findings,
                    lambda step: listener.resumed(cell, step),
                    self.near_copies,
                    lambda *score: listener.validated(cell, *score),
                )
            except RankLost:
                return Outcome.LEFT
            return _uploaded(self.results, record, cell, environment, listener)

    @property
    def following(self) -> Follow:
        """What the other processes do that train the cell with this one, each on its device."""
        return Follow(self.cell, self.results, self.compute)


@dataclass(frozen=True, eq=False)
class Bury:
    """Stores a cell that cannot run, or whose processes died.

    Attributes:
        cell: the cell.
        results: folder of the results.
        status: that it gets.
        reason: one line.
        traceback: of an error that a user cannot fix.
    """

    cell: RunSpec
    results: Path
    status: Status
    reason: str
    traceback: str = ""

    def __call__(self, environment: "Environment", listener: Listener) -> Record | Outcome:
        """The record that was stored."""
        from benchmark.execution.cell import store_failure

        with lock.hold(self.results, self.cell) as mine:
            if not mine:
                return Outcome.BUSY
            record = store_failure(
                self.cell, self.results, environment, self.status, self.reason, self.traceback
            )
            return _uploaded(self.results, record, self.cell, environment, listener)


def _uploaded(
    results: Path, record: Record, cell: RunSpec, environment: "Environment", listener: Listener
) -> Record:
    """The record of a cell, uploaded where the results are at a URL; of two machines the first."""
    if remote.of(results) is None:
        return record
    remote.upload(results, cell, listener.note, lambda: bool(environment.watch.signal))
    return record if record.status == "interrupted" else store.record_of(results, cell) or record


def is_settled(results: Path, cell: RunSpec, before: Mark, again: bool) -> bool:
    """Whether a cell needs no attempt any more.

    Args:
        results: folder of the results.
        cell: the cell.
        before: mark of its record when it was chosen; a newer one is another's work.
        again: run it though it was finished then.
    """
    now = mark(results, cell)
    if now is None or now[0] == "interrupted":
        return False
    return (now[0] in FINAL and not again) or now != before


def mark(results: Path, spec: RunSpec) -> Mark:
    """Tells records of one cell apart; that of another run in its place is none."""
    record = store.record_of(results, spec)
    return None if record is None else (record.status, record.provenance.started)
