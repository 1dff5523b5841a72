"""Ray runs the cells: on this machine, on a cluster, or on KubeRay.

A detached actor of the cluster owns the tasks, so that they go on when this command ends. Where
they run, when, and how often after a worker or a node died, is Ray's to decide.
"""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError, on_one_line
from benchmark.execution.executors.base import Lost
from benchmark.execution.executors.engine import Cell, Engine
from benchmark.execution.executors.needs import Needs
from benchmark.execution.executors.ray_cluster import actor_name, connect, module
from benchmark.execution.executors.worker import Setup, do
from benchmark.execution.tasks import Listener, Verdict
from benchmark.results.submitted import Job, note

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal

RETRIES = 3
"""Of a cell whose worker or node died."""
WAIT_SECONDS = 0.2
TRIES = 50
"""To reach the actor."""


def resources(needs: Needs) -> dict[str, Any]:
    """Needs in Ray's words."""
    found: dict[str, Any] = {"num_cpus": needs.cores, "num_gpus": needs.gpus}
    if needs.memory_bytes is not None:
        found["memory"] = needs.memory_bytes
    return found


class Keeper:
    """The actor: hands cells to Ray and keeps what comes back until it is asked for."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._keys: dict[Any, str] = {}
        self._do = module().remote(max_retries=RETRIES)(do)

    def add(self, cells: Sequence[Cell]) -> None:
        """Hands over those that are not there."""
        there = set(self._keys.values())
        for cell in cells:
            if cell.key not in there:
                reference = self._do.options(**resources(cell.needs)).remote(self._setup, cell)
                self._keys[reference] = cell.key

    def keys(self) -> list[str]:
        """Of the cells that have not ended, or were not asked for since."""
        return list(self._keys.values())

    def ended(self) -> list[tuple[str, Any]]:
        """Key and outcome of those that ended since."""
        ray = module()
        waiting = list(self._keys)
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not ready:
            ready, _ = ray.wait(waiting, timeout=WAIT_SECONDS)
        return [(self._keys.pop(one), _outcome(ray, one)) for one in ready]

    def cancel(self) -> None:
        """Stops all: workers save a checkpoint if they have the time."""
        for reference in self._keys:
            module().cancel(reference)


def _outcome(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Verdict("cancelled; to resume, repeat the command", by_user=True)
    except (ray.exceptions.OutOfMemoryError, ray.exceptions.WorkerCrashedError):
        return Lost(-signal.SIGKILL)
    except ray.exceptions.RayTaskError as error:
        return Verdict(on_one_line(error.cause or error), by_user=True)
    except ray.exceptions.RayError as error:
        return Lost(reason=f"Ray lost it: {on_one_line(error)}"[:300])


class Ray(Engine):
    """Hands cells to a cluster.

    Args:
        setup: of each worker.
        results: folder of the results.
        watch: says when to leave.
        address: of a cluster, `auto` for the one that this machine is in; None = one of this
            machine alone, which ends with this command.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    name = "ray"

    def __init__(
        self, setup: Setup, results: Path, watch: "StopSignal", address: str | None = None
    ) -> None:
        super().__init__(watch)
        self._setup, self._results, self._address = setup, results, address
        self._ray = module()
        self.detachable = address is not None
        self._name = actor_name(results)
        connect(address)
        self._keeper: Any = None
        self._cells: dict[str, Cell] = {}

    def submit(self, cells: Sequence[Cell], listener: Listener) -> None:
        """See `Engine`."""
        self._cells |= {cell.key: cell for cell in cells}
        folders = {cell.key: cell.folder for cell in cells}
        note(self._results, [Job(self.name, self._name, folders, self._address or "")])
        self._say_what_waits(cells, listener)
        for _ in range(TRIES):
            self._keeper = self._keeper or self._find()
            try:
                self._ray.get(self._keeper.add.remote(cells))
                return
            except self._ray.exceptions.RayActorError:  # it was ending; its name is free soon
                self._keeper = None
                time.sleep(WAIT_SECONDS)
        raise UserError(f"Ray starts no actor {self._name}; look at `ray list actors`")

    def _find(self) -> Any:
        """The actor that keeps this folder's cells, begun where there is none."""
        options = {"name": self._name, "get_if_exists": True, "lifetime": "detached"}
        options |= {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        return self._ray.remote(Keeper).options(**options).remote(self._setup)

    def _say_what_waits(self, cells: Sequence[Cell], listener: Listener) -> None:
        """A cluster may grow, so what no machine has now is no error."""
        there = self._ray.cluster_resources()
        for kind, wanted in (
            ("GPU", max(cell.needs.gpus for cell in cells)),
            ("CPU", max(cell.needs.cores for cell in cells)),
        ):
            if there.get(kind, 0) < wanted:
                listener.note(
                    f"waiting: a cell needs {wanted:g} {kind}, and the cluster has "
                    f"{there.get(kind, 0):g}; it starts when a machine with one joins"
                )

    def ended(self) -> list[tuple[str, Any]]:
        """See `Engine`."""
        found: list[tuple[str, Any]] = self._ray.get(self._keeper.ended.remote())
        for key, _ in found:
            self._cells.pop(key, None)
        if not found:
            # An actor whose node died begins anew and knows nothing.
            known = set(self._ray.get(self._keeper.keys.remote()))
            found = [(key, None) for key in self._cells if key not in known]
            for key, _ in found:
                del self._cells[key]
        if not self._cells:
            self._ray.kill(self._keeper)
            self._keeper = None
        return found

    def cancel(self) -> None:
        """See `Engine`."""
        if self._keeper is not None:
            self._ray.get(self._keeper.cancel.remote())
