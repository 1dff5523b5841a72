"""Plan, check, execute: what `python -m benchmark run` does, as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import store
from benchmark.planner import Selection, plan
from benchmark.record import Record
from benchmark.spec import RunSpec

if TYPE_CHECKING:
    from benchmark.executors.serial import Listener


def pending(cells: Sequence[RunSpec], results: Path) -> list[RunSpec]:
    """The cells that are not done yet."""
    return [cell for cell in cells if not store.is_done(results, cell)]


def run(
    selection: Selection,
    results: Path = Path("results"),
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: "Listener | None" = None,
    workers: int | None = None,
) -> list[Record]:
    """Runs the cells of a selection that are not done; see `run_cells`."""
    todo = pending(plan(selection), results)
    return run_cells(todo, results, data, weights, device, listener, workers)


def run_cells(
    cells: Sequence[RunSpec],
    results: Path,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: "Listener | None" = None,
    workers: int | None = None,
) -> list[Record]:
    """Checks everything that cells need, then runs them.

    Args:
        cells: what to run.
        results: folder of the results.
        data: data root of benchmarks that read files.
        weights: folders with weight files, tried before the package's own and timm's cache.
        device: auto, cpu, cuda or cuda:N.
        listener: is told about progress.
        workers: processes that cut training crops; None = as the device needs.

    Returns:
        Their records, in order.

    Raises:
        UserError: something that would stop every cell is wrong; nothing has been written then.
    """
    if not cells:
        return []
    # timm and the data are loaded only when there is something to do.
    from benchmark.environment import preflight
    from benchmark.executors.serial import execute

    decoding = listener.decoding if listener else None
    environment, refusals = preflight(cells, data, weights, device, workers, decoding)
    store.check_writable(results)
    if listener:
        for reason in dict.fromkeys(refusals.values()):
            refused = [cell for cell in cells if refusals.get(cell.run_id) == reason]
            listener.refused(refused, reason)
    return list(execute(cells, results, environment, listener))
