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
) -> list[Record]:
    """Runs the cells of a selection that are not done; see `run_cells`."""
    todo = pending(plan(selection), results)
    return run_cells(todo, results, data, weights, device, listener)


def run_cells(
    cells: Sequence[RunSpec],
    results: Path,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    listener: "Listener | None" = None,
) -> list[Record]:
    """Checks everything that cells need, then runs them.

    Args:
        cells: what to run.
        results: folder of the results.
        data: data root of benchmarks that read files.
        weights: folders with weight files, tried before the package's own and timm's cache.
        device: auto, cpu, cuda or cuda:N.
        listener: is told about progress.

    Returns:
        Their records, in order.

    Raises:
        UserError: something that would stop every cell is wrong; nothing has been written then.
    """
    if not cells:
        return []
    # timm and the data are loaded only when there is something to do.
    from benchmark.executors.serial import execute
    from benchmark.runner import preflight

    environment, refusals = preflight(cells, data, weights, device)
    store.check_writable(results)
    if listener:
        for reason in dict.fromkeys(refusals.values()):
            refused = [cell for cell in cells if refusals.get(cell.run_id) == reason]
            listener.refused(refused, reason)
    return list(execute(cells, results, environment, listener))
