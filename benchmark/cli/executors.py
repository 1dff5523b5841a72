"""Options that say where runs are trained, and the engine that they name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Executor:
    """What trains runs, with its options.

    Attributes:
        name: one of `NAMES`.
        address: of a Ray cluster.
        ray: options, as typed.
        slurm: options, as typed.
        jobs: processes of this machine; None = as many as it carries.
        devices: of this machine that train each run together.
        shard: spread each network over the devices.
    """

    name: str = "local"
    address: str | None = None
    ray: str | None = None
    slurm: str | None = None
    jobs: int | None = None
    devices: int = 1
    shard: bool = False

    @property
    def is_local(self) -> bool:
        """Whether processes of this machine train."""
        return self.name == "local"

    @property
    def detaches(self) -> bool:
        """Whether runs go on when the command ends."""
        return self.name == "slurm" or (self.name == "ray" and self.address is not None)

    @property
    def cores(self) -> int:
        """Cores of each run that an engine trains."""
        if self.name == "ray":
            return read_ray(self.ray).get("cpus", 1)
        from benchmark.execution.executors.slurm_jobs import read_options

        return int(read_options(self.slurm).get("cpus_per_task", 1))

    def cells(self, request: "Request", cells: "Sequence[RunSpec]", **options: Any) -> list[Any]:
        """Cells with their needs, as `execution.elsewhere.cells_of` makes them."""
        from benchmark.execution import elsewhere

        of_ray = read_ray(self.ray)
        gpu_bytes = of_ray["gpu_memory"] * GIB if "gpu_memory" in of_ray else None
        device = request.device
        if device == "auto" and self.name == "slurm" and _asks_for_gpus(self.slurm):
            device = "cuda"
        return elsewhere.cells_of(
            cells,
            request.results.absolute(),
            request.weights,
            device,
            self.cores,
            gpu_bytes,
            **options,
        )

    def train(
        self,
        request: "Request",
        cells: "Sequence[RunSpec]",
        listener: "Listener",
        watch: "StopSignal",
        *,
        checkpoint_seconds: float = 60.0,
        compiling: str = "auto",
        rerun: Collection[str] = (),
        accept_audit: bool = False,
        grid: "Sequence[RunSpec]" = (),
    ) -> "list[Record]":
        """Trains cells, waits for them, and has their records where the request says.

        Args:
            request: names results, data, weights and device.
            cells: what to run.
            listener: receives what ends.
            watch: its signal ends the command; cells are saved, or left to the engine.
            checkpoint_seconds: between checkpoints.
            compiling: whether networks are compiled.
            rerun: ids of finished runs that run all the same.
            accept_audit: train although an audit finds faults.
            grid: what was asked for, finished cells included.

        Raises:
            UserError: no cell can run; the engine is not there or refuses; results cannot be
                written.
        """
        if self.is_local:
            from benchmark.execution.grid import run_cells

            return run_cells(
                cells,
                request.results,
                request.data,
                request.weights,
                request.device,
                listener,
                workers=request.workers,
                watch=watch,
                checkpoint_seconds=checkpoint_seconds,
                rerun=rerun,
                jobs=self.jobs,
                compiling=compiling,
                accept_audit=accept_audit,
                grid=grid,
                devices=self.devices,
                shard=self.shard,
            )
        from benchmark.execution import elsewhere
        from benchmark.results import asked, remote

        asked.note(request.results, grid, asked.Folders(request.weights, request.data))
        there = engine(request, self, watch, checkpoint_seconds, compiling)
        travelling = self.cells(request, cells, rerun=rerun, accept_audit=accept_audit)
        results = request.results.absolute()
        records = elsewhere.run_cells(travelling, there, results, listener, watch)
        remote.renew(results)
        return records


def chosen(
    name: str,
    address: str | None = None,
    ray: str | None = None,
    slurm: str | None = None,
    jobs: str = "auto",
    devices: str = "1",
    compiling: str = "auto",
    shard: bool = False,
) -> Executor:
    """The executor that options name, as they were typed.

    Raises:
        UserError: options contradict each other, or cannot be read.
    """
    if name not in NAMES:
        raise UserError(f"--executor {name!r}: choose from {', '.join(NAMES)}")
    for option, value, owner in (
        ("--address", address, "ray"),
        ("--ray", ray, "ray"),
        ("--slurm", slurm, "slurm"),
    ):
        if value is not None and name != owner:
            raise UserError(f"{option} needs --executor {owner}; add it, or leave {option} out")
    if name != "local" and jobs != "auto":
        raise UserError("--jobs is for --executor local; leave it out")
    from benchmark.execution.jobs import parse_devices, parse_jobs

    number = parse_jobs(jobs)
    together = parse_devices(devices, jobs, name, compiling, shard)
    found = Executor(name, address, ray, slurm, number, together, shard)
    if not found.is_local:
        _ = found.cores  # refuses options that cannot be read
    return found


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


def _asks_for_gpus(slurm: str | None) -> bool:
    from benchmark.execution.executors.slurm_jobs import read_options

    wanted = read_options(slurm)
    return "gpu" in wanted.get("gres", "") or any(name.startswith("gpus") for name in wanted)


def engine(
    request: "Request",
    executor: Executor,
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
        executor.cores,
        request.data,
        request.weights,
        request.workers,
        checkpoint_seconds,
        watch.max_seconds,
        compiling,
    )
    results: Path = request.results.absolute()
    if executor.name == "ray":
        from benchmark.execution.executors.ray import Ray

        return Ray(setup, results, watch, executor.address)
    from benchmark.execution.executors.slurm import Slurm
    from benchmark.execution.executors.slurm_jobs import read_options

    return Slurm(setup, results, watch, read_options(executor.slurm))
