"""The report of a suite: tables, figures, and two pages; written whole or not at all."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment, assess
from benchmark.core.errors import UserError
from benchmark.reporting import markdown
from benchmark.reporting.figures.catalogue import pictures, pictures_across
from benchmark.reporting.figures.render import drawing
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.table_catalogue import report_tables
from benchmark.reporting.tables import write_table

if TYPE_CHECKING:
    from benchmark.reporting.html.images import Item

PAGE = "index.html"

_OWN = {"README.md", PAGE, "tables", "figures"}
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+")


def write_report(
    runs: pd.DataFrame,
    out: Path,
    title: str,
    root: Path = Path("results"),
    *,
    assessment: Assessment | None = None,
    gallery: "Sequence[Item]" = (),
    reference: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    figures: bool = True,
    keep: Path | None = None,
) -> list[Path]:
    """Writes tables, figures, a README and `index.html`; equal runs give equal bytes.

    The report is built in a hidden sibling of `out` and renamed into place, so a crash leaves the
    former report, or none, but never half of one.

    Args:
        runs: one row a record, as `load_results` returns it.
        out: folder of the report; a former report there is replaced.
        title: heading of the page, usually the suite.
        root: what the runs were loaded from: counts and curves are read below it.
        assessment: statistics of the runs, by default made here.
        gallery: test images with predictions, as `gallery_items` returns them.
        reference: published numbers, as `read_reference` returns them.
        notes: anything else that a reader must know, a sentence each.
        figures: also draw the static ones, which takes most of the time.
        keep: folder that keeps the figures until something that they show changes.

    Returns:
        The files, in the order of writing.

    Raises:
        UserError: there are no runs, `out` is not a report, or it cannot be written.
    """
    table = Runs(publishable(runs), root)
    found = assess(table) if assessment is None else assessment
    inputs = ReportInputs(title, table, found, gallery, reference, [*notes, *found.notes])
    return write(inputs, out, figures=figures, keep=keep)


def write(
    inputs: ReportInputs, out: Path, *, figures: bool = True, keep: Path | None = None
) -> list[Path]:
    """As `write_report`, of inputs that are made already; their texts must be `publishable`."""
    if inputs.runs.frame.empty:
        raise UserError(
            f"no results for {inputs.title}: nothing to report; run `python -m benchmark run` first"
        )
    _check_replaceable(out)
    final = out.resolve()
    stage = final.with_name(f".{final.name}.new")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        files = _build(inputs, stage, figures, keep)
        _swap(stage, final)
    except OSError as error:
        raise UserError(
            f"report folder {out} cannot be written ({error.strerror}); choose another"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [out / path.relative_to(stage) for path in files]


def _build(inputs: ReportInputs, stage: Path, figures: bool, keep: Path | None) -> list[Path]:
    (stage / "tables").mkdir()
    (stage / "figures").mkdir()
    chosen = {key: list(pictures(inputs, key)) if figures else [] for key in inputs.runs.groups}
    across = list(pictures_across(inputs)) if figures else []
    every = [*(picture for own in chosen.values() for picture in own), *across]
    files = []
    with drawing(every, stage / "figures", keep) as drawn:
        for table in report_tables(inputs):
            stem = stage / "tables" / table.stem
            files += write_table(table.frame, table.columns, stem, GROUP)
        texts = {"README.md": markdown.render(inputs, chosen, across), PAGE: _html(inputs)}
        files += drawn()
    for name, text in texts.items():
        (stage / name).write_text(text, encoding="utf-8", newline="\n")
        files.append(stage / name)
    return files


def _html(inputs: ReportInputs) -> str:
    from benchmark.reporting.html.page import render
    from benchmark.reporting.html.series_inputs import gather

    curves = gather(inputs.runs)
    return render(
        inputs.title, inputs.runs, inputs.assessment, inputs.gallery, curves, inputs.reference
    )


def _check_replaceable(out: Path) -> None:
    """Refuses to replace a folder that this module did not write."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"report folder {out} is a file; choose another")
    strangers = sorted(item.name for item in out.iterdir() if item.name not in _OWN)
    readme = out / "README.md"
    ours = readme.is_file() and readme.read_text("utf-8", "replace").startswith(markdown.MARK)
    if strangers or not ours:
        what = f"holds {strangers[0]}, which is" if strangers else "holds files that are"
        raise UserError(f"report folder {out} {what} not part of a report; choose another folder")


def _swap(stage: Path, out: Path) -> None:
    """Puts the new report in the place of the former one, which comes back if that fails."""
    if not out.exists():
        os.replace(stage, out)
        return
    former = out.with_name(f".{out.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    os.replace(out, former)
    try:
        os.replace(stage, out)
    except BaseException:
        os.replace(former, out)
        raise
    shutil.rmtree(former, ignore_errors=True)


def publishable(runs: pd.DataFrame) -> pd.DataFrame:
    """Cuts absolute folders out of reasons: a report is published, a home directory is not."""
    if "folder" not in runs.columns:
        runs = runs.assign(folder="")
    if "reason" not in runs.columns:
        return runs
    reasons = runs["reason"].fillna("").map(lambda text: _FOLDERS.sub("", text))
    return runs.assign(reason=reasons)
