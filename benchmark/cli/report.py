"""`report`: tables, figures and pages of a suite's results."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import Assessment
    from benchmark.cli.request import Request
    from benchmark.data.base import Benchmark
    from benchmark.reporting.html.images import Item
    from benchmark.reporting.inputs import ReportInputs

STATISTICS, FIGURES = "statistics.json", "figures"
"""What a report keeps for the next one, in a hidden folder of the results."""

MOST_NAMED = 4
"""Benchmarks in the title of a report that is not of a whole suite."""

LOOK_SECONDS = 5.0
"""Pause of `--watch` before it looks for new runs again."""


@options.takes("suite", "results", "data", "plugin")
def report(
    request: "Request",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for reports (default: reports).")
    ] = None,
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object in place of tables.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write leaderboards with intervals, tables, figures and an offline page to OUT/SUITE.

    OUT/SUITE/index.html works offline. The report of an unfinished grid is marked partial. If the
    data are available, test images are copied into the report. --json also writes all of it, but
    prints leaderboards and answers for programs.
    """
    from rich.console import Console

    from benchmark.core.parallel import uncollected
    from benchmark.planning.renamed import load

    name, root, out = request.selection.suite, request.results, out or request.reports
    references = [_reference(path) for path in reference or []]
    if not watch:
        _check_there(root, name)
    if watch and as_json:
        raise UserError("--json prints once; leave out --watch")
    console, progress = Console(), Console(quiet=quiet)
    seen: object = None
    while True:
        stamp = _stamp(root)
        if stamp != seen:
            runs = load(root, name)
            if not (watch and runs.empty):
                inputs = _inputs(runs, name, root, references, gallery, request.data)
                with uncollected():
                    files = _write(inputs, name, root, out / name, figures)
                    if as_json:
                        _print_json(inputs, name, files)
                    else:
                        _print(console, progress, inputs, files, out / name)
            seen = stamp
        if not watch:
            return
        try:
            time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            return


def _check_there(root: Path, suite: str) -> None:
    """Raises UserError where a folder holds no runs of a suite; names one that does."""
    from benchmark.planning.catalogue import SUITES
    from benchmark.results.load import holds_suite, results_near, suites_of

    there = suites_of(root)
    if suite in there:
        return
    if there:
        SUITES.get(suite)
        raise UserError(
            f"{root} holds no runs of suite {suite!r}, but of {', '.join(there)}; choose one with "
            "--suite"
        )
    if holds_suite(root):
        return
    what = f"{root} holds no runs" if root.is_dir() else f"no results folder {root}"
    near = results_near(root)
    if near is not None:
        raise UserError(f"{what}; {near} holds some: add --results {near}")
    SUITES.get(suite)
    raise UserError(f"{what}: nothing to report; run `python -m benchmark run` first")


def _inputs(
    frame: "pd.DataFrame",
    name: str,
    root: Path,
    references: "list[pd.DataFrame]",
    gallery: bool,
    data: Path | None,
) -> "ReportInputs":
    import pandas as pd

    from benchmark.reporting.inputs import ReportInputs

    items, notes = _gallery(frame, root, data) if gallery and len(frame) else ([], [])
    published = pd.concat(references, ignore_index=True) if references else None
    runs, found = assessed(frame, name, root)
    if published is not None:
        found = found.beside(published)
    title = _title(sorted(map(str, frame["benchmark"].unique())), name)
    notes = [*_described_otherwise(runs), *_lone_groups(runs, data), *notes, *found.notes]
    return ReportInputs(title, runs, found, items, published, notes)


def _described_otherwise(runs: "Runs") -> list[str]:
    """Of the runs that count, those made with another description of their set than today's."""
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.planning.staleness import redescribed
    from benchmark.results.store import read_record

    rows = runs.current
    if "benchmark_version" not in rows:
        return []
    rows = rows[rows["status"] == "done"]
    present = {name: BENCHMARKS.get(name).version for name in BENCHMARKS.names()}
    now = rows["benchmark"].map(lambda name: present.get(name, ""))
    other = rows[(rows["benchmark_version"].fillna("") != now) & (now != "")]
    records = (read_record(runs.root / folder) for folder in other["folder"])
    return redescribed(record for record in records if record is not None)


def _lone_groups(runs: "Runs", data: Path | None) -> list[str]:
    """Of the sets whose files are here, those whose test images are all of one group."""
    from benchmark.data.custom.folder import ImageFolder
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.planning.remembered import recall

    names = sorted(map(str, runs.frame["benchmark"].unique()))
    recall(runs.root, names)
    found = []
    for name in names:
        kind = BENCHMARKS.get(name) if name in BENCHMARKS.names() else None
        if kind is not None and issubclass(kind, ImageFolder):
            with contextlib.suppress(UserError):  # not here, or damaged
                lone = kind(data).lone_group()
                found += [f"{name}: {lone}."] if lone else []
    return found


def assessed(frame: "pd.DataFrame", name: str, root: Path) -> "tuple[Runs, Assessment]":
    """The records of a suite and their statistics, which are kept until a run changes.

    Args:
        frame: as `load_results` returns it.
        name: of the suite.
        root: the results folder.
    """
    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import assess
    from benchmark.core.parallel import uncollected
    from benchmark.reporting.report import publishable

    with uncollected():
        runs = Runs(publishable(frame), root)
        return runs, assess(runs, root / f".report-{name}" / STATISTICS)


def _title(benchmarks: list[str], suite: str) -> str:
    """What the report is about: one set, those of a suite, or a few others."""
    from benchmark.planning.catalogue import BENCHMARKS, SUITES

    if len(benchmarks) == 1 and benchmarks[0] in BENCHMARKS.names():
        return BENCHMARKS.get(benchmarks[0]).title
    if suite in SUITES.names() and set(SUITES.get(suite).benchmarks) == set(benchmarks):
        return SUITES.get(suite).title or suite
    return ", ".join(benchmarks) if 0 < len(benchmarks) <= MOST_NAMED else suite


def _write(inputs: "ReportInputs", name: str, root: Path, out: Path, figures: bool) -> list[Path]:
    from benchmark.reporting.report import write

    return write(inputs, out, figures=figures, keep=root / f".report-{name}" / FIGURES)


def _print(
    console: "Console",
    progress: "Console",
    inputs: "ReportInputs",
    files: list[Path],
    out: Path,
) -> None:
    from benchmark.reporting.provenance import protocols
    from benchmark.reporting.report import PAGE
    from benchmark.reporting.terminal import print_answers, print_report

    runs = inputs.runs
    print_report(runs, inputs.assessment, progress, classes=True)
    print_answers(runs, inputs.assessment, console, protocols(runs.frame).guard)
    for note in inputs.notes:
        progress.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    progress.print(f"{len(files)} files in {out}", highlight=False, soft_wrap=True)
    console.print(f"open {out / PAGE}", highlight=False, soft_wrap=True)


def _print_json(inputs: "ReportInputs", name: str, files: list[Path]) -> None:
    from benchmark.cli import terminal
    from benchmark.reporting.summary import summary

    content = summary(inputs, name) | {"files": [path.as_posix() for path in files]}
    terminal.print_json(content)


def _gallery(runs: "pd.DataFrame", root: Path, data: Path | None) -> "tuple[list[Item], list[str]]":
    from benchmark.core.selectors import UnknownName
    from benchmark.planning.catalogue import open_set
    from benchmark.planning.remembered import explain, recall
    from benchmark.reporting.gallery_items import gallery_items

    problems = recall(root, map(str, runs["benchmark"].unique()))

    def opened(name: str) -> "Benchmark":
        if name in problems:
            raise UserError(f"it {problems[name]}")
        try:
            return open_set(name, data)
        except UnknownName as error:
            raise explain(error, root) from None

    return gallery_items(runs, root, opened)


def _reference(path: Path) -> "pd.DataFrame":
    from benchmark.planning.catalogue import published_labels
    from benchmark.reporting.reference import read_reference

    published = read_reference(path)
    return published.assign(label=published_labels(list(published["method"])))


def _stamp(root: Path) -> object:
    """Changes when a run, or a group's times, are added or written again."""
    from benchmark.results.timing import FOLDER

    paths = [*root.glob("*/*/*/*/*/record.json"), *root.glob(f"*/{FOLDER}/*.json")]
    return sorted((str(path), path.stat().st_mtime_ns) for path in paths)
