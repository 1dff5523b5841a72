"""Plan, check, execute: what `python -m benchmark run` does, as a function."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import plugins, store
from benchmark.planner import Selection, plan
from benchmark.record import FINAL, Record, Status
from benchmark.spec import RunSpec

if TYPE_CHECKING:
    from benchmark.executors.shared import Listener
    from benchmark.interrupt import Watch

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
    from benchmark import lease

    for cell in cells:
        if not (store.left_behind(results, cell) or lease.path_of(results, cell).exists()):
            continue
        with lease.hold(results, cell) as mine:
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
    from benchmark.staleness import Present, reasons

    present, found = Present(data, weights), {}
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
    listener: "Listener | None" = None,
    retry: str | None = None,
) -> list[Record]:
    """Runs the cells of a selection that are not done; see `run_cells` and `pending`."""
    todo = pending(plan(selection), results, retry)
    return run_cells(todo, results, data, weights, device, listener)


def run_cells(
    cells: Sequence[RunSpec],
    results: Path,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: "Listener | None" = None,
    *,
    workers: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    watch: "Watch | None" = None,
    rerun: Collection[str] = (),
    jobs: int = 1,
    compiling: str = "auto",
) -> list[Record]:
    """Checks everything that cells need, then runs them, beside other processes that do the same.

    SIGINT and SIGTERM let the current step end, save a checkpoint and store the cell as
    interrupted; a second signal ends at once.

    Args:
        cells: what to run.
        results: folder of the results.
        data: data root of benchmarks that read files.
        weights: folders with weight files, tried before the package's own and timm's cache.
        device: auto, cpu, cuda or cuda:N.
        listener: is told about progress.
        workers: processes that cut training crops; None = as the device needs.
        checkpoint_seconds: between checkpoints of a training; None = none is written.
        watch: the limits of a cell; its `signal` tells afterwards whether one came.
        rerun: ids of runs that are finished and are to be run all the same; other finished ones
            are left alone, since another process may have finished them just now.
        jobs: processes that share the cells, this one included. More than one asks of a script
            that calls this the guard `if __name__ == "__main__"`, as Python's multiprocessing does.
        compiling: whether networks are compiled, one of `benchmark.compiling.CHOICES`.

    Returns:
        The records of the cells that this process ran, in order.

    Raises:
        UserError: something that would stop every cell is wrong; nothing has been written then.
    """
    if not cells:
        return []
    # timm and the data are loaded only when there is something to do.
    from benchmark.environment import preflight, prepare
    from benchmark.executors.jobs import Work, beside, device_of
    from benchmark.executors.shared import execute, mark
    from benchmark.interrupt import Interrupted, Watch

    # Before the data are read, which may take long: what others finish meanwhile is not run again.
    before = {cell.run_id: mark(results, cell) for cell in cells}
    for cell in cells:
        store.check_replaceable(results / cell.folder)
    watch = watch or Watch()
    first = device_of(device, 0) if jobs > 1 else device
    environment = prepare(data, weights, first, workers, checkpoint_seconds, watch, compiling)
    with watch.signals():
        try:
            refusals = preflight(cells, environment, listener.decoding if listener else None)
        except Interrupted:
            return []
        store.check_writable(results)
        if listener:
            for reason in dict.fromkeys(refusals.values()):
                refused = [cell for cell in cells if refusals.get(cell.run_id) == reason]
                listener.refused(refused, reason)
        work = Work(
            cells, results, data, tuple(weights), device, workers, checkpoint_seconds,
            watch.max_seconds, before, frozenset(rerun), tuple(plugins.loaded()), compiling,
        )  # fmt: skip
        with beside(work, min(jobs, len(cells))):
            return list(execute(cells, results, environment, before, rerun, listener))
