"""Options that say where runs are trained, and the engine that they name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from benchmark.cli.options import where
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from benchmark.cli.request import Request
    from benchmark.core.interrupt import StopSignal
    from benchmark.core.record import Record
    from benchmark.core.spec import RunSpec
    from benchmark.execution.executors.engine import Engine
    from benchmark.execution.tasks import Listener

NAMES = ("local", "ray", "slurm")
Name = Annotated[
    str,
    where(
        "--executor",
        metavar="local|ray|slurm",
        help="What trains the runs: processes of this machine, Ray, or Slurm.",
    ),
]
Address = Annotated[
    str | None,
    where(metavar="ADDRESS", help="Ray cluster: auto for this machine's (default: start one)."),
]
RayOptions = Annotated[
    str | None,
    where("--ray", metavar="NAME=VALUE,...", help="Of each run: cpus=4, gpu_memory=80 (GiB)."),
]
SlurmOptions = Annotated[
    str | None,
    where(
        "--slurm",
        metavar="NAME=VALUE,...",
        help="Options of sbatch: partition=gpu,time=240,gres=gpu:1; and pack=MINUTES of a job.",
    ),
]
GIB = 2**30


def check(
    executor: str, address: str | None, ray: str | None, slurm: str | None, jobs: str = "auto"
) -> None:
    """Refuses options that contradict each other, or cannot be read.

    Raises:
        UserError: some do.
    """
    if executor not in NAMES:
        raise UserError(f"--executor {executor!r}: choose from {', '.join(NAMES)}")
    for option, value, owner in (
        ("--address", address, "ray"),
        ("--ray", ray, "ray"),
        ("--slurm", slurm, "slurm"),
    ):
        if value is not None and executor != owner:
            raise UserError(f"{option} needs --executor {owner}; add it, or leave {option} out")
    if executor != "local" and jobs != "auto":
        raise UserError("--jobs is for --executor local; leave it out")
    if executor != "local":
        cores(executor, ray, slurm)


def read_ray(text: str | None) -> dict[str, int]:
    """`cpus` and `gpu_memory` from `cpus=4,gpu_memory=80`.

    Raises:
        UserError: they are not of this form.
    """
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, value = (one.strip() for one in part.partition("="))
        if name not in ("cpus", "gpu_memory") or not value.isdecimal() or int(value) < 1:
            raise UserError(f"--ray {part!r}: write cpus=NUMBER or gpu_memory=GIB")
        found[name] = int(value)
    return found


def cells_for(
    request: "Request",
    cells: "Sequence[RunSpec]",
    executor: str,
    ray: str | None,
    slurm: str | None,
    **options: Any,
) -> list[Any]:
    """Cells with their needs, as `execution.elsewhere.cells_of` makes them."""
    from benchmark.execution import elsewhere

    of_ray = read_ray(ray)
    gpu_bytes = of_ray["gpu_memory"] * GIB if "gpu_memory" in of_ray else None
    device = request.device
    if device == "auto" and executor == "slurm" and _asks_for_gpus(slurm):
        device = "cuda"
    return elsewhere.cells_of(
        cells,
        request.results.absolute(),
        request.weights,
        device,
        cores(executor, ray, slurm),
        gpu_bytes,
        **options,
    )


def cores(executor: str, ray: str | None, slurm: str | None) -> int:
    """Cores of each cell."""
    if executor == "ray":
        return read_ray(ray).get("cpus", 1)
    from benchmark.execution.executors.slurm_jobs import read_options

    return int(read_options(slurm).get("cpus_per_task", 1))


def _asks_for_gpus(slurm: str | None) -> bool:
    from benchmark.execution.executors.slurm_jobs import read_options

    wanted = read_options(slurm)
    return "gpu" in wanted.get("gres", "") or any(name.startswith("gpus") for name in wanted)


def detaches(executor: str, address: str | None) -> bool:
    """Whether runs go on when the command ends."""
    return executor == "slurm" or (executor == "ray" and address is not None)


def run(
    request: "Request",
    cells: "Sequence[RunSpec]",
    executor: str,
    address: str | None,
    ray: str | None,
    slurm: str | None,
    listener: "Listener",
    watch: "StopSignal",
    checkpoint_seconds: float = 60.0,
    compiling: str = "auto",
    **options: Any,
) -> "list[Record]":
    """Has an engine run cells, waits for them, and gets their records from where they are.

    Args:
        request: names results, data, weights and device.
        cells: what to run.
        executor: of the engine; the next three are its options.
        address: of a cluster.
        ray: as typed.
        slurm: as typed.
        listener: receives what ends.
        watch: the first signal leaves the cells to the engine.
        checkpoint_seconds: between checkpoints.
        compiling: whether networks are compiled.
        **options: of `execution.elsewhere.cells_of`.

    Raises:
        UserError: the engine is not there or refuses, or results cannot be written.
    """
    from benchmark.execution import elsewhere
    from benchmark.results import remote

    there = engine(request, executor, address, ray, slurm, watch, checkpoint_seconds, compiling)
    travelling = cells_for(request, cells, executor, ray, slurm, **options)
    results = request.results.absolute()
    records = elsewhere.run_cells(travelling, there, results, listener, watch)
    remote.renew(results)
    return records


def engine(
    request: "Request",
    executor: str,
    address: str | None,
    ray: str | None,
    slurm: str | None,
    watch: "StopSignal",
    checkpoint_seconds: float,
    compiling: str,
) -> "Engine":
    """The engine that was asked for.

    Raises:
        UserError: it is not there.
    """
    from benchmark.execution.elsewhere import setup_of

    setup = setup_of(
        request.device,
        cores(executor, ray, slurm),
        request.data,
        request.weights,
        request.workers,
        checkpoint_seconds,
        watch.max_seconds,
        compiling,
    )
    results: Path = request.results.absolute()
    if executor == "ray":
        from benchmark.execution.executors.ray import Ray

        return Ray(setup, results, watch, address)
    from benchmark.execution.executors.slurm import Slurm
    from benchmark.execution.executors.slurm_jobs import read_options

    return Slurm(setup, results, watch, read_options(slurm))
