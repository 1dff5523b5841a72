"""Cells that take a moment, for tests that kill what runs them."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.core.spec import Compute, RunSpec
from benchmark.execution.environment import Environment
from benchmark.execution.executors.needs import Needs
from benchmark.execution.run_state import RunState
from benchmark.execution.tasks import Outcome, is_settled, mark
from benchmark.planning.catalogue import build_method
from benchmark.planning.plan import Selection, plan
from benchmark.results import lock, store


def note(path: Path, text: str) -> None:
    """Appends a line at once: the kernel keeps appends of one call whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


@dataclass(frozen=True, eq=False)
class Tick:
    """Locks its cell, waits, and stores a record, as a training does.

    It writes down, beside the results, `PID NODE` when it begins and its run id when it has stored.
    """

    cell: RunSpec
    results: Path
    seconds: float
    needs: Needs = field(default_factory=lambda: Needs(minutes=0.01))

    @property
    def key(self) -> str:
        """Its run id."""
        return self.cell.run_id

    @property
    def folder(self) -> str:
        """Of its record."""
        return self.cell.folder.as_posix()

    def __call__(self, environment, listener):
        """The record."""
        with lock.hold(self.results, self.cell) as mine:
            if not mine:
                return Outcome.BUSY
            if is_settled(self.results, self.cell, None, False):
                return Outcome.FOUND
            home = self.results.parent
            note(home / "began", f"{os.getpid()} {os.environ.get('SLURMD_NODENAME', '-')}")
            time.sleep(self.seconds)
            method = build_method(self.cell.method, self.cell.method_params)
            state = RunState(self.results, self.cell, method)
            record = state.record(Environment(compute=Compute("fp32")), "unsupported", "a tick")
            with store.staging(self.results, self.cell) as folder:
                store.write_record(folder, record)
            note(home / "stored", self.key)
            return record


def ticks(results: Path, count: int, seconds: float) -> list[Tick]:
    """So many of them that are not done."""
    cells = plan(Selection(methods="linear", benchmarks="cells", seeds=tuple(range(count))))
    return [Tick(cell, results, seconds) for cell in cells if mark(results, cell) is None]
