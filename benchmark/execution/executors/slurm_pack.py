"""What a Slurm job does."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.execution.executors.engine import Cell
from benchmark.execution.executors.worker import Setup, do

if TYPE_CHECKING:
    from types import FrameType

_SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"


def submitit_module() -> Any:
    """submitit, set to send SIGUSR1.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault(_SIGNAL, "USR1")  # read when it is imported, here and in the job
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--executor slurm: submitit is not installed; python -m pip install "
            "'petseg-bench[slurm]'"
        ) from None
    return submitit


@dataclass
class Pack:
    """What a job does: cells, one after the other."""

    setup: Setup
    cells: Sequence[Cell]

    def __call__(self) -> list[tuple[str, Any]]:
        """Key and outcome of each cell that was reached."""
        watch, outcomes = StopSignal(self.setup.max_seconds), []
        number = signal.Signals[f"SIG{os.environ[_SIGNAL]}"]

        def remember(number: int, frame: "FrameType | None") -> None:
            watch.signal = watch.signal or signal.Signals(number).name

        requeue: Any = signal.signal(number, remember)
        for cell in self.cells:
            outcomes.append((cell.key, do(self.setup, cell, watch)))
            if watch.signal:
                break
        if watch.signal == number.name:
            requeue(number, None)  # of submitit; it ends this process
        return outcomes

    def checkpoint(self) -> Any:
        """What submitit queues again: the same, since cells know whether they are done."""
        return submitit_module().helpers.DelayedSubmission(self)
