"""What was handed to engines from a results folder: a line a job in `.grid/jobs.jsonl`."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.files import make_folder

FOLDER = ".grid"
_NAME = "jobs.jsonl"


@dataclass(frozen=True)
class Job:
    """Cells that were handed over together.

    Attributes:
        engine: its name.
        job: its id there.
        cells: folder of each cell's record, by key.
        address: of the engine, where it has one.
    """

    engine: str
    job: str
    cells: dict[str, str]
    address: str = ""


def note(results: Path, jobs: Sequence[Job]) -> None:
    """Adds jobs.

    Raises:
        UserError: the folder cannot be written.
    """
    path = results / FOLDER / _NAME
    text = "".join(json.dumps(asdict(job)) + "\n" for job in jobs)
    try:
        make_folder(path.parent)
        # One write, so that lines of two commands do not mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); make room, or choose another folder "
            "with --results DIR"
        ) from error


def read(results: Path) -> list[Job]:
    """All jobs, the oldest first; a line that is torn is left out."""
    try:
        lines = (results / FOLDER / _NAME).read_text(errors="replace").splitlines()
    except OSError:
        return []
    jobs = []
    for line in lines:
        try:
            jobs.append(Job(**json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            continue
    return jobs


def log_of(results: Path, job: str) -> Path:
    """Where the errors of a job of Slurm are written."""
    return results / FOLDER / "slurm" / f"{job}_0_log.err"
