"""Plan, check, execute: what `python -m benchmark run` does, as a function."""

import signal
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

from benchmark.core.errors import UserError
from benchmark.core.format import size_text
from benchmark.core.interrupt import Interrupted, StopSignal
from benchmark.core.machine import available_memory, device_name, find_device
from benchmark.core.record import FINAL, Record, Status
from benchmark.core.spec import Compute, RunSpec
from benchmark.execution.executors.base import Executor, Lost, died
from benchmark.execution.executors.devices import Devices
from benchmark.execution.executors.here import Here
from benchmark.execution.executors.local import Pool
from benchmark.execution.executors.local import workers as opened
from benchmark.execution.executors.worker import Setup
from benchmark.execution.jobs import Share, fitting, share, share_devices
from benchmark.execution.preflight import Preflight, preflight
from benchmark.execution.tasks import (
    Bury,
    Failure,
    Listener,
    Outcome,
    Silent,
    Task,
    Train,
    Verdict,
    mark,
)
from benchmark.planning import plugins
from benchmark.planning.forecast import Forecaster
from benchmark.planning.plan import Selection, plan
from benchmark.results import asked, remote, store
from benchmark.results.index import read_index

POLL_SECONDS = 2.0
"""Pause before checking again whether other commands are done with their cells."""

TRIES = 2
"""Processes that may die on a cell before it counts as failed."""

RETRIES: dict[str, tuple[Status, ...]] = {
    "failed": ("failed", "nan", "timeout"),
    "oom": ("oom",),
    "all": ("failed", "nan", "timeout", "oom"),
}
"""What `--retry` runs again."""


def pending(cells: Sequence[RunSpec], results: Path, retry: str | None = None) -> list[RunSpec]:
    """The cells that a run with these options works on.

    Args:
        cells: what is asked for.
        results: folder of the results.
        retry: which of the unsuccessful ones are tried again, a key of `RETRIES`; None = none.
    """
    again: Collection[Status] = ("interrupted", *RETRIES.get(retry or "", ()))
    chosen = []
    for cell in cells:
        record = store.record_of(results, cell)
        if record is None or record.status in again:
            chosen.append(cell)
    return chosen


def tidy(cells: Sequence[RunSpec], results: Path) -> None:
    """Removes what a process that died right after it stored a cell left beside it.

    A checkpoint that is younger than the finished record is that of a new attempt, and stays.

    Args:
        cells: what is asked for.
        results: folder of the results.

    Raises:
        UserError: the folder cannot be written.
    """
    from benchmark.results import lock

    for cell in cells:
        if not (store.left_behind(results, cell) or lock.path_of(results, cell).exists()):
            continue
        with lock.hold(results, cell) as mine:
            if mine and store.is_done(results, cell) and store.left_behind(results, cell):
                store.forget_attempts(results, cell)


def stale(
    cells: Sequence[RunSpec],
    results: Path,
    data: Path | None = None,
    weights: Sequence[Path] = (),
) -> dict[str, list[str]]:
    """Why finished cells no longer describe what would be run now, by run id.

    Args:
        cells: what is asked for.
        results: folder of the results.
        data: data root.
        weights: folders with weight files.
    """
    from benchmark.planning.staleness import CurrentHashes, reasons

    present, found = CurrentHashes(data, weights), {}
    for cell in cells:
        record = store.record_of(results, cell)
        if record is not None and record.status in FINAL:
            why = reasons(cell, record.provenance, present)
            if why:
                found[cell.run_id] = why
    return found


def run(
    selection: Selection,
    results: Path = Path("results"),
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: Listener | None = None,
    retry: str | None = None,
) -> list[Record]:
    """Runs the cells of a selection that are not done; see `run_cells` and `pending`."""
    cells = plan(selection, weights)
    todo = pending(cells, results, retry)
    return run_cells(todo, results, data, weights, device, listener, grid=cells)


def run_cells(
    cells: Sequence[RunSpec],
    results: Path,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: Listener | None = None,
    *,
    workers: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    watch: StopSignal | None = None,
    rerun: Collection[str] = (),
    jobs: int | None = 1,
    compiling: str = "auto",
    compute: Compute | None = None,
    accept_audit: bool = False,
    grid: Sequence[RunSpec] = (),
    devices: int = 1,
    shard: bool = False,
) -> list[Record]:
    """Checks everything that cells need, then runs them, beside other commands that do the same.

    SIGINT and SIGTERM let the current step end, save a checkpoint and store the cell as
    interrupted; a second signal ends at once.

    Args:
        cells: what to run.
        results: folder of the results.
        data: data root of benchmarks that read files.
        weights: folders with weight files, tried before the package's own and timm's cache.
        device: auto, cpu, cuda or cuda:N.
        listener: receives progress.
        workers: processes that cut training crops; None = as the device needs.
        checkpoint_seconds: between checkpoints of a training; None = none is written.
        watch: the limits of a cell; its `signal` says afterwards whether one came.
        rerun: ids of runs that are finished and are to be run all the same; other finished ones
            are left alone, since another command may have finished them just now.
        jobs: processes that run cells side by side; None = one a core, or one a GPU, and fewer
            where memory does not carry as many. More than one asks of a script that calls this the
            guard `if __name__ == "__main__"`, as Python's multiprocessing does.
        compiling: whether networks are compiled, one of `compile_policy.CHOICES`.
        compute: precision and attention; None = what is fast here.
        accept_audit: train although an audit finds that results on the data would be wrong.
        grid: what was asked for, finished cells included: of it a report says what is missing.
        devices: that train each cell together, with a process on each; then one cell at a time.
            As `jobs`, more than one asks for the guard.
        shard: spread each network over the devices; for methods that train all of the backbone.

    Returns:
        The records of the cells that this command ran, in order of their ends.

    Raises:
        UserError: no cell can run, and the user can fix that; nothing has been written then.
    """
    if not cells:
        asked.note(results, grid, asked.Folders(tuple(weights), data))
        return []
    # Noted before the data are read, which may take long: cells that others finish are skipped.
    before = {cell.run_id: mark(results, cell) for cell in cells}
    for cell in cells:
        store.check_replaceable(results / cell.folder)
    listener, watch = listener or Silent(), watch or StopSignal()
    if compiling == "always" and any(c.protocol.checkpoint_activations == "on" for c in cells):
        raise UserError(
            "--compile always does not go with checkpoint_activations=on; leave one of them out"
        )
    if devices > 1:
        parts = share_devices(devices, cells, device)
    else:
        parts = share(jobs, len(cells), device)
    setup = Setup(
        parts.devices,
        parts.threads,
        data,
        tuple(weights),
        workers,
        checkpoint_seconds,
        watch.max_seconds,
        tuple(plugins.loaded()),
        compiling,
        compute,
        shard=shard,
    )
    together = Devices(setup, watch) if devices > 1 else opened(setup, parts.jobs, watch)
    with watch.signals(), together as pool:
        try:
            found = preflight(cells, pool, listener, data, parts.threads, accept_audit)
        except Interrupted:
            return []
        if watch.signal:
            return []
        remote.check_writable(results)
        asked.note(results, grid, asked.Folders(tuple(weights), data))
        for verdict in dict.fromkeys(found.verdicts.values()):
            if verdict.reason:
                alike = [cell for cell in cells if found.verdicts[cell.run_id] == verdict]
                listener.refused(alike, verdict)
            elif verdict.unmeasured:
                alike = [cell for cell in cells if found.verdicts[cell.run_id] == verdict]
                labels = ", ".join(dict.fromkeys(cell.method_label for cell in alike))
                listener.note(f"{labels}: some costs will be missing: {verdict.unmeasured}")
        able = [cell for cell in cells if cell.run_id in found.computes]
        if not isinstance(pool, Here | Devices):
            _limit(pool, parts, able, results, found, listener)
        tasks = [
            Train(
                cell,
                results,
                before[cell.run_id],
                cell.run_id in rerun,
                found.computes[cell.run_id],
                found.findings[cell.run_id],
                found.near_copies[cell.run_id],
            )
            for cell in able
        ]
        buried = [
            Bury(cell, results, verdict.status, verdict.reason, verdict.traceback)
            for cell, verdict in ((cell, found.verdicts[cell.run_id]) for cell in cells)
            if verdict.status is not None
        ]
        return list(execute([*buried, *tasks], pool, watch, listener))


def _limit(
    pool: Pool,
    parts: Share,
    cells: Sequence[RunSpec],
    results: Path,
    found: Preflight,
    listener: Listener,
) -> None:
    """Lets fewer processes run cells if there is not enough memory for all of them."""
    per_device = -(-parts.jobs // len(parts.devices))
    device = find_device(parts.devices[0])
    forecaster = Forecaster(list(read_index(results).entries.values()), device_name(device))
    available = available_memory(device)
    fit, need = fitting(per_device, cells, found.computes, forecaster, available)
    if fit < per_device:
        listener.note(
            f"memory is enough for {fit * len(parts.devices)} of {parts.jobs} parallel runs: each "
            f"may need {size_text(need)}, and {size_text(available or 0)} are available"
        )
        pool.limit(fit * len(parts.devices))


class CellTask(Task, Protocol):
    """A task that ends with a cell being stored, or not."""

    @property
    def cell(self) -> RunSpec:
        """The cell."""

    @property
    def results(self) -> Path:
        """Folder of the results."""


def execute(
    tasks: Sequence[CellTask], executor: Executor, watch: StopSignal, listener: Listener
) -> Iterator[Record]:
    """Runs cells that no other command works on, then waits for those that others do.

    A failed cell is a record with a status, and the others continue; a signal ends them all. A cell
    whose process died is tried once more, and then counts as failed.

    Args:
        tasks: what to do.
        executor: what does it.
        watch: says when to stop.
        listener: receives what ends.

    Yields:
        The records of cells that were run, in order of their ends.
    """
    queue: deque[Task] = deque(tasks)
    deaths: Counter[Task] = Counter()
    waits = False
    while queue and not watch.signal:
        busy: list[CellTask] = []
        asked = len(queue)
        for done, outcome in executor.run(queue, listener):
            task = cast(CellTask, done)
            if isinstance(outcome, Record):
                listener.cell_finished(outcome)
                yield outcome
            elif outcome is Outcome.BUSY:
                busy.append(task)
            elif outcome is Outcome.FOUND:
                record = store.record_of(task.results, task.cell)
                if record is not None:
                    listener.cell_found(record)
            elif isinstance(outcome, Verdict):
                listener.refused([task.cell], outcome)
            elif isinstance(outcome, Failure) and not watch.signal:
                queue.append(
                    Bury(
                        task.cell,
                        task.results,
                        outcome.status,
                        outcome.reason,
                        outcome.traceback,
                    )
                )
            elif isinstance(outcome, Lost) and not watch.signal:
                deaths[task] += 1
                if deaths[task] < TRIES:
                    queue.append(task)
                elif not isinstance(task, Bury):
                    status: Status = "oom" if outcome.exit_code == -signal.SIGKILL else "failed"
                    bury = Bury(task.cell, task.results, status, died(outcome))
                    queue.append(bury)
        if len(busy) == asked and not watch.signal:
            if not waits:
                listener.waiting(len(busy))
                waits = True
            pause = time.monotonic() + POLL_SECONDS
            while time.monotonic() < pause and not watch.signal:
                time.sleep(0.05)
        queue = deque(busy)
