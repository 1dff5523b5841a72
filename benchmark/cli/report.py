"""`report`: tables and trade-off plots of a suite's results."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import options


def report(
    suite: options.Suite = None,
    results: options.Results = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the reports.")] = Path(
        "reports"
    ),
) -> None:
    """Write leaderboard, per-benchmark and per-class tables and Pareto plots to OUT/SUITE."""
    from rich.console import Console

    from benchmark.catalogue import SUITES
    from benchmark.reporting.report import print_report, write_report
    from benchmark.results import load_results

    name, root = suite or "demo", results or Path("results")
    runs = load_results(root, name)
    if runs.empty:
        SUITES.get(name)
    folder = out / name
    files = write_report(runs, folder, name)
    console = Console()
    print_report(runs, console, classes=True)
    console.print(f"{len(files)} files in {folder}", highlight=False)
