"""What using a trained network takes of the benchmark that it was trained on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.core.errors import UserError
from benchmark.core.record import Task
from benchmark.data.base import Benchmark
from benchmark.data.custom.described import DescribedBenchmark
from benchmark.data.palette import colour_table


def task_of(benchmark: Benchmark | type[Benchmark]) -> Task:
    """What a record keeps of a benchmark, or of its class."""
    kind = benchmark if isinstance(benchmark, type) else type(benchmark)
    task = Task(classes=kind.classes, colours=kind.colours, channels=kind.channels)
    if issubclass(kind, DescribedBenchmark):
        said = kind.description
        scale = None if said.shorter_side else said.scale or 1.0
        more: dict[str, Any] = {"scale": scale, "shorter_side": said.shorter_side}
        more |= {"values": said.values, "bands": said.bands, "range": said.range}
        return task.model_copy(update=more)
    return task.model_copy(update={"scale": 1.0 if kind.scale is Benchmark.scale else None})


def scale_of(task: Task, code: type[Benchmark] | None) -> Callable[[int, int], float]:
    """The factor by which the network of a task sees an image of a height and a width resized.

    Args:
        task: as a record keeps it.
        code: of the benchmark, asked where the record does not say it; None = it is not there.

    Raises:
        UserError: the code is needed, and not there.
    """
    if task.shorter_side is not None:
        side = task.shorter_side
        return lambda height, width: side / min(height, width)
    if task.scale is not None:
        factor = task.scale
        return lambda height, width: factor
    if code is None:
        raise UserError(
            "how images are resized is only said by the benchmark's code; name its file with "
            "--plugin FILE.py"
        )
    benchmark = object.__new__(code)  # its files are not needed
    return benchmark.scale


def palette_of(task: Task, name: str) -> np.ndarray:
    """The colour of each label value, (256, 3) uint8; `name` is the benchmark's, for errors."""
    return colour_table(task.colours, len(task.classes), name)
