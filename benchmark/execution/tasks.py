"""What the processes of a grid are asked to do: check a cell, decode a split, train a cell.

A task travels to the process that does it, so it holds plain values, and imports torch only there.
Each is itself alone: two of the same content are two tasks.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.core.record import FINAL, Record, Status
from benchmark.core.spec import Compute, RunSpec
from benchmark.results import lease, store

if TYPE_CHECKING:
    from benchmark.data.base import Split
    from benchmark.execution.environment import Environment

Mark = tuple[str, str] | None
"""Status and start of a cell's record, by which a new one is known from the one that was there."""


class Listener(Protocol):
    """What wants to know how a grid proceeds."""

    def decoding(self, what: str, done: int, total: int) -> None:
        """Before the first cell: a split that is not in the cache is decoded."""

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Before the first cell: these will be unsupported."""

    def note(self, text: str) -> None:
        """Something about the grid as a whole, one line."""

    def cell_started(self, spec: RunSpec) -> None:
        """A cell begins."""

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """A cell made a training step."""

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


class Outcome(Enum):
    """Why a cell was not run here."""

    BUSY = "another command works on it"
    FOUND = "another command has finished it"


@dataclass(frozen=True, eq=False)
class Check:
    """Whether a cell's backbone can be built and its method can act on it.

    The result is the reason why the method cannot, or an empty text.
    """

    cell: RunSpec

    def __call__(self, environment: "Environment", listener: Listener) -> str:
        """Raises UserError where something would stop every such cell."""
        from benchmark.execution.environment import check

        return check(self.cell, environment)


@dataclass(frozen=True, eq=False)
class Decode:
    """Opens a split of a benchmark, and decodes it where it is not in the cache."""

    benchmark: str
    split: "Split"

    def __call__(self, environment: "Environment", listener: Listener) -> None:
        """Raises UserError where data are missing or damaged, Interrupted at a signal."""
        from benchmark.execution.environment import decoded

        def watched(what: str, done: int, total: int) -> None:
            environment.watch.check_signal(f"while {what} was decoded")
            listener.decoding(what, done, total)

        decoded(self.benchmark, environment.data, self.split, watched)


@dataclass(frozen=True, eq=False)
class Choose:
    """Finds out which precision and attention are fast for a cell's backbone and batches."""

    cell: RunSpec

    def __call__(self, environment: "Environment", listener: Listener) -> Compute:
        """Raises UserError where the weights are missing or damaged."""
        return environment.compute_of(self.cell)


@dataclass(frozen=True, eq=False)
class Train:
    """Runs a cell that no other command works on.

    Attributes:
        cell: what to run.
        results: folder of the results.
        before: mark of its record when the cells were chosen; a newer record is another's work.
        again: run it though it is finished.
        compute: how.
    """

    cell: RunSpec
    results: Path
    before: Mark
    again: bool
    compute: Compute

    def __call__(self, environment: "Environment", listener: Listener) -> Record | Outcome:
        """The record; an exception in the cell is a record with a status."""
        from benchmark.core.interrupt import Superseded
        from benchmark.execution.cell import run_cell

        cell = self.cell
        with lease.hold(self.results, cell, environment.watch.superseded.set) as mine:
            if not mine:
                return Outcome.BUSY
            now = mark(self.results, cell)
            if now is not None and now[0] != "interrupted":
                finished = now[0] in FINAL and not self.again
                if finished or now != self.before:
                    return Outcome.FOUND
            listener.cell_started(cell)
            try:
                return run_cell(
                    cell,
                    self.results,
                    dataclasses.replace(environment, compute=self.compute),
                    lambda *progress: listener.step(cell, *progress),
                )
            except Superseded:
                return Outcome.BUSY


@dataclass(frozen=True, eq=False)
class Bury:
    """Stores a cell as failed because the processes that ran it died.

    Attributes:
        cell: the cell.
        results: folder of the results.
        reason: one line.
        killed: by SIGKILL, as the system does where memory runs out.
    """

    cell: RunSpec
    results: Path
    reason: str
    killed: bool

    def __call__(self, environment: "Environment", listener: Listener) -> Record | Outcome:
        """The record that was stored."""
        from benchmark.execution.cell import store_failure

        with lease.hold(self.results, self.cell) as mine:
            if not mine:
                return Outcome.BUSY
            status: Status = "oom" if self.killed else "failed"
            return store_failure(self.cell, self.results, environment, status, self.reason)


def mark(results: Path, spec: RunSpec) -> Mark:
    """Tells records of one cell apart; that of another run in its place is none."""
    record = store.record_of(results, spec)
    return None if record is None else (record.status, record.provenance.started)
