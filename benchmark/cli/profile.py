"""`profile`: where the time of a training step goes."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.cli.options import how
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from benchmark.cli.request import Request
    from benchmark.profiling.step_profile import Share


@options.takes(*options.without("methods", "seeds", "fraction", "results"))
def profile(
    request: "Request",
    methods: Annotated[
        str, typer.Argument(metavar="METHOD", help="One method, written as in --methods.")
    ],
    steps: Annotated[int, how("--steps", min=1, help="Steps to profile.")] = 10,
    rows: Annotated[int, how("--rows", min=0, help="Operators to list.")] = 15,
) -> None:
    """Train a method for a few steps and show where the time goes. Nothing is stored.

    Uses the first selected benchmark and backbone.
    """
    from rich.console import Console

    from benchmark.planning.catalogue import check_names

    check_names(methods)
    from benchmark.execution.environment import prepare
    from benchmark.execution.executors.here import Here
    from benchmark.execution.preflight import preflight
    from benchmark.execution.tasks import Silent
    from benchmark.planning import plan
    from benchmark.profiling.step_profile import profile as measure

    if not methods.strip():
        raise UserError("METHOD is empty; `list methods` names them")
    cells = plan.plan(dataclasses.replace(request.selection, methods=methods), request.weights)
    if len({cell.method_label for cell in cells}) > 1:
        raise UserError(f"{methods!r} selects several methods; name one")
    cell = cells[0]
    environment = prepare(request.data, request.weights, request.device, request.workers)
    verdicts = preflight(
        [cell], Here(environment), Silent(), request.data, accept_audit=True
    ).verdicts
    for verdict in verdicts.values():
        if verdict.reason:
            raise UserError(verdict.reason)
    found = measure(cell, environment, steps)
    console = Console()
    protocol = cell.protocol
    console.print(
        f"{cell.method_label} on {cell.backbone}, {cell.benchmark}, batch {protocol.batch_size}, "
        f"crop {protocol.crop}: {found.milliseconds:.0f} ms a step, "
        f"{found.images_per_second:.1f} images/s",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    console.print(_table("part of a step", found.phases))
    if rows:
        console.print(_table("operator (without what it calls)", found.operators[:rows]))


def _table(name: str, shares: "Sequence[Share]") -> "Table":
    from rich.table import Table

    table = Table(box=None, title_justify="left")
    table.add_column(name)
    for column in ("ms a step", "share", "calls a step"):
        table.add_column(column, justify="right")
    for one in shares:
        table.add_row(one.name, f"{one.milliseconds:.2f}", f"{one.share:.1%}", f"{one.calls:g}")
    return table
