"""`show`: everything about one run."""

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from benchmark.cli.request import Request


@options.takes("results")
def show(
    request: "Request",
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="Run id, or its first characters.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with the run's folder in it.")
    ] = False,
) -> None:
    """Print the record of a run: scores, costs, settings and where they came from."""
    from rich.console import Console

    from benchmark.results.store import find_one

    folder, record = find_one(request.results, run_id)
    if as_json:
        import json

        content = {"folder": folder.as_posix()} | record.model_dump(mode="json")
        print(json.dumps(content, allow_nan=False))
        return
    console = Console()
    console.print(str(folder), highlight=False, soft_wrap=True)
    console.print_json(record.model_dump_json())
