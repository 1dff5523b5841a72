"""How many processes share a grid, with how many threads each, and where they compute."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.core import machine
from benchmark.core.errors import UserError
from benchmark.core.format import counted
from benchmark.core.spec import Compute, RunSpec
from benchmark.planning.forecast import Forecaster

PROCESS_BYTES = 400 * 2**20
"""What a process holds beside its model: Python, torch, crops."""
COPIES = 4
"""Of the weights at most: themselves, their gradients, and two averages of the optimiser."""
SPARE = 1.5
"""Of what a pass keeps: the decoder, the loss and what a method adds come on top."""


@dataclass(frozen=True)
class Share:
    """How a grid is shared.

    Attributes:
        jobs: processes that run cells side by side.
        threads: of each.
        devices: of the processes, in turn.
    """

    jobs: int
    threads: int
    devices: tuple[str, ...]


def parse_jobs(text: str) -> int | None:
    """The number that `--jobs` names; None for auto.

    Raises:
        UserError: it is neither.
    """
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"--jobs {text!r}: write auto, or a whole number of at least 1")
    return int(text)


def share(wanted: int | None, cells: int, device: str) -> Share:
    """One process a core with one thread each, or one a GPU; a single cell gets everything.

    `OMP_NUM_THREADS`, where a user set it, stays the number of threads of each process.

    Args:
        wanted: processes that were asked for; None = as many as the machine serves well.
        cells: that are to be run.
        device: as it was typed.
    """
    cores, own = machine.cores(), _own_threads()
    if machine.find_device(device) == "cpu":
        jobs = min(wanted or max(1, cores // (own or 1)), cells)
        return Share(jobs, own or max(1, cores // jobs), (device,))
    import torch

    gpus = torch.cuda.device_count() if device == "auto" else 1
    jobs = min(wanted or gpus, cells)
    devices = tuple(f"cuda:{number}" for number in range(gpus)) if gpus > 1 else (device,)
    return Share(jobs, own or max(1, cores // jobs), devices)


def parse_devices(text: str, jobs: str, executor: str, compiling: str, shard: bool = False) -> int:
    """The number that `--devices` names.

    Args:
        text: as it was typed.
        jobs: `--jobs`, which cannot be typed beside it.
        executor: `--executor`, likewise.
        compiling: `--compile`, likewise.
        shard: `--shard`, which needs several.

    Raises:
        UserError: it is no number, or contradicts another option.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"--devices {text!r}: write a whole number of at least 1")
    if (number := int(text)) == 1:
        if shard:
            raise UserError("--shard spreads a run over several devices; add --devices N")
        return 1
    if jobs != "auto":
        raise UserError("--devices trains one run at a time, on all of them; leave --jobs out")
    if executor != "local":
        raise UserError(f"--devices is for --executor local, not {executor}; leave one of them out")
    if compiling == "always":
        raise UserError("--devices trains without torch.compile; leave --compile out")
    return number


def share_devices(count: int, cells: Sequence[RunSpec], device: str) -> Share:
    """All devices for one cell at a time, with a process on each and its part of the cores.

    Args:
        count: of the devices.
        cells: that are to be run.
        device: as it was typed.

    Raises:
        UserError: the machine has fewer, cannot connect them, or a batch is too small for them.
    """
    from benchmark.engine import ranks

    kind, _, one = machine.find_device(device).partition(":")
    if one:
        raise UserError(f"--devices {count}: --device {device} names one; write --device cuda")
    if kind == "cuda":
        import torch

        if (gpus := torch.cuda.device_count()) < count:
            raise UserError(
                f"--devices {count}: this machine has {counted(gpus, 'GPU')}; use --devices "
                f"{gpus}, or --device cpu"
            )
    ranks.check(kind)
    for protocol in {cell.protocol.hash: cell.protocol for cell in cells}.values():
        size = -(-protocol.batch_size // protocol.accumulate)
        ranks.Ranks(0, count).parts(protocol.batch_size, size)
    devices = tuple(f"cuda:{n}" if kind == "cuda" else kind for n in range(count))
    return Share(1, _own_threads() or max(1, machine.cores() // count), devices)


def fitting(
    jobs: int,
    cells: Iterable[RunSpec],
    computes: Mapping[str, Compute],
    forecaster: Forecaster,
    available: int | None,
) -> tuple[int, int]:
    """How many of the processes memory carries, and the bytes that each may need.

    A cell is judged by earlier runs like it, or else by what a pass through its backbone keeps.

    Args:
        jobs: processes that are wanted.
        cells: that they run.
        computes: how each run computes, by its id.
        forecaster: of earlier runs.
        available: bytes that can be taken; None = not known.
    """
    need = max(
        (_need(cell, computes[cell.run_id], forecaster) for cell in cells), default=PROCESS_BYTES
    )
    if available is None:
        return jobs, need
    return max(1, min(jobs, available // need)), need


def carried(jobs: int, memory_bytes: int, available: int | None) -> int:
    """How many of the processes memory carries.

    Args:
        jobs: processes that are wanted.
        memory_bytes: of the largest run; 0 = not known.
        available: bytes that can be taken; None = not known.
    """
    if available is None or not memory_bytes:
        return jobs
    return max(1, min(jobs, available // (PROCESS_BYTES + memory_bytes)))


def _need(cell: RunSpec, compute: Compute, forecaster: Forecaster) -> int:
    known = forecaster.expected(cell).memory_bytes
    if known is None:
        batch = cell.protocol.batch_size * compute.image_bytes
        known = int(COPIES * compute.model_bytes + SPARE * batch)
    return PROCESS_BYTES + known


def _own_threads() -> int | None:
    """The number of threads that the user set; None where that is no number."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdigit() and int(text) > 0 else None
