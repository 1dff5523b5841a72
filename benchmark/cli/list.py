"""`list`: what there is to choose from."""

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from benchmark.cli.request import Request
    from benchmark.data.base import Benchmark
    from methods import Method


class What(StrEnum):
    """The kinds of things that can be listed."""

    methods = "methods"
    backbones = "backbones"
    benchmarks = "benchmarks"
    suites = "suites"


@options.takes("weights", "plugin")
def list_things(
    request: "Request",
    what: Annotated[What | None, typer.Argument(help="List only this kind, in detail.")] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Backbones: all timm names that match."),
    ] = None,
    counts: Annotated[
        bool,
        typer.Option("--counts", help="Also count parameters of library tuners (slower)."),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(metavar="BACKBONE", help="Methods: apply each to this backbone."),
    ] = None,
) -> None:
    """List methods, backbones, benchmarks and suites; name one kind for details."""
    from rich.console import Console

    if filter and what is not What.backbones:
        raise UserError("--filter needs backbones: `list backbones --filter GLOB`")
    if on and what is not What.methods:
        raise UserError("--on needs methods: `list methods --on BACKBONE`")
    folders = request.weights
    console = Console()
    if on:
        console.print(_applied(on, folders))
    elif what is None:
        tables = [_methods_in_short(), _backbones(filter, folders), _benchmarks_in_short()]
        console.print(*tables, _suites_in_short(), sep="\n")
        console.print(
            "Details: `python -m benchmark list methods|backbones|benchmarks|suites`",
            highlight=False,
        )
    elif what is What.methods:
        rows = _rows(counts)
        console.print(_methods(rows), _settings(rows), sep="\n")
    elif what is What.backbones:
        console.print(_backbones(filter, folders))
    else:
        console.print(_benchmarks() if what is What.benchmarks else _suites())


def _methods_in_short() -> "Table":
    """Methods with a name of their own, and the libraries, whose tuners take seconds to load."""
    from benchmark.core.answer_cache import kept

    def ask() -> list[list[str]]:
        from methods import METHODS

        own = [
            [
                name,
                " ".join((cls.__doc__ or "").partition("\n\n")[0].split()).rstrip(".:"),
            ]
            for name, cls in sorted(METHODS.loaded().items())
            if ":" not in name
        ]
        return own + [
            [f"{prefix}*", "Tuners of this library: `list methods`"]
            for prefix in METHODS.families()
        ]

    table = _table("methods", "name", "what it does")
    for row in kept("methods in short", "methods", ask):
        table.add_row(*row)
    return table


def _benchmarks_in_short() -> "Table":
    from benchmark.planning.catalogue import BENCHMARKS

    table = _table("benchmarks", "name", "domain", "classes", "files")
    for name in BENCHMARKS.names():
        cls = BENCHMARKS.get(name)
        table.add_row(name, cls.domain, str(len(cls.classes)), _files(cls))
    return table


def _files(cls: "type[Benchmark]") -> str:
    return f"BENCHMARK_DATA/{cls.folder}" if cls.folder else cls.origin


def _suites_in_short() -> "Table":
    from benchmark.planning.catalogue import SUITES

    table = _table("suites", "name", "about")
    for name in SUITES.names():
        table.add_row(name, SUITES.get(name).description)
    return table


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", title_style="bold", box=None)


class _Row(NamedTuple):
    """A method, as it is listed."""

    name: str
    kinds: list[bool]
    traits: list[bool]
    counted: str
    fields: str
    reference: str


def _rows(counts: bool) -> list[_Row]:
    """All methods; to ask them takes torch and peft, for seconds.

    Args:
        counts: also of those without a formula, which must be applied to be counted.
    """
    from benchmark.core.answer_cache import kept

    question = f"rows of the methods, {'all' if counts else 'formulas'} counted"
    return [_Row(*row) for row in kept(question, "methods", lambda: _asked(counts))]


def _asked(counts: bool) -> list[_Row]:
    from benchmark.planning.catalogue import METHODS

    counted = _Counter(counts)
    # Those with a name of their own before those of a library.
    names = sorted(METHODS.names(), key=lambda name: (":" in name, name))
    return [
        _Row(
            name,
            [kind in cls.supports for kind in ("plain", "hierarchical", "cnn")],
            [cls.keeps_structure, cls.mergeable, cls.identity_at_init],
            counted(cls),
            ",".join(f"{f.name}={f.default}" for f in dataclasses.fields(cls)),
            cls.reference,
        )
        for name, cls in ((name, METHODS.get(name)) for name in names)
    ]


def _methods(rows: list[_Row]) -> "Table":
    """The capability matrix: a kind is ticked where at least some backbones of it will do."""
    from rich.text import Text

    traits = ("keeps\nstructure", "merge-\nable", "identity\nat start")
    table = _table("methods", "name", "plain", "hierar-\nchical", "cnn", *traits, "on ViT-B")
    for row in rows:
        table.add_row(
            Text(row.name, no_wrap=True),
            *("yes" if holds else "-" for holds in (*row.kinds, *row.traits)),
            Text(row.counted, justify="right", no_wrap=True),
        )
    return table


def _applied(backbone: str, folders: "Sequence[Path]") -> "Table":
    """What each method of this collection trains in a backbone, or why it cannot act on it."""
    import copy

    import torch
    from rich.text import Text

    from benchmark.models.delta import adapted
    from benchmark.models.weights import build_backbone
    from methods import METHODS, Unsupported

    with torch.random.fork_rng(devices=[]):
        whole = build_backbone(backbone, "none", folders)
    table = _table(f"methods on {backbone} ({whole.kind})", "name", "trained", "which layers")
    for name, cls in sorted(METHODS.loaded().items()):
        if ":" in name:
            continue
        tuned = copy.deepcopy(whole)
        try:
            cls().apply(tuned, _Counter.CLASSES)
        except Unsupported as reason:
            table.add_row(name, "-", Text(f"unsupported: {reason}"))
            continue
        number = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
        layers, share = adapted(tuned)
        what = f"{share:.0%} of the weights in blocks: {layers}" if share is not None else ""
        table.add_row(name, f"{number:,}", Text(what))
    return table


def _settings(rows: list[_Row]) -> "Table":
    """Every method as a selector with the defaults of all its fields, to copy and change."""
    from rich.text import Text

    table = _table("settings", "all fields with their defaults")
    for row in rows:
        table.add_row(Text(f"{row.name}[{row.fields}]" if row.fields else row.name))
        table.add_row(Text(f"  {row.reference}", style="dim"))
    return table


class _Counter:
    """Parameters that a method trains in a ViT-B without values, as text."""

    NAME, CLASSES = "vit_base_patch16_224", 19

    def __init__(self, applied: bool) -> None:
        from benchmark.models.weights import architecture

        self._build, self._applied = architecture, applied
        self._pristine = architecture(self.NAME)

    def __call__(self, cls: "type[Method]") -> str:
        from methods import Unsupported

        method = cls()
        try:
            number = method.count(self._pristine, self.CLASSES)
            if number is None and not self._applied:
                return ""
            if number is None:
                backbone = self._build(self.NAME)
                with next(backbone.model.parameters()).device:
                    method.apply(backbone, self.CLASSES)
                number = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
        except (Unsupported, ValueError, NotImplementedError, RuntimeError):
            # Some tuners compute with values, which this backbone does not have.
            return "?"
        return f"{number:,}"


def _benchmarks() -> "Table":
    from rich.text import Text

    from benchmark.planning.catalogue import BENCHMARKS

    table = _table("benchmarks", "name", "domain", "classes", "files", "licence")
    for name in BENCHMARKS.names():
        cls = BENCHMARKS.get(name)
        more = ", ..." if len(cls.classes) > 12 else ""
        classes = f"{len(cls.classes)}: {', '.join(cls.classes[:12])}{more}"
        table.add_row(name, cls.domain, Text(classes), _files(cls), Text(cls.licence))
    return table


def _suites() -> "Table":
    from benchmark.planning.catalogue import SUITES

    table = _table("suites", "name", "benchmarks", "backbones", "methods", "about")
    for name in SUITES.names():
        suite = SUITES.get(name)
        table.add_row(
            name,
            ", ".join(suite.benchmarks) or "your own",
            ", ".join(suite.backbones) or f"the first here of {', '.join(suite.candidates)}",
            suite.methods.replace(",", ", "),
            suite.description,
        )
    return table


def _backbones(filter: str | None, weights: "Sequence[Path]") -> "Table":
    from benchmark.models.find_weights import PACKAGED

    if filter:
        import timm

        table = _table(f"timm backbones like {filter}", "name", "pretrained weights in the hub")
        for name in timm.list_models(filter):
            tags = ", ".join(timm.list_pretrained(f"{name}.*")[:4])
            table.add_row(name, tags)
        return table
    table = _table("backbones with weights on this disk (any timm name works)", "name", "file")
    for folder in (*weights, PACKAGED):
        for path in sorted(folder.glob("*.safetensors")):
            table.add_row(path.stem, "in the package" if folder == PACKAGED else str(path))
    return table
