"""Options that several verbs share, and how they combine with a configuration file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark import plugins
from benchmark.errors import UserError, on_one_line
from benchmark.planner import Selection
from benchmark.registry import did_you_mean
from benchmark.spec import one_line
from benchmark.yamlfile import read_mapping

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
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Processes that share the cells, each with its part of the cores, or a GPU.",
        rich_help_panel=WHERE,
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


class ConfigFile(BaseModel):
    """What a configuration file may hold: the options by their names."""

    model_config = ConfigDict(extra="forbid")

    suite: str | None = None
    methods: str | list[str] | None = None
    benchmarks: str | list[str] | None = None
    backbones: str | list[str] | None = None
    seeds: int | str | list[int] | None = None
    fraction: float | str | list[float] | None = None
    set: dict[str, bool | int | float | str] = {}
    weights: str | list[str] | None = None
    data: str | None = None
    plugin: str | list[str] | None = None
    results: str | None = None
    device: str | None = None
    workers: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class Request:
    """The options of a verb after the configuration file was merged in."""

    selection: Selection
    results: Path
    data: Path | None
    weights: tuple[Path, ...]
    device: str
    workers: int | None


def resolve(config: Path | None, **typed: Any) -> Request:
    """Merges what is typed over the configuration file, and that over the environment.

    Plug-ins are loaded here, so that whatever follows can select what they register.

    Args:
        config: YAML file, or None.
        **typed: the options by name; None where the user typed nothing.

    Raises:
        UserError: the file cannot be read, or an option does not exist or contradicts another.
    """
    variables = {"data": "BENCHMARK_DATA", "weights": "BENCHMARK_WEIGHTS"}
    options: dict[str, Any] = {
        key: os.environ[name] for key, name in variables.items() if os.environ.get(name)
    }
    options |= _read_config(config) if config else {}
    protocol = options.get("set", {}) | _pairs(typed["set"] or ())
    options |= {key: value for key, value in typed.items() if value is not None}
    weights = _strings(options.get("weights"))
    if "none" in weights and len(weights) > 1:
        raise UserError(f"--weights {' '.join(weights)}: none contradicts a folder; keep one")
    random = weights == ["none"]
    plugins.load_files([Path(name) for name in _strings(options.get("plugin"))])
    text = {
        key: ",".join(_strings(options[key])) if options.get(key) is not None else None
        for key in ("methods", "benchmarks", "backbones", "seeds", "fraction")
    }
    return Request(
        Selection(
            suite=str(options.get("suite") or "demo"),
            methods=text["methods"],
            benchmarks=text["benchmarks"],
            backbones=text["backbones"],
            seeds=_seeds(text["seeds"]),
            fractions=_fractions(text["fraction"], protocol),
            protocol=protocol,
            weights="none" if random else "pretrained",
        ),
        results=Path(options.get("results") or "results"),
        data=Path(options["data"]) if options.get("data") else None,
        weights=() if random else tuple(_folder(Path(name)) for name in weights),
        device=options.get("device") or "auto",
        workers=options.get("workers"),
    )


def _read_config(path: Path) -> dict[str, Any]:
    content = read_mapping(path, f"--config {path}", "option names", "suite: demo")
    for key in content:
        if key not in ConfigFile.model_fields:
            hint = did_you_mean(str(key), ConfigFile.model_fields)
            raise UserError(f"--config {path}: unknown option {key!r}{hint}")
    try:
        return ConfigFile.model_validate(content).model_dump(exclude_none=True)
    except ValidationError as error:
        raise UserError(one_line(error, f"--config {path}")) from error
    except UnicodeEncodeError as error:  # half of a surrogate pair as a key
        raise UserError(f"--config {path}: {on_one_line(error)}") from error


def _strings(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not (field and equals and value):
            raise UserError(f"--set {text!r}: write FIELD=VALUE")
        if pairs.get(field, value) != value:
            raise UserError(f"--set {field} is given as {pairs[field]} and as {value}; keep one")
        pairs[field] = value
    return pairs


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text!r}: write whole numbers from 0 on, as in 0,1,2")
    return seeds


def _fractions(text: str | None, protocol: Mapping[str, Any]) -> tuple[str, ...] | None:
    if text is None:
        return None
    if "fraction" in protocol:
        raise UserError("--fraction and --set fraction=... say the same twice; keep one")
    # Whether they are numbers of the right range is for the protocol to say.
    fractions = tuple(part.strip() for part in text.split(",") if part.strip())
    if not fractions:
        raise UserError(f"--fraction {text!r}: write shares in (0, 1], as in 0.1,0.25,1")
    return fractions


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"--weights {path}: no such folder; name one, or none for random weights")
    return path
