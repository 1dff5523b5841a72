"""What runs the cells of a grid, wherever that is: the protocol, and what comes back."""

import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from benchmark.execution.tasks import Listener, Task


@dataclass(frozen=True)
class Lost:
    """In place of a result: the process that did the task died.

    Attributes:
        exit_code: as in `Process`; None where an engine does not say.
        reason: what the engine says, on one line.
    """

    exit_code: int | None = None
    reason: str = ""


def died(lost: Lost) -> str:
    """What a process died of, on one line."""
    code = lost.exit_code
    if code is None:
        return lost.reason
    if code == -signal.SIGKILL:
        return "its process was killed, most likely because memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


class Executor(Protocol):
    """Does tasks: in processes of this machine, or by an engine that has others.

    An engine on other machines takes tasks that say what they need (`execution.elsewhere.Cell`).
    """

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """Does tasks until none is left or a signal comes, in the order in which they end.

        Args:
            tasks: taken from the left; more may be added on the way.
            listener: receives progress.

        Yields:
            Each task with its result, or `Lost`.
        """
