"""One cell after the other, in this process."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from benchmark.environment import Environment
from benchmark.record import Record
from benchmark.runner import run_cell
from benchmark.spec import RunSpec


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


def execute(
    cells: Sequence[RunSpec],
    results: Path,
    environment: Environment,
    listener: Listener | None = None,
) -> Iterator[Record]:
    """Runs cells in order; a failed one is a record with a status, and the others go on."""
    for spec in cells:
        if listener:
            listener.cell_started(spec)
        record = run_cell(spec, results, environment, listener.step if listener else None)
        if listener:
            listener.cell_finished(record)
        yield record
