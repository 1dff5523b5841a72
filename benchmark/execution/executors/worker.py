"""The process that does tasks: what it needs to begin, and what it does."""

import contextlib
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import in_a_line, on_one_line
from benchmark.core.spec import Compute
from benchmark.planning import renamed
from benchmark.planning.plugins import load_files

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal
    from benchmark.execution.environment import Environment
    from benchmark.execution.tasks import Task

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read when numerical libraries are loaded."""

_PRELOADED = ["benchmark.cli", "benchmark.execution.tasks", "benchmark.execution.cell"]
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""How processes start."""


@dataclass(frozen=True)
class Setup:
    """What a process needs to begin; all of it travels there.

    Attributes:
        devices: of the processes, in turn, as users type them.
        threads: of each.
        data: data root of benchmarks that read files; or its URL, for other machines.
        weights: folders with weight files.
        workers: processes that cut training crops.
        checkpoint_seconds: between checkpoints.
        max_seconds: of one cell.
        plugins: files to load first.
        compiling: whether networks are compiled.
        compute: precision and attention; None = what is fast.
        versions: of the sets that the plug-in files describe, as the runs were planned.
        meeting: where the processes meet that train each cell together, one on each of `devices`;
            None = each trains cells of its own.
        shard: networks are spread over these processes.
    """

    devices: Sequence[str]
    threads: int
    data: Path | str | None
    weights: Sequence[Path]
    workers: int | None
    checkpoint_seconds: float | None
    max_seconds: float | None
    plugins: Sequence[Path]
    compiling: str
    compute: Compute | None = None
    versions: Mapping[str, str] = field(default_factory=renamed.versions)
    meeting: Path | None = None
    shard: bool = False

    def load_plugins(self) -> None:
        """Makes everything known that runs take from plug-in files."""
        load_files(self.plugins)
        renamed.take_versions(self.versions)

    def environment(self, number: int, watch: "StopSignal") -> "Environment":
        """That of a process.

        Args:
            number: of the process, from 0.
            watch: says when its runs must stop.

        Raises:
            UserError: the device does not exist.
        """
        import torch

        from benchmark.core.machine import find_device
        from benchmark.data.acquire.at_url import located
        from benchmark.engine.ranks import ALONE, join
        from benchmark.execution.environment import prepare

        device, ranks = self.devices[number % len(self.devices)], ALONE
        if self.meeting is not None:
            where = torch.device(find_device(device))
            ranks = join(number, len(self.devices), self.meeting, where)
        return prepare(
            located(self.data),
            self.weights,
            device,
            self.workers,
            self.checkpoint_seconds,
            watch,
            self.compiling,
            self.compute,
            ranks,
            self.shard,
        )


def start_server() -> None:
    """Starts the server that processes are forked from, if it does not run; returns at once.

    Its numerical libraries read here that they have one thread, unless a user says otherwise: the
    processes share the cores.
    """
    if START != "forkserver":
        return
    from multiprocessing import forkserver

    multiprocessing.get_context(START).set_forkserver_preload(_PRELOADED)
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


class Sender:
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


def serve(setup: Setup, number: int, connection: Connection) -> None:
    """Does the tasks that come, until None does."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpgid(0, 0)
    warnings.showwarning = in_a_line  # type: ignore[assignment]
    try:
        import torch

        from benchmark.core.interrupt import StopSignal

        torch.set_num_threads(setup.threads)
        setup.load_plugins()
        watch = StopSignal(setup.max_seconds)
        environment = setup.environment(number, watch)
    except Exception as error:
        reply(connection, "raised", portable(error))
        return
    listener: Any = Sender(connection, watch)
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
                reply(connection, "raised", portable(error))
            else:
                reply(connection, "result", result)


def reply(connection: Connection, kind: str, content: Any) -> None:
    """Sends a result, or what was raised, to the process that gave the task."""
    try:
        connection.send((kind, content))
    except OSError:
        sys.exit(1)


def portable(error: Exception) -> Exception:
    """The exception, or one that says the same where it cannot travel."""
    import pickle

    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else _plain(error)
    except Exception:
        return _plain(error)


def _plain(error: Exception) -> Exception:
    return RuntimeError(on_one_line(error))


def do(setup: Setup, task: "Task", watch: "StopSignal | None" = None) -> Any:
    """Does one task in a process that an engine started; returns its result.

    Args:
        setup: of the process.
        task: what to do.
        watch: says when to stop; None = at a signal.
    """
    import torch

    from benchmark.core.interrupt import StopSignal
    from benchmark.execution.tasks import Silent

    warnings.showwarning = in_a_line  # type: ignore[assignment]
    torch.set_num_threads(setup.threads)
    setup.load_plugins()
    watch = watch or StopSignal(setup.max_seconds)
    with watch.signals():
        return task(setup.environment(0, watch), Silent())
