"""The README of a report: what was measured, how, on what, and what it does not show."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from benchmark.reporting.tables import COLUMNS, MISSING, Column, to_markdown
from benchmark.statistics import GROUP, cells, failures, leaderboard, shared_benchmarks

MARK = "<!-- written by petseg-bench; changes are lost with the next report -->"
"""First line of the page, by which a former report is known."""

WEIGHTS = {"pretrained": "pretrained weights", "none": "random weights"}

FAILURE_COLUMNS = (
    Column("benchmark", "Benchmark"),
    Column("method", "Method"),
    Column("seed", "Seed", "integer"),
    Column("status", "Status"),
    Column("reason", "Reason"),
    Column("command", "Run again with"),
)

_BOARD = {"costs.params.decoder", "costs.train.images_per_second", "ppt"}  # in the files only


_TIMING = {
    "device": "on several kinds of hardware",
    "threads": "with different numbers of threads",
}
"""What times depend on, and what to say where runs differ in it."""

_SAME: tuple[tuple[str, list[str], str], ...] = (
    ("weights_sha256", [], "weights under one backbone's name"),
    ("data_sha256", ["benchmark"], "data under one benchmark's name"),
    ("precision", [], "precisions"),
)
"""What must be equal within a group, or within its runs on one benchmark."""


@dataclass(frozen=True)
class Section:
    """What the page shows of one (backbone, weights, protocol_hash).

    Attributes:
        key: the three.
        runs: its records.
        table: mIoU per benchmark.
        columns: of that table.
        studies: by method, its settings side by side, and the columns.
        images: title and path of the figures, relative to the page.
    """

    key: tuple[str, str, str]
    runs: pd.DataFrame
    table: pd.DataFrame
    columns: Sequence[Column]
    studies: dict[str, tuple[pd.DataFrame, list[Column]]]
    images: dict[str, Path]


def render(title: str, runs: pd.DataFrame, sections: Sequence[Section]) -> str:
    """The page as Markdown.

    Args:
        title: heading.
        runs: all records.
        sections: one a group that is ranked on its own.
    """
    parts = [MARK, f"# {title}", _summary(runs), _about_seeds(runs)]
    if len(sections) > 1:
        parts.append(
            "Backbones, weights and protocols that differ are ranked apart; numbers of different "
            "sections are not comparable."
        )
    for section in sections:
        parts += _section(section, several=len(sections) > 1)
    parts += ["## Runs that did not finish", _failures(runs)]
    parts += ["## Protocol", _protocol(runs), "## Provenance", _provenance(runs)]
    parts.append(
        "All numbers are in [tables](tables) as CSV, Markdown and LaTeX, the IoU of each class "
        "too; the figures are in [figures](figures) as PNG and SVG."
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _summary(runs: pd.DataFrame) -> str:
    counts = [
        _count(runs[name].nunique(), word)
        for name, word in (
            ("method", "method"), ("backbone", "backbone"), ("benchmark", "benchmark"),
            ("seed", "seed"),
        )
    ]  # fmt: skip
    finished = int((runs["status"] == "done").sum())
    return f"{', '.join(counts)}; {finished} of {_count(len(runs), 'run')} finished."


def _about_seeds(runs: pd.DataFrame) -> str:
    seeds = cells(runs).loc[lambda table: table["status"] == "done", "seeds"]
    if seeds.empty:
        return "**No run finished, so there is nothing to compare.**"
    if seeds.min() == 1:
        some = "" if seeds.max() == 1 else " for some methods"
        return (
            f"**One seed{some}: no difference between methods is called significant.** Another "
            "seed moves every number, and may swap neighbours in the ranking."
        )
    return (
        f"{seeds.min()} seeds or more each; ± is the half width of the 95 % t interval over seeds. "
        "It tells how far another draw of seeds would move a mean. No test of differences is made "
        "here, so methods whose intervals overlap are not to be called different."
    )


def _section(section: Section, several: bool) -> list[str]:
    backbone, weights, protocol = section.key
    name = f" of {backbone}, {WEIGHTS[weights]}, protocol {protocol}" if several else ""
    board = leaderboard(section.runs)
    columns = [column for column in COLUMNS if column.name not in _BOARD]
    columns = [column for column in columns if column.name != "ci95" or board["ci95"].any()]
    text = (
        f"Backbone {backbone}, {WEIGHTS[weights]}. mIoU in points: mean over benchmarks of the "
        "mean over seeds; costs are means over benchmarks. Equal printed mIoU shares a rank. A "
        "method that did not finish every benchmark is listed without a rank. Bold: best of a "
        "column. Trainable parameters are inserted, tuned backbone and decoder together."
    )
    parts = [f"## Leaderboard{name}", text, to_markdown(board, columns)]
    shared = shared_benchmarks(section.runs)
    if board["rank"].isna().any() and shared:
        part = section.runs[section.runs["benchmark"].isin(shared)]
        parts += [
            f"## Leaderboard over {' and '.join(shared)}{name}",
            "Every method with a result finished these, so here all of them are ranked.",
            to_markdown(leaderboard(part), columns),
        ]
    parts += [f"## mIoU per benchmark{name}", to_markdown(section.table, section.columns)]
    for method, (table, fields) in section.studies.items():
        parts += [
            f"## Settings of {method}{name}",
            "Fields that differ, over the benchmarks that all of these settings finished.",
            to_markdown(table, fields),
        ]
    parts += [f"## Costs against mIoU{name}"]
    for words, image in section.images.items():
        parts.append(f"[![{words}]({image.as_posix()})]({image.with_suffix('.svg').as_posix()})")
    return parts


def _failures(runs: pd.DataFrame) -> str:
    table = failures(runs)
    if table.empty:
        return "None."
    columns = list(FAILURE_COLUMNS)
    if table["backbone"].nunique() > 1:
        columns.insert(0, Column("backbone", "Backbone"))
    return (
        to_markdown(table, columns)
        + "\nA failed run is tried again by the next `python -m benchmark run` of its suite; an "
        "unsupported one is not."
    )


def _protocol(runs: pd.DataFrame) -> str:
    """One column a protocol, so that what differs between two of them is seen side by side."""
    names = [name for name in runs.columns if name.startswith("protocol.")]
    table = pd.DataFrame({"setting": [name.removeprefix("protocol.") for name in names]})
    hashes = sorted(runs["protocol_hash"].unique())
    for number in hashes:
        rows = runs[runs["protocol_hash"] == number]
        table[number] = [_text(rows[name].iloc[0]) for name in names]
    columns = [Column("setting", "Setting"), *(Column(number, number) for number in hashes)]
    return to_markdown(table, columns)


def _provenance(runs: pd.DataFrame) -> str:
    def values(name: str) -> list[str]:
        column = f"provenance.{name}"
        return sorted({_text(value) for value in runs[column]}) if column in runs else []

    dates = sorted(text[:10] for text in values("started"))
    commits = sorted(
        {
            f"{_text(commit)[:12]}{' with uncommitted changes' if dirty is True else ''}"
            for commit, dirty in zip(
                _column(runs, "git_commit"), _column(runs, "git_dirty"), strict=True
            )
        }
    )
    packages = [name for name in runs.columns if name.startswith("provenance.packages.")]
    versions = [
        f"{name.removeprefix('provenance.packages.')} "
        f"{' / '.join(sorted({_text(value) for value in runs[name].dropna()}))}"
        for name in packages
    ]
    lines = {
        "Date": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else MISSING,
        "Commit": ", ".join(commits),
        "Hardware": "; ".join(values("device")),
        "Threads": ", ".join(values("threads")),
        "Precision": ", ".join(values("precision")),
        "System": "; ".join(values("platform")),
        "Python": ", ".join(values("python")),
        "Packages": ", ".join(versions),
        # A folder says nothing to a reader and may say too much of the author's machine.
        "Weights": ", ".join(sorted({PurePath(text).name for text in values("weights")})),
        "SHA-256 of weights": ", ".join(text[:12] for text in values("weights_sha256")),
    }
    text = "\n".join(f"- {name}: {text}" for name, text in lines.items())
    several = [words for name, words in _TIMING.items() if len(values(name)) > 1]
    if several:
        text += f"\n\n**Times were taken {' and '.join(several)}: compare them roughly.**"
    opened = "execution.opened_splits.test"
    if opened in runs and (often := int((runs[opened] > 1).sum())):
        text += (
            f"\n\n**{_count(often, 'run')} evaluated the test split more than once** (run again, "
            "or by `evaluate`); how often stands in the records."
        )
    for column, within, words in _SAME:
        name = f"provenance.{column}"
        if name not in runs:
            continue
        # Fingerprints of different schemes cannot be compared.
        found = runs[name].astype("string")
        scheme = found.str.extract(r"^(\w+):", expand=False).fillna("")
        if found.groupby([*(runs[key] for key in (*GROUP, *within)), scheme]).nunique().max() > 1:
            text += f"\n\n**Runs that are ranked together used different {words}: not comparable.**"
    return text


def _column(runs: pd.DataFrame, name: str) -> list[Any]:
    column = f"provenance.{name}"
    return runs[column].tolist() if column in runs else [None] * len(runs)


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    if value is None or value is pd.NA or value != value:
        return MISSING
    if str(value) in ("True", "False"):
        return "yes" if str(value) == "True" else "no"
    return f"{value:.12g}" if isinstance(value, (int, float)) else str(value)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
