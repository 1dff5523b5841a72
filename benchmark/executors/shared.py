"""One cell after the other in this process, beside any number of others on the same folder."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmark import lease, store
from benchmark.environment import Environment
from benchmark.interrupt import Interrupted, Superseded
from benchmark.record import FINAL, Record
from benchmark.runner import run_cell
from benchmark.spec import RunSpec

POLL_SECONDS = 2.0
"""Pause before it is looked again whether others are done with their cells."""

Mark = tuple[str, str] | None
"""Status and start of a cell's record, by which a new one is told from the one that was there."""


class Listener(Protocol):
    """What wants to know how a grid proceeds."""

    def decoding(self, what: str, done: int, total: int) -> None:
        """Before the first cell: a split that is not in the cache is decoded."""

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Before the first cell: these will be unsupported."""

    def cell_started(self, spec: RunSpec) -> None:
        """A cell begins."""

    def step(self, step: int, loss: float, images_per_second: float) -> None:
        """The current cell made a training step."""

    def cell_finished(self, record: Record) -> None:
        """The current cell is stored."""

    def cell_found(self, record: Record) -> None:
        """Another process has stored a cell meanwhile."""

    def waiting(self, cells: int) -> None:
        """Only cells that other processes work on are left."""


def mark(results: Path, spec: RunSpec) -> Mark:
    """Tells records of one cell apart; that of another run in its place is none."""
    record = store.record_of(results, spec)
    return None if record is None else (record.status, record.provenance.started)


def _tell(listener: Listener, results: Path, spec: RunSpec) -> None:
    record = store.record_of(results, spec)
    if record is not None:
        listener.cell_found(record)


def execute(
    cells: Sequence[RunSpec],
    results: Path,
    environment: Environment,
    before: Mapping[str, Mark],
    rerun: Collection[str] = (),
    listener: Listener | None = None,
) -> Iterator[Record]:
    """Runs cells that no other process works on, then waits for those that others do.

    A failed cell is a record with a status, and the others go on; an interrupted one ends it all.

    Args:
        cells: what is to be run, in order.
        results: folder of the results.
        environment: where to run.
        before: marks of the records by run id, as they were when the cells were chosen.
        rerun: ids of the runs that are run though they are finished.
        listener: is told about progress.

    Yields:
        The records of the cells that this process ran.
    """
    left = list(cells)
    told = False
    while left:
        busy = []
        for spec in left:
            if environment.watch.signal:
                return
            with lease.hold(results, spec, environment.watch.superseded.set) as mine:
                if not mine:
                    busy.append(spec)
                    continue
                now = mark(results, spec)
                if now is not None and now[0] != "interrupted":
                    finished = now[0] in FINAL and spec.run_id not in rerun
                    if finished or now != before[spec.run_id]:
                        if listener:
                            _tell(listener, results, spec)
                        continue  # another process ran it meanwhile
                if listener:
                    listener.cell_started(spec)
                try:
                    record = run_cell(
                        spec, results, environment, listener.step if listener else None
                    )
                except Superseded:
                    busy.append(spec)
                    continue
            if listener:
                listener.cell_finished(record)
            yield record
            if record.status == "interrupted":
                return
        if len(busy) == len(left):
            if listener and not told:
                listener.waiting(len(busy))
                told = True
            try:
                environment.watch.check_signal("while others worked")
            except Interrupted:
                return
            time.sleep(POLL_SECONDS)
        left = busy
