"""What a verb was asked for: what is typed, over the configuration file, over the environment."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import one_line
from benchmark.core.yaml_file import read_mapping
from benchmark.planning import plugins
from benchmark.planning.plan import Selection


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


def resolve(config: Path | None = None, **typed: Any) -> Request:
    """Merges what is typed over the configuration file, and that over the environment.

    Plug-ins are loaded here, so that what they register can be selected.

    Args:
        config: YAML file, or None.
        **typed: the options of the verb by name; None where the user typed nothing.

    Raises:
        UserError: the file cannot be read, or an option does not exist or contradicts another.
    """
    variables = {"data": "BENCHMARK_DATA", "weights": "BENCHMARK_WEIGHTS"}
    options: dict[str, Any] = {
        key: os.environ[name]
        for key, name in variables.items()
        if key in typed and os.environ.get(name)
    }
    options |= _read_config(config) if config else {}
    protocol = options.get("set", {}) | _pairs(typed.get("set") or ())
    options |= {key: value for key, value in typed.items() if value is not None}
    for name, value in options.items():
        # Nothing must never stand for all that a suite holds.
        if (isinstance(value, str) and not value.strip()) or value == []:
            raise UserError(f"--{name} is empty; give it a value, or leave it out")
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
        results=_no_file("results", options.get("results") or "results"),
        data=_no_file("data", options["data"]) if options.get("data") else None,
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
        raise UserError(f"--seeds {text!r}: write whole numbers, as in 0,1,2")
    return seeds


def _fractions(text: str | None, protocol: Mapping[str, Any]) -> tuple[str, ...] | None:
    if text is None:
        return None
    if "fraction" in protocol:
        raise UserError("--fraction and --set fraction=... are the same option; keep one")
    # Whether they are numbers of the right range is for the protocol to say.
    fractions = tuple(part.strip() for part in text.split(",") if part.strip())
    if not fractions:
        raise UserError(f"--fraction {text!r}: write shares in (0, 1], as in 0.1,0.25,1")
    return fractions


def _no_file(name: str, text: str | Path) -> Path:
    """A folder, which need not exist yet."""
    path = Path(text)
    if path.is_file():
        raise UserError(f"--{name} {path}: is a file; name a folder")
    return path


def _folder(path: Path) -> Path:
    if path.is_file():
        raise UserError(f"--weights {path}: is a file; name the folder that holds it")
    if not path.is_dir():
        raise UserError(f"--weights {path}: no such folder; name one, or none for random weights")
    return path
