"""`results`: merge results folders, export results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from benchmark.cli.request import Request

app = typer.Typer(
    help="Merge results folders; export results as a table.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
@options.takes()
def merge(
    request: "Request",
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR|URL", help="Results folders, or their URLs.")
    ],
    into: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="Target folder; may be one of them (default: results)."
        ),
    ] = None,
) -> None:
    """Copy the finished runs of results folders into one.

    Runs already in the target are kept; otherwise the first folder wins. Finished runs replace
    unfinished ones.

    Exit code 0: done. 1: two finished runs of a cell differ, or a run is broken, in use or not
    uploaded. 2: bad request.
    """
    from benchmark.results import remote
    from benchmark.results.merge import merge as copy
    from benchmark.results.validate import told

    target = remote.located(into or request.url or request.results)
    merged = copy([remote.located(folder) for folder in folders], target)
    sent = remote.finish(target)
    for folder in merged.conflicts:
        typer.echo(f"conflict: {told(folder)} differs from the finished run that was kept")
    for folder in merged.broken:
        typer.echo(f"broken: {told(folder)} is skipped; see `doctor`")
    for folder in merged.busy:
        typer.echo(f"busy: {told(folder)} is skipped; another process is using it")
    typer.echo(
        f"{told(into or request.url or target)}: {len(merged.copied)} copied, "
        f"{len(merged.same)} there already, {len(merged.conflicts)} conflicts, "
        f"{len(merged.broken)} broken, {len(merged.busy)} busy, "
        f"{len(merged.unfinished)} unfinished left out"
        + (f"; {len(merged.timings)} timings copied" if merged.timings else "")
    )
    if merged.conflicts or merged.broken or merged.busy or not sent:
        raise typer.Exit(1)


@app.command()
@options.takes("results")
def export(
    request: "Request",
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    form: Annotated[
        str, typer.Option("--format", metavar="csv|parquet|json", help="Format of the file.")
    ] = "csv",
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this suite (default: all).")
    ] = None,
) -> None:
    """Write all results as one table, one row per run."""
    from benchmark.results.merge import export as write
    from benchmark.results.validate import told

    rows = write(request.results, form, out, suite)
    typer.echo(f"{rows} rows in {told(out)}")
