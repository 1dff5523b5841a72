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

    from benchmark.results.store import find_one

    folder, record = find_one(results or Path("results"), run_id)
    console = Console()
    console.print(str(folder), highlight=False, soft_wrap=True)
    console.print_json(record.model_dump_json())
