"""`list`: what there is to choose from."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from benchmark.cli.listing import Row
    from benchmark.cli.request import Request

LEGEND = (
    "plain, hierarchical, cnn: kinds of backbone that the method works on, at least some of each.",
    "blocks unchanged: the frozen layers are computed as in the frozen backbone; nothing inside "
    "them is replaced or fed extra tokens.",
    "mergeable: what was learnt can be folded into the weights, so inference costs nothing more.",
    "same at start: before the first step the network computes what the frozen one does.",
    "on ViT-B: parameters trained, without the decoder.",
)
"""Of the columns of the methods."""


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
        typer.Option(metavar="GLOB", help="With backbones: all timm names that match."),
    ] = None,
    counts: Annotated[
        bool,
        typer.Option(
            "--counts", help="With methods: count the parameters of library tuners, too (slower)."
        ),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(metavar="BACKBONE", help="With methods: what each trains in this backbone."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List methods, backbones, benchmarks and suites; name one kind for details."""
    from benchmark.cli import terminal

    if filter and what is not What.backbones:
        raise UserError("--filter needs backbones: `list backbones --filter GLOB`")
    if on and what is not What.methods:
        raise UserError("--on needs methods: `list methods --on BACKBONE`")
    if counts and what is not What.methods:
        raise UserError("--counts needs methods: `list methods --counts`")
    for name, text in (("--filter", filter), ("--on", on)):
        if text is not None and not text.strip():
            raise UserError(f"{name} is empty; give it a value, or leave it out")
    with terminal.busy("looking at what there is"):
        found = _found(request, what, filter, counts, on)
    if as_json:
        terminal.print_json(found)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if on:
        console.print(_applied(found))
    elif filter:
        console.print(_timm(filter, found["backbones"]))
    elif what is What.methods:
        rows = found["methods"]
        console.print(_methods(rows, counts), *LEGEND, _settings(rows), sep="\n")
    else:
        tables = {
            "methods": _methods_in_short,
            "backbones": _backbones,
            "benchmarks": _benchmarks if what else _benchmarks_in_short,
            "suites": _suites if what else _suites_in_short,
        }
        console.print(*(tables[kind](rows) for kind, rows in found.items()), sep="\n")
    if what is None:
        console.print("Details: `python -m benchmark list methods|backbones|benchmarks|suites`")


def _found(
    request: "Request", what: What | None, filter: str | None, counts: bool, on: str | None
) -> dict[str, Any]:
    """What is asked for, as `--json` prints it."""
    from benchmark.cli import listing

    found: dict[str, Any] = {}
    if on:
        found |= listing.methods_on(on, request.weights)
    elif what is What.methods:
        found["methods"] = listing.methods(counts)
    elif what is None:
        found["methods"] = listing.methods_in_short()
    if filter:
        found["backbones"] = listing.timm_backbones(filter)
        if not found["backbones"]:
            raise UserError(f"no backbone of timm matches {filter!r}; try --filter '*{filter}*'")
    elif what in (None, What.backbones):
        found["backbones"] = listing.backbones(request.weights)
    if what in (None, What.benchmarks):
        found["benchmarks"] = listing.benchmarks()
    if what in (None, What.suites):
        found["suites"] = listing.suites()
    return found


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for number, column in enumerate(columns):
        # Whole, however narrow the terminal: names and paths are copied from here.
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    return table


def _filled(title: str, columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> "Table":
    from rich.text import Text

    table = _table(title, *columns)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _methods_in_short(rows: "Sequence[Row]") -> "Table":
    cells = [(row["name"], row["about"]) for row in rows]
    return _filled("methods", ("name", "what it does"), cells)


def _backbones(rows: "Sequence[Row]") -> "Table":
    title = "backbones with weights on this disk (any timm name works)"
    cells = [(row["name"], "in the package" if row["packaged"] else row["file"]) for row in rows]
    return _filled(title, ("name", "file"), cells)


def _timm(pattern: str, rows: "Sequence[Row]") -> "Table":
    cells = [(row["name"], ", ".join(row["weights"][:4])) for row in rows]
    columns = ("name", "pretrained weights in the hub")
    return _filled(f"timm backbones like {pattern}", columns, cells)


def _benchmarks_in_short(rows: "Sequence[Row]") -> "Table":
    cells = [(row["name"], row["domain"], str(len(row["classes"])), _files(row)) for row in rows]
    return _filled("benchmarks", ("name", "domain", "classes", "files"), cells)


def _benchmarks(rows: "Sequence[Row]") -> "Table":
    cells = [
        (row["name"], row["domain"], _classes(row["classes"]), _files(row), row["licence"])
        for row in rows
    ]
    return _filled("benchmarks", ("name", "domain", "classes", "files", "licence"), cells)


def _classes(names: "Sequence[str]") -> str:
    return f"{len(names)}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def _files(row: "Row") -> str:
    return f"BENCHMARK_DATA/{row['folder']}" if row["folder"] else str(row["origin"])


def _suites_in_short(rows: "Sequence[Row]") -> "Table":
    cells = [(row["name"], row["description"]) for row in rows]
    return _filled("suites", ("name", "about"), cells)


def _suites(rows: "Sequence[Row]") -> "RenderableType":
    """A block a suite: its lists are too long for the columns of one table."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from benchmark.cli import terminal

    blocks: list[RenderableType] = []
    for row in rows:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        candidates = f"the first that is here of {', '.join(row['candidates'])}"
        for heading, text in (
            ("benchmarks", ", ".join(row["benchmarks"]) or "your own"),
            ("backbones", ", ".join(row["backbones"]) or candidates),
            ("methods", row["methods"].replace(",", ", ")),
            ("seeds", ", ".join(map(str, row["seeds"]))),
            ("training", terminal.training(row["protocol"])),
        ):
            table.add_row(heading, Text(text))
        title = Text.assemble((row["name"], "bold"), f": {row['description']}")
        blocks += [title, Padding(table, (0, 0, 0, 2))]
    return Group(*blocks)


def _methods(rows: "Sequence[Row]", counted: bool) -> "Table":
    """The capability matrix: a kind is ticked where at least some backbones of it will do."""
    from rich.text import Text

    kinds, traits = ("plain", "hierarchical", "cnn"), ("keeps_structure", "mergeable")
    headings = ("plain", "hierar-\nchical", "cnn", "blocks\nunchanged", "merge-\nable")
    table = _table("methods", "name", *headings, "same\nat start", "on ViT-B")
    for row in rows:
        ticks = [kind in row["supports"] for kind in kinds]
        ticks += [row[trait] for trait in (*traits, "identity_at_init")]
        number = row["trained_on_vit_b"]
        text = f"{number:,}" if number is not None else "?" if counted else ""
        table.add_row(
            Text(row["name"]),
            *("yes" if tick else "-" for tick in ticks),
            Text(text, justify="right", no_wrap=True),
        )
    return table


def _settings(rows: "Sequence[Row]") -> "Table":
    """Every method as a selector with the defaults of all its fields, to copy and change."""
    from rich.text import Text

    table = _table("settings", "all fields with their defaults")
    table.columns[0].no_wrap = False
    for row in rows:
        fields = ",".join(f"{name}={value}" for name, value in row["settings"].items())
        table.add_row(Text(f"{row['name']}[{fields}]" if fields else row["name"]))
        table.add_row(Text(f"  {row['reference']}", style="dim"))
    return table


def _applied(found: "Row") -> "RenderableType":
    title = f"methods on {found['backbone']} ({found['kind']}), {found['classes']} classes"
    cells = []
    for row in found["methods"]:
        if row["unsupported"]:
            cells.append((row["name"], "-", f"unsupported: {row['unsupported']}"))
            continue
        share = row["share"]
        which = "" if share is None else f"{share:.0%} of the weights in blocks: {row['layers']}"
        cells.append((row["name"], f"{row['trained']:,}", which))
    return _filled(title, ("name", "trained", "which layers"), cells)
