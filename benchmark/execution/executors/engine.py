"""An executor on other machines: an engine that exists does the scheduling, this waits for it.

A first signal leaves: the cells go on there, and the same command finds them again. A second one
cancels them.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.execution.executors.here import Here
from benchmark.execution.executors.needs import Needs
from benchmark.execution.tasks import Listener, Task

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal
    from benchmark.execution.environment import Environment

GRACE_SECONDS = 3.0
"""In which a second signal cancels."""
PATIENCE_SECONDS = 60.0
"""For cells to end their step and save, where they cannot go on without this command."""


class Cell(Task, Protocol):
    """A task that travels to another machine.

    It must be safe to do it again: an engine repeats what a dead worker may have finished.
    """

    @property
    def key(self) -> str:
        """Names it; the same for the same cell of any command."""

    @property
    def folder(self) -> str:
        """Of its record, in the results folder."""

    @property
    def needs(self) -> Needs:
        """What it asks of a machine."""


class Engine(ABC):
    """What an engine must be able to do; `run` is the same for all.

    Attributes:
        name: as users type it.
        detachable: whether cells go on when this command ends.
    """

    name: str
    detachable = True

    def __init__(self, watch: "StopSignal") -> None:
        self._watch = watch

    @abstractmethod
    def submit(self, cells: Sequence[Cell], listener: Listener) -> None:
        """Hands cells over; those that the engine has from an earlier command are not doubled.

        Raises:
            UserError: the engine refuses them.
        """

    @abstractmethod
    def ended(self) -> list[tuple[str, Any]]:
        """Waits a moment, then returns key and outcome of cells that ended since.

        The outcome is what the task returned, or `Lost`; None where the cell must be handed over
        again through no fault of its own.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Takes everything back that was handed over."""

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """See `Executor`.

        What is no `Cell` is light, as noting that a cell's workers died, and done here.
        """
        there: dict[str, Any] = {}
        try:
            while (tasks or there) and not self._watch.signal:
                fresh: list[Any] = [task for task in tasks if hasattr(task, "key")]
                light = deque(task for task in tasks if not hasattr(task, "key"))
                tasks.clear()
                if light:
                    yield from Here(_environment()).run(light, listener)
                if fresh:
                    there |= {cell.key: cell for cell in fresh}
                    self.submit(fresh, listener)
                for key, outcome in self.ended() if there else ():
                    cell = there.pop(key, None)
                    if cell is not None and outcome is None:
                        tasks.append(cell)
                    elif cell is not None:
                        yield cell, outcome
            if there and self._watch.signal:
                if self.detachable:
                    time.sleep(GRACE_SECONDS)
                    return
                self.cancel()
                deadline = time.monotonic() + PATIENCE_SECONDS
                while there and time.monotonic() < deadline:
                    for key, outcome in self.ended():
                        if key in there:
                            yield there.pop(key), outcome
        except KeyboardInterrupt:
            self.cancel()
            raise


def _environment() -> "Environment":
    from benchmark.core.spec import Compute
    from benchmark.execution.environment import Environment

    return Environment(compute=Compute("fp32"))
