"""Slurm runs the cells, handed over by submitit: job arrays of cells that take ten minutes or more.

Before Slurm ends a job, because it takes too long or another needs its place, it sends SIGUSR1: the
cell saves a checkpoint, and the job goes back into the queue. Where jobs run, and when, is Slurm's
to decide. All nodes must see the results folder under the same path.
"""

import io
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.interrupt import StopSignal
from benchmark.core.record import Record
from benchmark.execution.executors.base import Lost
from benchmark.execution.executors.engine import Cell, Engine
from benchmark.execution.executors.needs import pack
from benchmark.execution.executors.slurm_jobs import GOING, jobs, least_minutes, parameters
from benchmark.execution.executors.slurm_pack import Pack, submitit_module
from benchmark.execution.executors.worker import Setup
from benchmark.execution.tasks import Listener, Verdict
from benchmark.results import submitted

if TYPE_CHECKING:
    pass

LOOK_SECONDS, ASK_SECONDS = 1.0, 5.0
"""Between looks for results, and between questions to Slurm."""
LARGEST_ARRAY = 1000
TIMEOUTS = 1000
"""How often a job may run out of its time and be queued again."""


class Slurm(Engine):
    """Hands cells to Slurm.

    Args:
        setup: of each job.
        results: folder of the results.
        watch: says when to leave.
        options: of sbatch by their names, as partition, time (minutes), gres; they win over needs.

    Raises:
        UserError: submitit is not installed, or there is no sbatch.
    """

    name = "slurm"

    def __init__(
        self, setup: Setup, results: Path, watch: StopSignal, options: Mapping[str, str]
    ) -> None:
        super().__init__(watch)
        self._submitit = submitit_module()
        if shutil.which("sbatch") is None:
            raise UserError(
                "--executor slurm: there is no sbatch on this machine; run this on a login node"
            )
        self._setup, self._results, self._options = setup, results.absolute(), dict(options)
        self._folder = self._results / submitted.FOLDER / self.name
        self._live: dict[str, list[str]] = {}
        self._alone: set[str] = set()  # cells of jobs that died: who is to blame shows now
        self._gone: dict[str, int] = {}
        self._asked = 0.0

    def submit(self, cells: Sequence[Cell], listener: Listener) -> None:
        """See `Engine`."""
        left = {cell.key: cell for cell in cells}
        states = jobs()
        for job in submitted.read(self._results):
            mine = [key for key in job.cells if key in left]
            if mine and job.engine == self.name and (states or {}).get(job.job) in GOING:
                self._live[job.job] = mine
                for key in mine:
                    del left[key]
        together = [cell for cell in left.values() if cell.key not in self._alone]
        alone = [[cell] for cell in left.values() if cell.key in self._alone]
        packs = pack(together, least_minutes(self._options)) + alone
        kinds: dict[tuple[int, float], list[list[Cell]]] = {}
        for one in packs:
            kinds.setdefault((one[0].needs.cores, one[0].needs.gpus), []).append(one)
        for same in kinds.values():
            for start in range(0, len(same), LARGEST_ARRAY):
                self._submit(same[start : start + LARGEST_ARRAY])

    def _submit(self, packs: Sequence[Sequence[Cell]]) -> None:
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=TIMEOUTS)
        wanted = parameters(packs, self._options)
        try:
            executor.update_parameters(array_parallelism=len(packs), **wanted)
            # submitit repeats there what its exception says.
            with redirect_stderr(io.StringIO()), executor.batch():
                handed = [executor.submit(Pack(self._setup, list(one))) for one in packs]
        except Exception as error:
            raise UserError(f"--slurm: sbatch refuses the jobs: {_reason(error)}") from error
        noted = []
        for job, one in zip(handed, packs, strict=True):
            folders = {cell.key: cell.folder for cell in one}
            noted.append(submitted.Job(self.name, job.job_id, folders))
            self._live[job.job_id] = list(folders)
        submitted.note(self._results, noted)

    def ended(self) -> list[tuple[str, Any]]:
        """See `Engine`."""
        time.sleep(LOOK_SECONDS)
        ended = [job for job in self._live if self._result(job).exists()]
        states: Mapping[str, str] | None = None
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._asked, states = time.monotonic(), jobs()
        found: list[tuple[str, Any]] = []
        for job in list(self._live):
            state = None if states is None else states.get(job, "gone")
            if job in ended:
                found += self._collect(job, state)
            elif state is not None and state not in GOING:
                # What a node wrote last may show here a moment later.
                self._gone[job] = self._gone.get(job, 0) + 1
                if self._gone[job] > 2:
                    found += self._bury(job, state)
            elif state is not None:
                self._gone.pop(job, None)
        return found

    def _collect(self, job: str, state: str | None) -> list[tuple[str, Any]]:
        """The outcomes of a job that ended, unless it is queued again."""
        from submitit.core.utils import pickle_load

        outcomes: dict[str, Any]
        verdict, content = pickle_load(self._result(job))
        if verdict == "error":
            reason = (
                content.strip().splitlines()[-1]
                + f"; its log: {submitted.log_of(self._results, job)}"
            )
            outcomes = {key: Verdict(reason, by_user=True) for key in self._live[job]}
        else:
            outcomes = dict(content)
        unfinished = [key for key in self._live[job] if _is_unfinished(outcomes.get(key))]
        if unfinished and (state is None or state in GOING):
            return []
        for key in unfinished:
            outcomes[key] = Verdict(f"its job {job} was cancelled", by_user=True)
            if state != "CANCELLED":
                outcomes[key] = None
        return [(key, outcomes[key]) for key in self._live.pop(job)]

    def _bury(self, job: str, state: str) -> list[tuple[str, Any]]:
        """The cells of a job that died without a result; of several, each goes on alone."""
        keys = self._live.pop(job)
        if state == "CANCELLED":
            return [(key, Verdict(f"its job {job} was cancelled", by_user=True)) for key in keys]
        if len(keys) > 1:
            self._alone.update(keys)
            return [(key, None) for key in keys]
        reason = (
            f"its Slurm job {job} died ({state}); its log: {submitted.log_of(self._results, job)}"
        )
        return [(keys[0], Lost(-signal.SIGKILL if state == "OUT_OF_MEMORY" else None, reason))]

    def _result(self, job: str) -> Path:
        from submitit.core.utils import JobPaths

        path: Path = JobPaths(self._folder, job_id=job, task_id=0).result_pickle
        return path

    def cancel(self) -> None:
        """See `Engine`."""
        if self._live:
            subprocess.run(["scancel", *self._live], check=False)


def _is_unfinished(outcome: Any) -> bool:
    return outcome is None or (isinstance(outcome, Record) and outcome.status == "interrupted")


def _reason(error: Exception) -> str:
    """What sbatch said, without the line that repeats it."""
    lines = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
    return (
        lines[0].removeprefix("sbatch: ").removeprefix("error: ") if lines else on_one_line(error)
    )
