"""The report of a suite: tables, Pareto figures and a page, written whole or not at all."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.ablation import INSERTED, ablation, families
from benchmark.errors import UserError
from benchmark.reporting import page
from benchmark.reporting.tables import COLUMNS, Column, to_rich, write_table
from benchmark.statistics import (
    GROUP,
    failures,
    leaderboard,
    per_benchmark,
    per_class,
    split_groups,
)

if TYPE_CHECKING:
    from rich.console import Console

FIGURES = {
    "parameters": (
        "costs.params.total_trainable",
        "Trainable parameters, decoder included",
        "mIoU against trainable parameters",
    ),
    "stored": ("costs.stored.bytes", "Stored for one more task", "mIoU against stored bytes"),
    "train_time": ("costs.train.seconds", "Training time (s)", "mIoU against training time"),
    "latency": (
        "costs.infer.latency_ms_p50",
        "Median latency of one image (ms)",
        "mIoU against inference latency",
    ),
}
"""Name of the file: cost column, label of its axis, title."""

_TERMINAL = (
    "rank",
    "method",
    "metrics.miou",
    "ci95",
    "complete",
    "seeds",
    "costs.params.total_trainable",
    "costs.stored.bytes",
    "costs.train.seconds",
    "costs.infer.latency_ms_p50",
    "costs.train.peak_memory_bytes",
)
_OWN = {"README.md", "tables", "figures"}
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+")


def write_report(runs: pd.DataFrame, out: Path, title: str) -> list[Path]:
    """Writes tables, figures and a README of the runs; equal runs give equal bytes.

    The report is built in a hidden sibling of `out` and renamed into place, so a crash leaves the
    former report, or none, but never half of one.

    Args:
        runs: one row a record, as `load_results` returns it.
        out: folder of the report; a former report there is replaced.
        title: heading of the page, usually the suite.

    Returns:
        The files, in the order of writing.

    Raises:
        UserError: there are no runs, `out` holds something else than a report, or it cannot be
            written.
    """
    if runs.empty:
        raise UserError(
            f"no results for {title}: nothing to report; run `python -m benchmark run` first"
        )
    _check_replaceable(out)
    final = out.resolve()
    stage = final.with_name(f".{final.name}.new")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        files = _build(_without_folders(runs), stage, title)
        _swap(stage, final)
    except OSError as error:
        raise UserError(
            f"report folder {out} cannot be written ({error.strerror}); choose another"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [out / path.relative_to(stage) for path in files]


def print_report(runs: pd.DataFrame, console: "Console", classes: bool = False) -> None:
    """Prints leaderboard and mIoU per benchmark of each backbone, weights and protocol.

    Args:
        runs: one row a record.
        console: where to; 100 columns are enough for five benchmarks.
        classes: also print the IoU of each class of each benchmark.
    """
    if runs.empty:
        console.print("no results")
        return
    for key, part in split_groups(runs):
        name = ", ".join(key)
        board = leaderboard(part)
        columns = [column for column in COLUMNS if column.name in _TERMINAL]
        columns = [column for column in columns if column.name != "ci95" or board["ci95"].any()]
        columns.sort(key=lambda column: _TERMINAL.index(column.name))
        console.print(to_rich(board, columns, f"Leaderboard: {name}"), "")
        table, shown = benchmark_table(part)
        console.print(to_rich(table, shown, "mIoU per benchmark"), "")
        for benchmark in sorted(part["benchmark"].unique()) if classes else ():
            console.print(to_rich(*class_table(part, benchmark), f"IoU per class: {benchmark}"), "")
    missing = len(failures(runs))
    if missing:
        console.print(f"{missing} runs did not finish; the report says why.", highlight=False)


def class_table(runs: pd.DataFrame, benchmark: str) -> tuple[pd.DataFrame, list[Column]]:
    """IoU per class of a benchmark, and its columns."""
    table = per_class(runs, benchmark)
    known = [label for label in table.columns if label not in (*GROUP, "method")]
    return table, [Column("method", "Method"), *(Column(c, c, "points", "max") for c in known)]


def benchmark_table(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[Column]]:
    """MIoU per benchmark, with "failed" or "unsupported" where that is why there is none."""
    numbers, words = per_benchmark(runs), per_benchmark(runs, "status")
    names = [name for name in numbers.columns if name not in (*GROUP, "method")]
    table = numbers.astype({name: object for name in names})
    for name in words.columns.intersection(names):
        known = words[name].notna() & (words[name] != "done")
        table[name] = table[name].where(~known, words[name])
    if len(names) == 2:
        names.remove("average")
    columns = [Column("method", "Method")]
    return table, columns + [Column(name, name, "points", "max") for name in names]


def ablation_table(runs: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[Column]]:
    """The settings of one method, and the columns."""
    table = ablation(runs, name)
    edge = list(table.columns).index(INSERTED)
    fields = [c for c in table.columns[:edge] if c not in (*GROUP, "method")]
    columns = [Column("method", "Setting"), *(Column(f, f) for f in fields)]
    columns.append(Column(INSERTED, "Inserted", "count"))
    return table, columns + [Column(c, c, "points", "max") for c in table.columns[edge + 1 :]]


def _studies(runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, list[Column]]]:
    """The ablation tables that have a row."""
    tables = {name: ablation_table(runs, name) for name in families(runs)}
    return {name: pair for name, pair in tables.items() if not pair[0].empty}


def _build(runs: pd.DataFrame, stage: Path, title: str) -> list[Path]:
    groups = list(split_groups(runs))
    several = len(groups) > 1
    (stage / "tables").mkdir()
    (stage / "figures").mkdir()
    which = [Column(name, name.removesuffix("_hash").capitalize()) for name in GROUP]
    lead = which if several else []
    tables = stage / "tables"
    board, (table, columns) = leaderboard(runs), benchmark_table(runs)
    files = write_table(board, [*lead, *COLUMNS], tables / "leaderboard", GROUP)
    files += write_table(table, [*lead, *columns], tables / "per_benchmark", GROUP)
    for name in sorted(runs["benchmark"].unique()):
        classes, shown = class_table(runs, name)
        files += write_table(classes, [*lead, *shown], tables / f"per_class_{name}", GROUP)
    for name, (settings, shown) in _studies(runs).items():
        stem = tables / f"ablation_{_file_name(name)}"
        files += write_table(settings, [*lead, *shown], stem, GROUP)
    files += write_table(failures(runs), [*lead, *page.FAILURE_COLUMNS], tables / "failures")
    sections = []
    for key, part in groups:
        suffix = f"_{_file_name('_'.join(key))}" if several else ""
        figures = _draw_figures(part, sorted(runs["method"].unique()), key, stage, suffix)
        files += figures
        pngs = (path.relative_to(stage) for path in figures if path.suffix == ".png")
        images = {words: png for (*_, words), png in zip(FIGURES.values(), pngs, strict=True)}
        sections.append(page.Section(key, part, *benchmark_table(part), _studies(part), images))
    readme = stage / "README.md"
    text = page.render(title, runs, sections)
    readme.write_text(text, encoding="utf-8", newline="\n")
    return [*files, readme]


def _draw_figures(
    runs: pd.DataFrame, methods: list[str], key: tuple[str, ...], stage: Path, suffix: str
) -> list[Path]:
    # Matplotlib is slow to load, and a table in the terminal needs none of it.
    from benchmark.reporting.figures import method_styles, pareto_figure, save_figure

    styles = method_styles(methods)
    files = []
    for name, (column, label, title) in FIGURES.items():
        heading = f"{title}: {key[0]}, {page.WEIGHTS[key[1]]}"
        heading += f", protocol {key[2]}" if suffix else ""
        figure = pareto_figure(runs, column, label, heading, styles)
        files += save_figure(figure, stage / "figures" / f"pareto_{name}{suffix}")
    return files


def _check_replaceable(out: Path) -> None:
    """Refuses to replace a folder that this module did not write."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"report folder {out} is a file; choose another")
    strangers = sorted(item.name for item in out.iterdir() if item.name not in _OWN)
    readme = out / "README.md"
    ours = readme.is_file() and readme.read_text("utf-8", "replace").startswith(page.MARK)
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


def _without_folders(runs: pd.DataFrame) -> pd.DataFrame:
    """Cuts absolute folders out of reasons: a report is published, a home directory is not."""
    if "reason" not in runs.columns:
        return runs
    return runs.assign(reason=runs["reason"].fillna("").map(lambda text: _FOLDERS.sub("", text)))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.\-]+", "-", text)
