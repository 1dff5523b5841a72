"""More processes of one command, which share its cells by leases as those of other commands do."""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from benchmark.environment import prepare
from benchmark.errors import in_a_line
from benchmark.executors.shared import Mark, execute
from benchmark.interrupt import Watch
from benchmark.plugins import load_files
from benchmark.spec import RunSpec

PATIENCE_SECONDS = 600.0
"""For a job to end its step and save; then it is killed, and goes on from an older checkpoint."""


@dataclass(frozen=True)
class Work:
    """What a job does; everything here travels to another process.

    Attributes:
        cells: what is to be run.
        results: folder of the results.
        data: data root of benchmarks that read files.
        weights: folders with weight files.
        device: where the first job trains; on `auto` each job takes the next GPU.
        workers: processes that cut training crops.
        checkpoint_seconds: between checkpoints.
        max_seconds: of one cell.
        before: marks of the records when the cells were chosen.
        rerun: ids of runs that are run though they are finished.
        plugins: files to load first.
        compiling: whether networks are compiled.
    """

    cells: Sequence[RunSpec]
    results: Path
    data: Path | None
    weights: Sequence[Path]
    device: str
    workers: int | None
    checkpoint_seconds: float | None
    max_seconds: float | None
    before: Mapping[str, Mark]
    rerun: Collection[str]
    plugins: Sequence[Path]
    compiling: str = "auto"


@contextmanager
def beside(work: Work, jobs: int) -> Iterator[Sequence[BaseProcess]]:
    """Runs the cells in `jobs - 1` more processes, each with its share of the cores.

    This process gives up its other threads inside the block. Jobs that are left when the block
    ends are asked to stop as by a signal: they save, and their cells go on another time.

    Args:
        work: of each job.
        jobs: how many there are, this process included.
    """
    if jobs < 2:
        yield []
        return
    former, threads = torch.get_num_threads(), max(1, cores() // jobs)
    # Read when the libraries are loaded, so before they are.
    kept = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(min(threads, int(kept)) if kept else threads)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_work, args=(work, number)) for number in range(1, jobs)]
    try:
        for process in others:
            process.start()
    finally:
        if kept is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = kept
    torch.set_num_threads(min(former, threads))
    try:
        yield others
    finally:
        for process in others:
            process.terminate()
        for process in others:
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        torch.set_num_threads(former)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_of(device: str, number: int) -> str:
    """The device of a job: one GPU each on `auto`, shared where there are more jobs."""
    count = torch.cuda.device_count() if device == "auto" else 0
    return f"cuda:{number % count}" if count > 1 else device


def _work(work: Work, number: int) -> None:
    warnings.showwarning = in_a_line  # type: ignore[assignment]
    load_files(work.plugins)
    watch = Watch(work.max_seconds)
    device = device_of(work.device, number)
    environment = prepare(
        work.data, work.weights, device, work.workers, work.checkpoint_seconds, watch,
        work.compiling,
    )  # fmt: skip
    with watch.signals():
        for _ in execute(work.cells, work.results, environment, work.before, work.rerun):
            pass
    sys.exit(watch.exit_code)
