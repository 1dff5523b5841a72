"""Many tasks on one frozen backbone, against as many models of their own."""

import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.ratio import Times
from benchmark.core.record import Costs, InferCost, TrainCost
from benchmark.core.spec import RunSpec
from benchmark.data.task import task_of
from benchmark.engine.build import build_segmenter
from benchmark.execution.environment import Environment
from benchmark.execution.run_state import RunState
from benchmark.execution.splits import open_benchmark
from benchmark.inference.load import load
from benchmark.inference.tasks import Tasks
from benchmark.models import delta as deltas
from benchmark.planning.catalogue import build_method
from benchmark.results import store

SWITCHED, SAME = "another task each time", "one task"


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        shared_bytes: of all tensors of the tasks on one backbone.
        separate_bytes: of all tensors of as many models.
        shared_process: bytes by which a process grew with the tasks; None = not known here.
        separate_process: the same with as many models.
        switch_seconds: from the name of another task to its network.
        load_seconds: from the name of a run to its network, alone.
        times: seconds an image in each round, of `SWITCHED` and `SAME`.
    """

    shared_bytes: int
    separate_bytes: int
    shared_process: int | None
    separate_process: int | None
    switch_seconds: float
    load_seconds: float
    times: Times


def measure(
    cells: Sequence[RunSpec],
    count: int,
    environment: Environment,
    rounds: int,
    tell: Callable[[str], None],
) -> Found:
    """Measures with runs that were not trained, which changes neither bytes nor speed.

    Args:
        cells: of one backbone and benchmark; each is used in turn, with seeds of its own.
        count: tasks.
        environment: where.
        rounds: of timing.
        tell: called with what is being done.
    """
    with tempfile.TemporaryDirectory(prefix="petseg-tasks-") as folder:
        tell(f"{count} tasks: writing their files")
        runs = []
        for number in range(count):
            cell = cells[number % len(cells)].model_copy(update={"seed": number})
            runs.append(
                _write(RunSpec.model_validate(cell.model_dump()), Path(folder), environment)
            )
        where: dict[str, Any] = {
            "weights": list(environment.weights),
            "device": str(environment.device),
        }
        grown = []
        for kind in (_shared, _separate):
            tell(f"{count} tasks: memory of a process, {kind.__name__.strip('_')}")
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                grown.append(process.submit(kind, runs, where).result())
        tasks = Tasks(cells[0].backbone, **where)
        for run in runs:
            tasks.add(run.name, run)
        shared = tasks.bytes + sum(map(tasks.own_bytes, tasks))
        alone = [load(run, **where) for run in runs[: len(cells)]]
        sizes = [deltas.bytes_of(one.segmenter) for one in alone]
        separate = sum(sizes[number % len(cells)] for number in range(count))
        tell(f"{count} tasks: switching")
        begun = time.perf_counter()
        for name in tasks:
            tasks[name]
        switch = (time.perf_counter() - begun) / count
        begun = time.perf_counter()
        load(runs[0], **where)
        loading = time.perf_counter() - begun
        times = _times(tasks, [run.name for run in runs], cells[0].protocol.crop, rounds)
        return Found(shared, separate, grown[0], grown[1], switch, loading, times)


def _write(cell: RunSpec, results: Path, environment: Environment) -> Path:
    """A run as it would be stored, but for training and scores; returns its folder."""
    method = build_method(cell.method, cell.method_params)
    segmenter, pristine = build_segmenter(cell, method, environment.weights, environment.device)
    folder = results / cell.folder
    folder.mkdir(parents=True)
    costs = Costs(
        params=deltas.count_parameters(segmenter, pristine),
        stored=deltas.write(segmenter, pristine, folder / "delta.safetensors"),
        train=TrainCost(seconds=0, images_per_second=0, first_trainable_depth=0),
        infer=InferCost(),
    )
    task = task_of(open_benchmark(cell.benchmark, environment.data))
    record = RunState(results, cell, method).record(environment, "done")
    store.write_record(folder, record.model_copy(update={"costs": costs, "task": task}))
    return folder


def _shared(runs: Sequence[Path], where: dict[str, Any]) -> int | None:
    """Bytes by which this process grows with tasks on one backbone."""
    tasks = Tasks(store.read_record(runs[0]).backbone, **where)  # type: ignore[union-attr]
    load(runs[0], **where)  # what libraries need once is not counted
    before = _memory()
    for run in runs:
        tasks.add(run.name, run)
    return None if before is None else (_memory() or 0) - before


def _separate(runs: Sequence[Path], where: dict[str, Any]) -> int | None:
    """Bytes by which this process grows with models of their own."""
    load(runs[0], **where)
    before, kept = _memory(), []
    for run in runs:
        kept.append(load(run, **where))
    return None if before is None else (_memory() or 0) - before


def _memory() -> int | None:
    """Bytes of memory that this process alone has; None where the system does not say."""
    gc.collect()
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")]
    return 1024 * sum(sizes) if sizes else None


def _times(tasks: Tasks, names: Sequence[str], side: int, rounds: int) -> Times:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    times: Times = {SWITCHED: [], SAME: []}
    # Those of the first method, so that both do the same work.
    alike = [name for name in names if tasks[name].record.method == tasks[names[0]].record.method]
    for name in alike:
        tasks[name].predict(image)
    for _ in range(rounds):
        for kind, order in ((SWITCHED, alike), (SAME, alike[:1] * len(alike))):
            begun = time.perf_counter()
            for name in order:
                tasks[name].predict(image)
            times[kind].append((time.perf_counter() - begun) / len(order))
    return times
