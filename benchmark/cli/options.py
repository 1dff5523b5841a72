"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

WHAT, HOW, WHERE = "What to run", "How", "Where"

Suite = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Suite (default: demo).", rich_help_panel=WHAT),
]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help=r"Methods: names, globs, name\[field=value,...]; a|b as a value runs both.",
        rich_help_panel=WHAT,
    ),
]
Benchmarks = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Benchmarks: names, globs.", rich_help_panel=WHAT),
]
Backbones = Annotated[
    str | None, typer.Option(metavar="LIST", help="Any timm names.", rich_help_panel=WHAT)
]
Seeds = Annotated[
    str | None, typer.Option(metavar="LIST", help="Seeds: 0,1,2.", rich_help_panel=WHAT)
]
Fraction = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Shares of the training images, stratified by class: 0.1,0.25,1.",
        rich_help_panel=WHAT,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Protocol field that differs from the suite's; repeatable.",
        rich_help_panel=HOW,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YAML with the same names; what is typed wins.",
        rich_help_panel=HOW,
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DIR|none",
        help="Pretrained weights' folder, or none for random ones (BENCHMARK_WEIGHTS).",
        rich_help_panel=WHERE,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Root of the benchmarks' files (BENCHMARK_DATA).",
        rich_help_panel=WHERE,
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Your own methods, benchmarks, decoders (.py) or set of images (.yaml); repeatable.",
        rich_help_panel=WHERE,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the results (default: results).", rich_help_panel=WHERE
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto (default), cpu, cuda, cuda:N.", rich_help_panel=WHERE),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Processes that cut training crops (default: 0; some with a GPU).",
        rich_help_panel=WHERE,
    ),
]
Jobs = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Cells that run side by side; auto: one a core with one thread, or one a GPU.",
        rich_help_panel=WHERE,
    ),
]
Compile = Annotated[
    str,
    typer.Option(
        "--compile",
        metavar="auto|always|never",
        help="torch.compile after a few steps: auto where earlier runs here say that it pays.",
        rich_help_panel=HOW,
    ),
]
Retry = Annotated[
    str | None,
    typer.Option(
        metavar="failed|oom|all",
        help="Run unsuccessful cells again: failed (also nan, timeout), oom, or all.",
        rich_help_panel=HOW,
    ),
]
Rerun = Annotated[
    str | None,
    typer.Option(
        metavar="stale",
        help="Run finished cells again whose code, data or weights have changed.",
        rich_help_panel=HOW,
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="N", min=0, help="Time that a cell may take (default: any).", rich_help_panel=HOW
    ),
]
Checkpoint = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Between checkpoints of a training (default: 60).",
        rich_help_panel=HOW,
    ),
]
Timing = Annotated[
    bool,
    typer.Option(
        "--timing",
        help="At the end, measure times of all methods side by side, as `timing` does.",
        rich_help_panel=HOW,
    ),
]
