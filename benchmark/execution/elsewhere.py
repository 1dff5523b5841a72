"""A grid whose cells an engine runs on other machines.

Each cell goes through all that a grid of it alone would: its machine checks the data, the weights
and the method, chooses how to compute, and trains. So this command needs no GPU, and what is wrong
on one machine is the reason why a cell failed there.
"""

import dataclasses
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.files import file_sha256
from benchmark.core.interrupt import Interrupted, StopSignal
from benchmark.core.machine import device_name, find_device
from benchmark.core.record import Record
from benchmark.core.spec import RunSpec
from benchmark.data.acquire import at_url
from benchmark.execution.executors.here import Here
from benchmark.execution.executors.needs import Needs, needs_of
from benchmark.execution.executors.worker import Setup
from benchmark.execution.grid import execute
from benchmark.execution.tasks import (
    Bury,
    Listener,
    Mark,
    Outcome,
    Silent,
    Train,
    Verdict,
    is_settled,
    mark,
)
from benchmark.models.find_weights import cached_weights, find_weights
from benchmark.planning import plugins, published_costs
from benchmark.planning.forecast import Forecaster
from benchmark.results import remote, store
from benchmark.results.index import read_index

if TYPE_CHECKING:
    from benchmark.execution.environment import Environment
    from benchmark.execution.executors.base import Executor


@dataclass(frozen=True, eq=False)
class Cell:
    """Checks and runs a cell on the machine that it comes to.

    Attributes:
        cell: what to run.
        results: folder of the results.
        before: mark of its record when it was chosen; a newer record is another's work.
        again: run it though it is finished.
        accept_audit: train although results on the data would be wrong.
        needs: what it asks of a machine.
        weights_sha256: of the file that this command has; None = it has none.
        url: of the results; each machine then has a mirror of its own in place of `results`.
    """

    cell: RunSpec
    results: Path
    before: Mark
    again: bool = False
    accept_audit: bool = False
    needs: Needs = field(default_factory=Needs)
    weights_sha256: str | None = None
    url: str = ""

    @property
    def key(self) -> str:
        """Its run id."""
        return self.cell.run_id

    @property
    def folder(self) -> str:
        """Of its record, in the results folder."""
        return self.cell.folder.as_posix()

    def __call__(
        self, environment: "Environment", listener: Listener
    ) -> Record | Outcome | Verdict:
        """The record, or why there is none; no exception."""
        results = self.results
        try:
            if self.url:
                results = remote.mirror(self.url)
            found = self._run(results, environment, listener)
            if unsent := remote.unsent(results, self.cell):
                return Verdict(f"{unsent} (on {socket.gethostname()})", by_user=True)
            return found
        except Interrupted as error:
            return Verdict(f"{error} (on {socket.gethostname()})", by_user=True)
        except Exception as error:
            told = str(error) if isinstance(error, UserError) else on_one_line(error)
            return Verdict(f"{told} (on {socket.gethostname()})", by_user=True)

    def _run(
        self, results: Path, environment: "Environment", listener: Listener
    ) -> Record | Outcome | Verdict:
        from benchmark.execution.preflight import preflight

        cell = self.cell
        if is_settled(results, cell, self.before, self.again):
            remote.finish(results)  # by an attempt that could not upload it
            return Outcome.FOUND  # or whose machine died right after it
        self._check_weights(environment.weights)
        here, data = Here(environment), environment.data
        found = preflight([cell], here, listener, data, self.needs.cores, self.accept_audit)
        verdict = found.verdicts[cell.run_id]
        if verdict.status is not None:
            bury = Bury(cell, results, verdict.status, verdict.reason, verdict.traceback)
            return bury(environment, listener)
        if verdict.reason:
            reason = f"{verdict.reason} (on {socket.gethostname()})"
            return dataclasses.replace(verdict, reason=reason)
        compute, findings = found.computes[cell.run_id], found.findings[cell.run_id]
        train = Train(cell, results, self.before, self.again, compute, findings)
        return train(environment, listener)

    def _check_weights(self, folders: Sequence[Path]) -> None:
        there = weights_sha256(self.cell, folders) if self.weights_sha256 else None
        if there is not None and there != self.weights_sha256:
            raise UserError(
                f"the weights of {self.cell.backbone} here have SHA-256 {there[:12]}, those of the "
                f"command {str(self.weights_sha256)[:12]}; give all machines the same file"
            )


def weights_sha256(cell: RunSpec, folders: Sequence[Path]) -> str | None:
    """Hash of the weights file of a cell's backbone; None where this machine has none."""
    if cell.weights != "pretrained":
        return None
    path = find_weights(cell.backbone, folders) or cached_weights(cell.backbone)
    return None if path is None else file_sha256(path)


def forecaster_of(results: Path, device: str) -> Forecaster:
    """Estimates by the runs of a folder, and where these tell nothing, by published ones."""
    elsewhere, published = published_costs.read()
    runs = list(read_index(results).entries.values())
    return Forecaster(runs, device, Forecaster(published, elsewhere))


def cells_of(
    cells: Sequence[RunSpec],
    results: Path,
    weights: Sequence[Path],
    device: str,
    cores: int = 1,
    gpu_bytes: int | None = None,
    rerun: Collection[str] = (),
    accept_audit: bool = False,
) -> list[Cell]:
    """Cells as they travel; see `run_cells`."""
    kind = "cpu" if device == "cpu" else "cuda"
    if device == "auto":
        kind = find_device(device)
    name = device_name(find_device(device)) if device in ("cpu", "auto") else device
    forecaster, hashes = forecaster_of(results, name), dict[str, str | None]()
    there = remote.of(results)
    travelling = []
    for cell in cells:
        if cell.backbone not in hashes:
            hashes[cell.backbone] = weights_sha256(cell, weights)
        travelling.append(
            Cell(
                cell,
                results,
                mark(results, cell),
                cell.run_id in rerun,
                accept_audit,
                needs_of(cell, forecaster, kind, cores, gpu_bytes),
                hashes[cell.backbone],
                there.url if there else "",
            )
        )
    return travelling


def run_cells(
    cells: Sequence[Cell],
    engine: "Executor",
    results: Path,
    listener: Listener | None = None,
    watch: StopSignal | None = None,
) -> list[Record]:
    """Has an engine run cells, and waits for them.

    Args:
        cells: what to run.
        engine: that runs them.
        results: folder of the results, which all machines see under the same path.
        listener: receives what ends; steps are not reported.
        watch: the first signal leaves the cells to the engine.

    Returns:
        The records that came while this command waited, in order of their ends.

    Raises:
        UserError: the results cannot be written, or the engine refuses the cells.
    """
    listener, watch = listener or Silent(), watch or StopSignal()
    for cell in cells:
        store.check_replaceable(results / cell.folder)
    remote.check_writable(results)
    # The longest first, so that the last one does not end long after the others.
    ordered = sorted(cells, key=lambda cell: -(cell.needs.minutes or float("inf")))
    with watch.signals():
        return list(execute(ordered, engine, watch, listener))


def setup_of(
    device: str,
    cores: int,
    data: Path | None,
    weights: Sequence[Path],
    workers: int | None,
    checkpoint_seconds: float | None,
    max_seconds: float | None,
    compiling: str,
) -> Setup:
    """What a worker needs to begin, with paths that hold on every machine."""
    whole: Callable[[Any], Path] = lambda path: Path(path).absolute()  # noqa: E731
    return Setup(
        (device,),
        cores,
        None if data is None else at_url.url_of(data) or whole(data),
        tuple(map(whole, weights)),
        workers,
        checkpoint_seconds,
        max_seconds,
        tuple(map(whole, plugins.loaded())),
        compiling,
    )
