"""`status`: how far a grid is that runs elsewhere."""

from typing import TYPE_CHECKING

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from benchmark.cli.request import Request


@options.takes("results")
def status(request: "Request", as_json: options.AsJson = False) -> None:
    """Show the runs that were handed to Ray or Slurm from a results folder.

    queued: it waits for a machine. running: a machine trains it. done, failed: its record says so.
    interrupted, lost: no machine has it; repeat the `run` command. unknown: the engine does not
    answer.
    """
    from rich.console import Console
    from rich.table import Table

    from benchmark.cli import terminal
    from benchmark.core.format import counted
    from benchmark.execution.status import STATES
    from benchmark.execution.status import status as look

    found = look(request.results)
    counts = {name: sum(one.state == name for one in found) for name in STATES}
    counts = {name: number for name, number in counts.items() if number}
    if as_json:
        terminal.print_json({"counts": counts, "runs": [vars(one) for one in found]})
        return
    console = Console(highlight=False, markup=False)
    if not found:
        console.print(f"no run was handed to an engine from {request.place}", soft_wrap=True)
        return
    table = Table(box=None)
    for heading in ("state", "engine", "job", "run"):
        table.add_column(heading, no_wrap=True)
    for one in found:
        if one.state != "done":
            table.add_row(one.state, one.engine, one.job, one.folder)
    if table.rows:
        console.print(table)
    for reason in dict.fromkeys(one.reason for one in found if one.reason):
        console.print(reason, style="red", soft_wrap=True)
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    console.print(f"{counted(len(found), 'run')}: {text}")
    if counts.keys() & {"lost", "interrupted", "unknown"}:
        raise typer.Exit(1)
