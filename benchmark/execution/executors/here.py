"""What this process does itself: all tasks, or light ones while other processes start."""

import multiprocessing
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.execution.executors.worker import Sender, portable, reply
from benchmark.execution.tasks import Light, Listener, Task

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal
    from benchmark.execution.environment import Environment


@dataclass(frozen=True)
class Here:
    """Does tasks in this process, one after the other."""

    environment: "Environment"

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """See `Executor`."""
        while tasks and not self.environment.watch.signal:
            task = tasks.popleft()
            yield task, task(self.environment, listener)


class Helper:
    """A thread of this process that does light tasks while processes start."""

    def __init__(self, watch: "StopSignal") -> None:
        self.connection, self._theirs = multiprocessing.Pipe()
        self.task: Task | None = None
        self._watch = watch

    def give(self, task: Light) -> None:
        """Begins a task; its end is heard from `connection`."""
        self.task = task
        threading.Thread(target=self._do, args=(task,), daemon=True).start()

    def _do(self, task: Light) -> None:
        listener: Any = Sender(self._theirs, self._watch)
        try:
            result = task.alone(self._watch, listener)
        except Exception as error:
            reply(self._theirs, "raised", portable(error))
        else:
            reply(self._theirs, "result", result)

    def signal(self, number: int) -> None:
        """It looks at the signal of this process by itself."""
