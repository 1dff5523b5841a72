"""From a selection to the list of cells, and which of them are done."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from benchmark.core.answer_cache import kept
from benchmark.core.errors import UserError
from benchmark.core.selectors import did_you_mean, split_selectors
from benchmark.core.spec import Protocol, RunSpec, Weights, one_line
from benchmark.planning import plugins
from benchmark.planning.catalogue import (
    BENCHMARKS,
    DECODERS,
    METHODS,
    SUITES,
    build_method,
    method_label,
)


@dataclass(frozen=True)
class Selection:
    """What a user asked for; None = as the suite says.

    Attributes:
        suite: name of the suite.
        methods: comma list of names, globs and `name[field=value]`.
        benchmarks: comma list of names and globs.
        backbones: comma list of timm names.
        seeds: seeds to run.
        fractions: shares of the training images; one protocol each.
        protocol: protocol fields that differ from the suite's.
        weights: pretrained, or none for random ones.
    """

    suite: str = "demo"
    methods: str | None = None
    benchmarks: str | None = None
    backbones: str | None = None
    seeds: Sequence[int] | None = None
    fractions: Sequence[float | str] | None = None
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Weights = "pretrained"


def plan(selection: Selection) -> list[RunSpec]:
    """All cells of a selection, ordered so that a benchmark is decoded once.

    Raises:
        UserError: a name, a field or a value does not exist or does not fit.
    """
    suite = SUITES.get(selection.suite)
    changes = [{"fraction": share} for share in selection.fractions or ()] or [{}]
    protocols = [_protocol(suite.protocol, {**selection.protocol, **c}) for c in changes]
    # Whatever is the same for many cells is found out once: there may be ten thousand of them.
    settings = _settings(selection.methods or suite.methods)
    benchmarks = BENCHMARKS.select(selection.benchmarks or ",".join(suite.benchmarks))
    for name, params in benchmarks:
        if params:
            raise UserError(f"benchmark {name!r} takes no fields; write {name!r} alone")
    backbones = split_selectors(selection.backbones or ",".join(suite.backbones))
    _check_decoder(protocols[0].decoder)
    seeds = list(suite.seeds if selection.seeds is None else selection.seeds)
    versions = [(name, BENCHMARKS.get(name).version) for name, _ in benchmarks]
    cells = [
        RunSpec(
            suite=suite.name,
            benchmark=benchmark,
            benchmark_version=version,
            backbone=backbone,
            weights=selection.weights,
            method=method,
            method_label=label,
            method_params=params,
            seed=seed,
            protocol=protocol,
        )
        for benchmark, version in versions
        for backbone in dict.fromkeys(backbones)
        for protocol in protocols
        for seed in dict.fromkeys(seeds)
        for method, label, params in settings
    ]
    # A name and the same name with a field at its default are one cell.
    return list({cell.run_id: cell for cell in cells}.values())


def command(cell: RunSpec) -> str:
    """The command line that runs this one cell (folders of data and weights are the machine's)."""
    words = ["python", "-m", "benchmark", "run", "--suite", cell.suite]
    words += ["--benchmarks", cell.benchmark, "--backbones", cell.backbone]
    words += ["--methods", cell.method_label, "--seeds", str(cell.seed)]
    usual = SUITES.get(cell.suite).protocol.model_dump()
    for field, value in cell.protocol.model_dump().items():
        if value != usual[field]:
            words += ["--set", f"{field}={value}"]
    if cell.weights == "none":
        words += ["--weights", "none"]
    parts = (
        METHODS.get(cell.method),
        BENCHMARKS.get(cell.benchmark),
        DECODERS.get(cell.protocol.decoder),
    )
    for path in dict.fromkeys(filter(None, map(plugins.file_of, parts))):
        words += ["--plugin", str(path)]
    return shlex.join(words)


def _settings(text: str) -> list[list[Any]]:
    """Name, label and all fields of the selected methods."""

    def ask() -> list[list[Any]]:
        methods = [build_method(name, params) for name, params in METHODS.select(text)]
        return [[m.name, method_label(m), dataclasses.asdict(m)] for m in methods]

    return kept(f"methods {text}", "methods", ask)


def _check_decoder(name: str) -> None:
    kept(f"decoder {name}", "benchmark.models.decoders", lambda: bool(DECODERS.get(name)))


def _protocol(base: Protocol, changes: Mapping[str, Any]) -> Protocol:
    for field in changes:
        if field not in Protocol.model_fields:
            hint = did_you_mean(field, Protocol.model_fields)
            raise UserError(f"--set {field}: there is no such setting{hint}")
    try:
        return Protocol.model_validate(base.model_dump() | dict(changes))
    except ValidationError as error:
        raise UserError(one_line(error, "--set")) from error
