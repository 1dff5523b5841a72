"""Processes of this machine that run cells side by side, each with its own threads.

The processes are forks of a server that has imported torch, which takes seconds, once. Each is in a
process group of its own, so that a signal reaches it from this process alone, once. If this process
dies, they notice it, save a checkpoint and end.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from benchmark.execution.executors.base import Lost
from benchmark.execution.executors.here import Helper, Here
from benchmark.execution.executors.worker import (
    START,
    Setup,
    serve,
    start_server,
    threads_of,
)
from benchmark.execution.tasks import Light, Listener, Task

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal

PATIENCE_SECONDS = 600.0
"""For a process to end its step and save; then it is killed, and resumes an older checkpoint."""
LOOK_SECONDS = 0.2
"""Between looks whether a signal came."""
STARTING_SECONDS = 0.02
"""The same while processes start."""


class Worker:
    """A process and the task that it is at.

    Args:
        setup: of the process.
        number: of the process, from 0.
    """

    def __init__(self, setup: Setup, number: int) -> None:
        context: Any = multiprocessing.get_context(START)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(setup, number, theirs))
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.signalled = False

    def give(self, task: Task) -> None:
        """Begins a task; its end is heard from `connection`."""
        with contextlib.suppress(OSError):  # it is dead, which shows when it is heard next
            self.connection.send(task)
        self.task = task

    def signal(self, number: int) -> None:
        """Passes a signal on, once; a second one would end it without a checkpoint."""
        if not self.signalled and self.process.pid is not None:
            self.signalled = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class Pool:
    """Does tasks in several processes; until these have started, light ones in this process.

    Args:
        setup: of each process.
        count: how many there are.
        watch: whose signal is passed on.
    """

    def __init__(self, setup: Setup, count: int, watch: "StopSignal") -> None:
        self._setup, self._watch = setup, watch
        start_server()
        # The first process is there when the server has imported torch, which takes seconds.
        starter = ThreadPoolExecutor(1)
        self._starting = starter.submit(lambda: [Worker(setup, n) for n in range(count)])
        starter.shutdown(wait=False)
        self._workers: list[Worker] = []
        self._helper = Helper(watch)
        self._used = self._count = count

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._starting.exception() is None:
            self._workers = self._workers or self._starting.result()
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
            if worker.task is not None:
                worker.signal(signal.SIGTERM)
        for worker in self._workers:
            # A second signal of an impatient user.
            worker.process.join(0 if kind is KeyboardInterrupt else PATIENCE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()

    def limit(self, count: int) -> None:
        """From now on no more than so many processes get a task."""
        self._used = max(1, min(count, self._count))

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """See `Executor`."""
        while True:
            starting = not self._starting.done()
            if not self._watch.signal:
                self._share_out(tasks, starting)
            everyone: list[Worker | Helper] = [*self._workers, self._helper]
            busy = [worker for worker in everyone if worker.task is not None]
            if not busy and not (starting and tasks and not self._watch.signal):
                return
            if self._watch.signal:
                for worker in busy:
                    worker.signal(signal.Signals[self._watch.signal])
            seconds = STARTING_SECONDS if starting else LOOK_SECONDS
            heard = wait([worker.connection for worker in busy], seconds)
            for number, worker in enumerate(everyone):
                if worker.connection in heard:
                    yield from self._hear(number, worker, listener)

    def _share_out(self, tasks: deque[Task], starting: bool) -> None:
        """Gives tasks to who has none: processes from the left, this one from the right."""
        if starting:
            if self._helper.task is None and tasks and isinstance(tasks[-1], Light):
                light = tasks.pop()
                assert isinstance(light, Light)
                self._helper.give(light)
            return
        self._workers = self._workers or self._starting.result()
        for worker in self._workers[: self._used]:
            if worker.task is None and tasks:
                worker.give(tasks.popleft())

    def _hear(
        self, number: int, worker: Worker | Helper, listener: Listener
    ) -> Iterator[tuple[Task, Any]]:
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            assert isinstance(worker, Worker)
            worker.process.join()
            task, code = worker.task, worker.process.exitcode or 0
            worker.connection.close()
            self._workers[number] = Worker(self._setup, number)
            assert task is not None
            yield task, Lost(code)
            return
        if kind == "event":
            name, arguments = content
            getattr(listener, name)(*arguments)
            return
        task, worker.task = worker.task, None
        if kind == "raised":
            raise content[0]
        assert task is not None
        yield task, content[0]


@contextmanager
def workers(setup: Setup, jobs: int, watch: "StopSignal") -> Iterator["Pool | Here"]:
    """Processes that do tasks inside the block; for a single job, this process.

    Args:
        setup: of each process.
        jobs: how many there are.
        watch: says when to stop.

    Raises:
        UserError: the device does not exist.
    """
    if jobs > 1:
        with Pool(setup, jobs, watch) as pool:
            yield pool
    else:
        with threads_of(setup.threads):
            yield Here(setup.environment(0, watch))
