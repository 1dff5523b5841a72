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
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Results folders.")],
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Target folder; may be one of them (default: results)."),
    ] = None,
) -> None:
    """Copy the finished runs of results folders into one.

    Runs already in the target are kept; otherwise the first folder wins. Finished runs replace
    unfinished ones.

    Exit code 0: done. 1: two finished runs of a cell differ, or a run is broken or in use. 2: bad
    request.
    """
    from benchmark.results.merge import merge as copy
    from benchmark.results.validate import told

    into = into or request.results
    merged = copy(folders, into)
    for folder in merged.conflicts:
        typer.echo(f"conflict: {told(folder)} differs from the finished run that was kept")
    for folder in merged.broken:
        typer.echo(f"broken: {told(folder)} is skipped; see `doctor`")
    for folder in merged.busy:
        typer.echo(f"busy: {told(folder)} is skipped; another process is using it")
    typer.echo(
        f"{told(into)}: {len(merged.copied)} copied, {len(merged.same)} there already, "
        f"{len(merged.conflicts)} conflicts, {len(merged.broken)} broken, "
        f"{len(merged.busy)} busy, {len(merged.unfinished)} unfinished left out"
        + (f"; {len(merged.timings)} timings copied" if merged.timings else "")
    )
    if merged.conflicts or merged.broken or merged.busy:
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
