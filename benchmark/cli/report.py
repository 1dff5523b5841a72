"""`report`: tables, figures and pages of a suite's results."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.reporting.html.images import Item

STATISTICS, FIGURES = "statistics.json", "figures"
"""What a report keeps for the next one, in a hidden folder of the results."""

LOOK_SECONDS = 5.0
"""Pause of `--watch` before it looks for new runs again."""


@options.takes("suite", "results", "data", "plugin")
def report(
    request: "Request",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for reports.")] = Path("reports"),
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CSV", help="Published numbers to add to the figures, as hollow marks."
        ),
    ] = None,
    gallery: Annotated[bool, typer.Option(help="Show test images with stored predictions.")] = True,
    figures: Annotated[
        bool, typer.Option(help="Also draw static figures (PNG, SVG, PDF); slow.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update the report whenever a run finishes.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write leaderboards with intervals, tables, figures and an offline page to OUT/SUITE.

    OUT/SUITE/index.html works offline. The report of an unfinished grid is marked partial. If the
    data are available, test images are copied into the report.
    """
    from rich.console import Console

    from benchmark.planning.catalogue import SUITES
    from benchmark.results.load import load_results

    name, root = request.selection.suite, request.results
    references = [_reference(path) for path in reference or []]
    if not root.is_dir():
        SUITES.get(name)
        raise UserError(f"no results folder {root}; run `python -m benchmark run` first")
    console, progress = Console(), Console(quiet=quiet)
    seen: object = None
    while True:
        stamp = _stamp(root)
        if stamp != seen:
            runs = load_results(root, name)
            if runs.empty:
                SUITES.get(name)
            if not (watch and runs.empty):
                _write(
                    console,
                    progress,
                    runs,
                    name,
                    root,
                    out,
                    references,
                    gallery,
                    figures,
                    request.data,
                )
            seen = stamp
        if not watch:
            return
        try:
            time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            return


def _write(
    console: "Console",
    progress: "Console",
    frame: "pd.DataFrame",
    name: str,
    root: Path,
    out: Path,
    references: "list[pd.DataFrame]",
    gallery: bool,
    figures: bool,
    data: Path | None,
) -> None:
    import pandas as pd

    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import assess
    from benchmark.core.parallel import uncollected
    from benchmark.reporting.inputs import ReportInputs
    from benchmark.reporting.report import PAGE, publishable, write
    from benchmark.reporting.terminal import print_report

    items, notes = _gallery(frame, root, data) if gallery and len(frame) else ([], [])
    cache = root / f".report-{name}"
    published = pd.concat(references, ignore_index=True) if references else None
    with uncollected():
        runs = Runs(publishable(frame), root)
        found = assess(runs, cache / STATISTICS)
        inputs = ReportInputs(name, runs, found, items, published, [*notes, *found.notes])
        files = write(inputs, out / name, figures=figures, keep=cache / FIGURES)
        print_report(runs, found, progress, classes=True)
    progress.print(f"{len(files)} files in {out / name}", highlight=False, soft_wrap=True)
    console.print(f"open {out / name / PAGE}", highlight=False, soft_wrap=True)


def _gallery(runs: "pd.DataFrame", root: Path, data: Path | None) -> "tuple[list[Item], list[str]]":
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.reporting.gallery_items import gallery_items

    return gallery_items(runs, root, lambda name: BENCHMARKS.get(name)(data))


def _reference(path: Path) -> "pd.DataFrame":
    from benchmark.reporting.reference import read_reference

    return read_reference(path)


def _stamp(root: Path) -> object:
    """Changes when a run, or a group's times, are added or written again."""
    from benchmark.results.timing import FOLDER

    paths = [*root.glob("*/*/*/*/*/record.json"), *root.glob(f"*/{FOLDER}/*.json")]
    return sorted((str(path), path.stat().st_mtime_ns) for path in paths)
