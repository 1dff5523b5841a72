"""From a selection to the list of cells, and which of them are done."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.core.answer_cache import kept
from benchmark.core.errors import UserError
from benchmark.core.record import PluginKind
from benchmark.core.selectors import did_you_mean, split_selectors
from benchmark.core.spec import Protocol, RunSpec, Weights, one_line
from benchmark.models.find_weights import expand
from benchmark.planning import plugins
from benchmark.planning.catalogue import (
    BENCHMARKS,
    DECODERS,
    METHODS,
    SUITES,
    build_method,
    method_label,
)
from benchmark.planning.own_sets import backbones_of, benchmarks_of
from benchmark.planning.settings import Settings


@dataclass(frozen=True)
class Selection:
    """What a user asked for; None = as the suite says.

    Attributes:
        suite: name of the suite.
        methods: comma list of names, globs and `name[field=value]`.
        benchmarks: comma list of names and globs.
        backbones: comma list of timm names, and of globs over the weights files that are here.
        seeds: seeds to run.
        fractions: shares of the training images; one protocol each.
        protocol: protocol fields that differ from the suite's.
        weights: pretrained, or none for random ones.
        settings: fields of the methods that `tune` chose, by backbone.
    """

    suite: str = "demo"
    methods: str | None = None
    benchmarks: str | None = None
    backbones: str | None = None
    seeds: Sequence[int] | None = None
    fractions: Sequence[float | str] | None = None
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Weights = "pretrained"
    settings: Settings | None = None


def plan(selection: Selection, dirs: Sequence[Path] = ()) -> list[RunSpec]:
    """All cells of a selection, ordered so that a benchmark is decoded once.

    Args:
        selection: what a user asked for.
        dirs: folders of weights, for suites that take the backbone whose weights are there.

    Raises:
        UserError: a name, a field or a value does not exist or does not fit.
    """
    suite = SUITES.get(selection.suite)
    changes = [{"fraction": share} for share in selection.fractions or ()] or [{}]
    protocols = [_protocol(suite.protocol, {**selection.protocol, **c}) for c in changes]
    # Whatever is the same for many cells is found out once: there may be ten thousand of them.
    chosen = selection.settings
    methods = selection.methods or (",".join(chosen.labels()) if chosen else suite.methods)
    settings = _settings(methods)
    benchmarks = BENCHMARKS.select(selection.benchmarks or ",".join(benchmarks_of(suite)))
    for name, params in benchmarks:
        if params:
            raise UserError(f"benchmark {name!r} takes no fields; write {name!r} alone")
    backbones = expand(
        split_selectors(selection.backbones or "")
        or list(backbones_of(suite, selection.weights, dirs)),
        dirs,
    )
    tuned = {name: _tuned(settings, selection, name) if chosen else settings for name in backbones}
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
            tuning=chosen.tuning if chosen else None,
        )
        for benchmark, version in versions
        for backbone in dict.fromkeys(backbones)
        for protocol in protocols
        for seed in dict.fromkeys(seeds)
        for method, label, params in tuned[backbone]
    ]
    # A name and the same name with a field at its default are one cell.
    return list({cell.run_id: cell for cell in cells}.values())


def command(cell: RunSpec, seeds: Sequence[int] | None = None) -> str:
    """The command line that runs a cell (folders of data and weights are the machine's).

    Args:
        cell: which.
        seeds: to run in place of its own.
    """
    words = ["python", "-m", "benchmark", "run", "--suite", cell.suite]
    words += ["--benchmarks", cell.benchmark, "--backbones", cell.backbone]
    words += ["--methods", cell.method_label]
    words += ["--seeds", ",".join(map(str, [cell.seed] if seeds is None else seeds))]
    usual = SUITES.get(cell.suite).protocol.model_dump()
    for field, value in cell.protocol.model_dump().items():
        if value != usual[field]:
            words += ["--set", f"{field}={value}"]
    if cell.weights == "none":
        words += ["--weights", "none"]
    for path in dict.fromkeys(plugin_files(cell).values()):
        words += ["--plugin", str(path)]
    return shlex.join(words)


def plugin_files(cell: RunSpec) -> dict[PluginKind, Path]:
    """The plug-in files, as typed, that a cell takes its method, benchmark or decoder from."""
    parts: dict[PluginKind, object] = {
        "method": METHODS.get(cell.method),
        "benchmark": BENCHMARKS.get(cell.benchmark),
        "decoder": DECODERS.get(cell.protocol.decoder),
    }
    found = {kind: plugins.file_of(part) for kind, part in parts.items()}
    return {kind: path for kind, path in found.items() if path is not None}


def _settings(text: str) -> list[list[Any]]:
    """Name, label and all fields of the selected methods."""

    def ask() -> list[list[Any]]:
        methods = [build_method(name, params) for name, params in METHODS.select(text)]
        return [[m.name, method_label(m), dataclasses.asdict(m)] for m in methods]

    return kept(f"methods {text}", "methods", ask)


def _tuned(settings: list[list[Any]], selection: Selection, backbone: str) -> list[list[Any]]:
    """The selected methods with the fields that were chosen on a backbone."""
    chosen = selection.settings
    assert chosen is not None
    if chosen.weights != selection.weights:
        raise UserError(
            f"--settings was chosen with --weights {chosen.weights}, which is not what is run; "
            "tune again, or run with the same weights"
        )
    texts = []
    for name, label, own in settings:
        typed = label.removeprefix(name).strip("[]")
        # A method without fields has one setting, so that there is nothing to tune.
        found = chosen.fields(backbone, label) if own else {}
        fields = [f"{field}={value}" for field, value in found.items()]
        texts.append(f"{name}[{','.join(filter(None, [typed, *fields]))}]")
    return _settings(",".join(texts))


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
