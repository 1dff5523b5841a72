"""Processes of this machine that train each cell together, one on each device.

The first process does all tasks. When it begins to train a cell, the others are told to train it
beside it (`tasks.Follow`). When one of them dies or fails, the others wait for it; so all of them
are ended, and started again for the next cell.
"""

import contextlib
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.record import Record, Status
from benchmark.execution.executors.base import Lost, died
from benchmark.execution.executors.local import LOOK_SECONDS, PATIENCE_SECONDS, Worker
from benchmark.execution.executors.worker import Setup, start_server
from benchmark.execution.tasks import Failure, Listener, Outcome, Task, Train

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal

GRACE_SECONDS = 10.0
"""For the first process to store the record of a cell that another one has failed at."""


class Devices:
    """Does tasks one after the other, and trains each cell on all devices.

    Args:
        setup: of each process; its devices are those of a cell.
        watch: whose signal is passed on.
    """

    def __init__(self, setup: Setup, watch: "StopSignal") -> None:
        self._setup, self._watch = setup, watch
        self._folder = Path(tempfile.mkdtemp(prefix="petseg-devices-"))
        self._workers: list[Worker] = []
        self._groups = 0
        start_server()

    def __enter__(self) -> "Devices":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
            if worker.task is not None:
                worker.signal(signal.SIGTERM)
        # A second signal of an impatient user.
        patience = 0.0 if kind is KeyboardInterrupt else PATIENCE_SECONDS
        for worker in self._workers:
            worker.process.join(patience)
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """See `Executor`; in place of a result there may be a `Failure`."""
        while tasks and not self._watch.signal:
            task = tasks.popleft()
            yield task, self._do(task, listener)

    def _do(self, task: Task, listener: Listener) -> Any:
        """The result of a task, or why there is none."""
        self._start()
        first, why, until = self._workers[0], None, float("inf")
        first.give(task)
        while time.monotonic() < until:
            for number, worker in self._heard():
                try:
                    kind, *content = worker.connection.recv()
                except (EOFError, OSError):
                    return self._died(number, task)
                if kind == "event":
                    self._tell(listener, task, *content)
                    continue
                if kind == "raised":
                    self._end()
                    raise content[0]
                (result,), worker.task = content, None
                if worker is first and result is not Outcome.LEFT:
                    self._settle(result)
                    return result
                if isinstance(result, Failure):
                    why = why or replace(result, reason=f"{result.reason} (on device {number + 1})")
                if result is not Outcome.FOLLOWED:
                    until = min(until, time.monotonic() + _grace(result))
        self._end()
        return why or Failure("failed", "the connection between its processes broke")

    def _heard(self) -> list[tuple[int, Worker]]:
        """Processes that have something to say; a signal is passed on.

        One without a task may have died, or failed to start: the others would wait for it.
        """
        for worker in self._workers:
            if self._watch.signal and worker.task is not None:
                worker.signal(signal.Signals[self._watch.signal])
        heard = wait([worker.connection for worker in self._workers], LOOK_SECONDS)
        return [pair for pair in enumerate(self._workers) if pair[1].connection in heard]

    def _tell(self, listener: Listener, task: Task, name: str, arguments: Any) -> None:
        """Passes an event on; when a cell begins, the other processes begin it, too."""
        getattr(listener, name)(*arguments)
        if name == "cell_started" and isinstance(task, Train):
            for other in self._workers[1:]:
                other.give(task.following)

    def _died(self, number: int, task: Task) -> Failure | Lost:
        """A process is dead: ends the others, and says why the task has no result."""
        process, count = self._workers[number].process, len(self._workers)
        process.join()
        lost = Lost(process.exitcode or 0)
        self._end()
        if not isinstance(task, Train):
            return lost
        status: Status = "oom" if lost.exit_code == -signal.SIGKILL else "failed"
        where = f"device {number + 1} of {count}"
        return Failure(status, f"{where}: {died(lost)}; to resume, use --retry {status}")

    def _start(self) -> None:
        """Starts the processes, where they do not run."""
        if not self._workers:
            self._groups += 1
            setup = replace(self._setup, meeting=self._folder / str(self._groups))
            self._workers = [Worker(setup, number) for number in range(len(setup.devices))]

    def _settle(self, result: Any) -> None:
        """The first process is done; others that wait for it, because it failed, are ended."""
        failed = isinstance(result, Record) and result.status in ("failed", "oom")
        until = time.monotonic() + (0.0 if failed else GRACE_SECONDS)
        busy = [worker for worker in self._workers if worker.task is not None]
        while busy and time.monotonic() < until:
            for worker in busy:
                if worker.connection.poll(LOOK_SECONDS):
                    with contextlib.suppress(EOFError, OSError):
                        worker.connection.recv()
                        worker.task = None
                        continue
                    until = 0.0
            busy = [worker for worker in busy if worker.task is not None]
        if busy:
            self._end()

    def _end(self) -> None:
        """Kills the processes that are left."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self._workers = []


def _grace(result: Failure | Outcome) -> float:
    """Seconds for the first process to end, after what another one said.

    At a signal, a limit of time or a loss that is not finite all of them stop; the first one has
    to store the record. Whatever else one fails at, the others wait for it in vain.
    """
    alone = isinstance(result, Failure) and result.status in ("failed", "oom")
    return 0.0 if alone else GRACE_SECONDS
