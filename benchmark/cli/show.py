"""`show`: everything about one run."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import options


def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Id, or how it starts.")],
    results: options.Results = None,
) -> None:
    """Print the record of a run."""
    from rich.console import Console

    from benchmark import store
    from benchmark.errors import UserError

    root = results or Path("results")
    found = store.find_runs(root, run_id)
    if not found:
        raise UserError(f"no run {run_id!r} in {root}; `plan` prints the ids")
    if len(found) > 1:
        ids = ", ".join(folder.name for folder in found[:6])
        raise UserError(f"run id {run_id!r} fits {len(found)} runs ({ids}); type more of it")
    record = store.read_record(found[0])
    if record is None:
        raise UserError(f"{found[0] / 'record.json'} cannot be read; remove it and run again")
    console = Console()
    console.print(str(found[0]), highlight=False, soft_wrap=True)
    console.print_json(record.model_dump_json())
