"""Where the tasks of a grid are done: in this process, or in several, each with its own threads.

The processes are forks of a server that has imported torch, which takes seconds, once. Each is in a
process group of its own, so that a signal reaches it from this process alone, once. If this process
dies, they notice it, save a checkpoint and end.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.core.errors import in_a_line, on_one_line
from benchmark.core.spec import Compute
from benchmark.execution.tasks import Light, Listener, Task
from benchmark.planning.plugins import load_files

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal
    from benchmark.execution.environment import Environment

PATIENCE_SECONDS = 600.0
"""For a process to end its step and save; then it is killed, and resumes an older checkpoint."""
LOOK_SECONDS = 0.2
"""Between looks whether a signal came."""
STARTING_SECONDS = 0.02
"""The same while processes start."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read when numerical libraries are loaded."""

_PRELOADED = ["benchmark.cli", "benchmark.execution.tasks", "benchmark.execution.cell"]
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Lost:
    """In place of a result: the process that did the task died; `exit_code` as in `Process`."""

    exit_code: int


def died(lost: Lost) -> str:
    """What a process died of, on one line."""
    if lost.exit_code == -signal.SIGKILL:
        return "its process was killed, most likely because memory ran out"
    if lost.exit_code < 0:
        return f"its process was ended by {signal.Signals(-lost.exit_code).name}"
    return f"its process ended with exit code {lost.exit_code}"


class Workers(Protocol):
    """Does tasks."""

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """Does tasks until none is left or a signal comes, in the order in which they end.

        Args:
            tasks: taken from the left; more may be added on the way.
            listener: receives progress.

        Yields:
            Each task with its result, or `Lost`.
        """


@dataclass(frozen=True)
class Here:
    """Does tasks in this process, one after the other."""

    environment: "Environment"

    def run(self, tasks: deque[Task], listener: Listener) -> Iterator[tuple[Task, Any]]:
        """See `Workers`."""
        while tasks and not self.environment.watch.signal:
            task = tasks.popleft()
            yield task, task(self.environment, listener)


@dataclass(frozen=True)
class Setup:
    """What a process needs to begin; all of it travels there.

    Attributes:
        devices: of the processes, in turn, as users type them.
        threads: of each.
        data: data root of benchmarks that read files.
        weights: folders with weight files.
        workers: processes that cut training crops.
        checkpoint_seconds: between checkpoints.
        max_seconds: of one cell.
        plugins: files to load first.
        compiling: whether networks are compiled.
    """

    devices: Sequence[str]
    threads: int
    data: Path | None
    weights: Sequence[Path]
    workers: int | None
    checkpoint_seconds: float | None
    max_seconds: float | None
    plugins: Sequence[Path]
    compiling: str
    compute: Compute | None = None

    def environment(self, number: int, watch: "StopSignal") -> "Environment":
        """That of a process.

        Args:
            number: of the process, from 0.
            watch: says when its runs must stop.

        Raises:
            UserError: the device does not exist.
        """
        from benchmark.execution.environment import prepare

        return prepare(
            self.data,
            self.weights,
            self.devices[number % len(self.devices)],
            self.workers,
            self.checkpoint_seconds,
            watch,
            self.compiling,
            self.compute,
        )


class _Worker:
    """A process and the task that it is at."""

    def __init__(self, setup: Setup, number: int) -> None:
        context: Any = multiprocessing.get_context(_START)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(setup, number, theirs))
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.signalled = False

    def give(self, task: Task) -> None:
        with contextlib.suppress(OSError):  # it is dead, which shows when it is heard next
            self.connection.send(task)
        self.task = task

    def signal(self, number: int) -> None:
        """Passes a signal on, once; a second one would end it without a checkpoint."""
        if not self.signalled and self.process.pid is not None:
            self.signalled = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class _Helper:
    """A thread of this process that does light tasks while processes start."""

    def __init__(self, watch: "StopSignal") -> None:
        self.connection, self._theirs = multiprocessing.Pipe()
        self.task: Task | None = None
        self._watch = watch

    def give(self, task: Light) -> None:
        self.task = task
        threading.Thread(target=self._do, args=(task,), daemon=True).start()

    def _do(self, task: Light) -> None:
        listener: Any = _Sender(self._theirs, self._watch)
        try:
            result = task.alone(self._watch, listener)
        except Exception as error:
            _reply(self._theirs, "raised", _portable(error))
        else:
            _reply(self._theirs, "result", result)

    def signal(self, number: int) -> None:
        """It looks at the signal of this process by itself."""


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
        self._starting = starter.submit(lambda: [_Worker(setup, n) for n in range(count)])
        starter.shutdown(wait=False)
        self._workers: list[_Worker] = []
        self._helper = _Helper(watch)
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
        """See `Workers`."""
        while True:
            starting = not self._starting.done()
            if not self._watch.signal:
                self._share_out(tasks, starting)
            everyone: list[_Worker | _Helper] = [*self._workers, self._helper]
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
        self, number: int, worker: _Worker | _Helper, listener: Listener
    ) -> Iterator[tuple[Task, Any]]:
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            assert isinstance(worker, _Worker)
            worker.process.join()
            task, code = worker.task, worker.process.exitcode or 0
            worker.connection.close()
            self._workers[number] = _Worker(self._setup, number)
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


def start_server() -> None:
    """Starts the server that processes are forked from, if it does not run; returns at once.

    Its numerical libraries read here that they have one thread, unless a user says otherwise: the
    processes share the cores.
    """
    if _START != "forkserver":
        return
    from multiprocessing import forkserver

    multiprocessing.get_context(_START).set_forkserver_preload(_PRELOADED)
    unset = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        forkserver.ensure_running()
    finally:
        for name in unset:
            del os.environ[name]


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """No more than so many threads of torch in this process, inside the block."""
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(min(former, count))
    try:
        yield
    finally:
        torch.set_num_threads(former)


class _Sender:
    """A listener whose events go to the process that gave the task."""

    def __init__(self, connection: Connection, watch: "StopSignal") -> None:
        self._connection, self._watch = connection, watch

    def __getattr__(self, name: str) -> Any:
        def send(*arguments: Any) -> None:
            try:
                self._connection.send(("event", name, arguments))
            except OSError:  # the process that started this one is dead
                self._watch.signal = self._watch.signal or "SIGTERM"

        return send


def _serve(setup: Setup, number: int, connection: Connection) -> None:
    """Does the tasks that come, until None does."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpgid(0, 0)
    warnings.showwarning = in_a_line  # type: ignore[assignment]
    try:
        import torch

        from benchmark.core.interrupt import StopSignal

        torch.set_num_threads(setup.threads)
        load_files(setup.plugins)
        watch = StopSignal(setup.max_seconds)
        environment = setup.environment(number, watch)
    except Exception as error:
        _reply(connection, "raised", _portable(error))
        return
    listener: Any = _Sender(connection, watch)
    with watch.signals():
        while True:
            try:
                task = connection.recv()
            except (EOFError, OSError):
                return
            if task is None:
                return
            try:
                result = task(environment, listener)
            except Exception as error:
                _reply(connection, "raised", _portable(error))
            else:
                _reply(connection, "result", result)


def _reply(connection: Connection, kind: str, content: Any) -> None:
    try:
        connection.send((kind, content))
    except OSError:
        sys.exit(1)


def _portable(error: Exception) -> Exception:
    """The exception, or one that says the same where it cannot travel."""
    import pickle

    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else _plain(error)
    except Exception:
        return _plain(error)


def _plain(error: Exception) -> Exception:
    return RuntimeError(on_one_line(error))
