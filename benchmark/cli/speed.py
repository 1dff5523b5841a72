"""`speed`: how fast the harness trains, against other loops on the same work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from benchmark.cli.request import Request

WIDTH = 240
"""Columns that the table needs."""


@options.takes(*options.without("methods", "seeds", "fraction", "results"))
def speed(
    request: "Request",
    parts: Annotated[
        str | None,
        typer.Option("--parts", metavar="NAMES", help="Parts of the table (default: all)."),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Timed steps per loop and round.")
    ] = 5,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Rounds; every loop runs once per round.")
    ] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Also write the table to this folder."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Compare training speed and memory with other training loops, in one table.

    The loops take turns in one process, so other load on the machine affects all of them equally.
    Uses the first selected benchmark and backbone. The comparison with Hugging Face's Trainer needs
    the extra `speed`.
    """
    import dataclasses

    import torch
    from rich.console import Console
    from rich.table import Table

    from benchmark.core.machine import device_name
    from benchmark.core.spec import RunSpec
    from benchmark.execution.environment import prepare
    from benchmark.execution.executors.here import Here
    from benchmark.execution.preflight import preflight
    from benchmark.execution.tasks import Silent
    from benchmark.planning import plan
    from benchmark.profiling.speed.compare import PARTS, Comparison
    from benchmark.profiling.speed.table import HEADINGS, write

    chosen = parts.split(",") if parts else list(PARTS)
    for part in chosen:
        if part not in PARTS:
            raise UserError(f"--parts: unknown part {part!r}; choose from {', '.join(PARTS)}")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    environment = prepare(request.data, request.weights, request.device, request.workers)

    def cell(label: str) -> RunSpec:
        selection = dataclasses.replace(request.selection, methods=label)
        return plan.plan(selection, request.weights)[0]

    progress = Console(stderr=True, quiet=quiet)
    comparison = Comparison(
        cell,
        environment,
        steps,
        rounds,
        lambda text: progress.print(text, highlight=False, soft_wrap=True, markup=False),
    )
    cells = [cell for part in chosen for cell in comparison.cells(part)]
    verdicts = preflight(
        cells, Here(environment), Silent(), request.data, accept_audit=True
    ).verdicts
    for verdict in verdicts.values():
        if verdict.reason:
            raise UserError(verdict.reason)
    rows = [row for part in chosen for row in comparison.rows(part)]
    example, protocol = cells[0], cells[0].protocol
    about = [
        f"{example.backbone} on {example.benchmark}, batch {protocol.batch_size}, crop "
        f"{protocol.crop}, on {device_name(str(environment.device))}, {torch.get_num_threads()} "
        f"{'thread' if torch.get_num_threads() == 1 else 'threads'}.",
        f"Loops took turns in one process: {rounds} rounds of {steps} timed steps each. Ratios are "
        "medians over the rounds.",
    ]
    console = Console()
    for line in about:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row.texts)
    # In full, however narrow the terminal: a table of figures that are cut off says nothing.
    Console(width=max(console.width, WIDTH)).print(table)
    for path in write(rows, about, out) if out else ():
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
