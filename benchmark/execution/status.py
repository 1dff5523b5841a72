"""How far a grid is that engines run: from the results folder, and from what the engines say."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.record import FINAL
from benchmark.results import lock, store, submitted

STATES = ("queued", "running", "done", "failed", "interrupted", "lost", "unknown")


@dataclass(frozen=True)
class CellStatus:
    """One cell that was handed to an engine.

    Attributes:
        run_id: its id.
        folder: of its record, in the results folder.
        state: one of `STATES`; lost: nobody has it, and repeating the command runs it; unknown: the
            engine does not answer.
        engine: that it was handed to.
        job: its id there.
        reason: why it failed, or why its state is unknown.
    """

    run_id: str
    folder: str
    state: str
    engine: str
    job: str
    reason: str = ""


Alive = Callable[[submitted.Job], Collection[str]]
"""Keys of a job's cells that the engine still has; raises `UserError` where it does not answer."""


def status(results: Path, alive: Mapping[str, Alive] | None = None) -> list[CellStatus]:
    """The state of every cell that was handed to an engine, by its last job.

    Args:
        results: the results folder.
        alive: how each engine is asked.
    """
    ask = _ENGINES if alive is None else alive
    last = {key: job for job in submitted.read(results) for key in job.cells}
    answers: dict[tuple[str, str], Collection[str] | str] = {}
    for job in last.values():
        if (job.engine, job.job) not in answers:
            try:
                answers[job.engine, job.job] = ask[job.engine](job) if job.engine in ask else ()
            except UserError as error:
                answers[job.engine, job.job] = str(error)
    return [_status(results, key, job, answers[job.engine, job.job]) for key, job in last.items()]


def _status(
    results: Path, key: str, job: submitted.Job, answer: Collection[str] | str
) -> CellStatus:
    folder, reason = job.cells[key], ""
    path = results / folder
    record = store.read_record(path)
    if record is not None and record.status in FINAL:
        state = "done"
    elif _is_held(path.with_name(f".{path.name}{lock.END}")):
        state = "running"
    elif isinstance(answer, str):
        state, reason = "unknown", answer
    elif key in answer and (record is None or record.status == "interrupted"):
        state = "queued"
    elif record is None:
        state = "lost"
    else:
        state = "interrupted" if record.status == "interrupted" else "failed"
        reason = record.reason
    return CellStatus(key, folder, state, job.engine, job.job, reason)


def _is_held(path: Path) -> bool:
    try:
        return lock.is_held(path)
    except OSError:
        return False


def _slurm(job: submitted.Job) -> Collection[str]:
    from benchmark.execution.executors.slurm_jobs import GOING, jobs

    states = jobs()
    if states is None:
        raise UserError("Slurm does not answer; is squeue on this machine?")
    return job.cells if states.get(job.job) in GOING else ()


def _ray(job: submitted.Job) -> Collection[str]:
    from benchmark.execution.executors.ray_cluster import alive

    # Without an address the cluster ended with the command.
    return alive(job.address, job.job) if job.address else ()


_ENGINES: dict[str, Alive] = {"slurm": _slurm, "ray": _ray}
