"""`check`: tests that methods keep their contract, and that decoders and benchmarks work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from methods.base import Method


@options.takes("data")
def check(
    request: "Request",
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|LIST", help="Your plug-in file (.py or .yaml), or names of methods."
        ),
    ],
    families: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Backbone families to test on, such as vit,swin (default: all)."
        ),
    ] = None,
) -> None:
    """Test that your plug-in behaves correctly.

    Exit code 0: all checks pass. 1: a check failed. 2: bad request or file.
    """
    from rich.console import Console

    from benchmark.data import available
    from benchmark.models.decoders import DECODERS
    from benchmark.planning.catalogue import METHODS, build_method
    from benchmark.planning.plugins import file_of, load_files
    from methods import METHODS as registered

    console, path = Console(), Path(what)
    decoders: list[str] = []
    benchmarks: list[str] = []
    if path.suffix.lower() in (".py", ".yaml", ".yml") or path.exists():
        load_files([path])
        # Not METHODS.names(): that would load a whole library for nothing.
        names, decoders, benchmarks = (
            [name for name, thing in known.items() if file_of(thing) == path]
            for known in (registered.loaded(), DECODERS, available())
        )
        if not (names or decoders or benchmarks):
            raise UserError(
                f"{path} registers no method, decoder or benchmark; add @register to yours, as in "
                "the README"
            )
        methods = [build_method(name, {}) for name in names]
    else:
        methods = [build_method(name, params) for name, params in METHODS.select(what)]
    chosen = _families(families)
    sound = [_method(console, method, chosen) for method in methods]
    if methods:
        _explain(console)
    sound += [_decoder(console, name, chosen) for name in decoders]
    sound += [_benchmark(console, name, request.data) for name in benchmarks]
    if not all(sound):
        raise typer.Exit(1)


def _families(text: str | None) -> list[str]:
    from benchmark.contract import FAMILIES
    from benchmark.core.selectors import did_you_mean

    names = [name.strip() for name in text.split(",") if name.strip()] if text else list(FAMILIES)
    for name in names:
        if name not in FAMILIES:
            raise UserError(f"unknown family {name!r}{did_you_mean(name, FAMILIES)}")
    return names


def _method(console: "Console", method: "Method", families: list[str]) -> bool:
    """Prints the table of one method: a row a check, a column a family."""
    from rich.table import Table
    from rich.text import Text

    from benchmark.contract import CHECKS, examine
    from benchmark.planning.catalogue import method_label

    verdicts = {family: examine(method, family) for family in families}
    table = Table(
        "check", *families, title=Text(method_label(method)), title_justify="left", box=None
    )
    for title in ("applies", *CHECKS):
        cells = []
        for family in families:
            verdict = verdicts[family]
            silent = verdict.refusal or "applies" in verdict.broken or title in verdict.unclaimed
            cells.append("BROKEN" if title in verdict.broken else "-" if silent else "ok")
        table.add_row(title, *cells)
    console.print(table)
    for family, verdict in verdicts.items():
        if verdict.refusal:
            _say(console, f"- {family}: refused: {verdict.refusal}")
        for title, problem in verdict.broken.items():
            _say(console, f"BROKEN {family}: {title}: {problem}")
    if all(verdict.refusal for verdict in verdicts.values()):
        _say(console, f"BROKEN {method_label(method)}: acts on none of these backbone families")
        return False
    return not any(verdict.broken for verdict in verdicts.values())


def _explain(console: "Console") -> None:
    """Prints once what each check asks for."""
    from benchmark.contract import CHECKS

    for title, ask in CHECKS.items():
        meaning = " ".join((ask.__doc__ or "").partition("\n\n")[0].split())
        console.print(f"{title}: {meaning}", style="dim", markup=False, highlight=False)


def _decoder(console: "Console", name: str, families: list[str]) -> bool:
    """Prints whether a decoder turns the features of each family into logits that learn."""
    from benchmark.contract.checks import decoder_problem

    problems = {family: decoder_problem(name, family) for family in families}
    for family, problem in problems.items():
        _say(console, f"decoder {name} on {family}: {f'BROKEN {problem}' if problem else 'ok'}")
    return not any(problems.values())


def _benchmark(console: "Console", name: str, data: Path | None) -> bool:
    """Prints whether a benchmark's splits decode and pass the audit."""
    from benchmark.data.base import SPLITS
    from benchmark.data.cache import open_split
    from benchmark.planning.catalogue import open_set

    sound = True
    for split in SPLITS:
        try:
            examples = open_split(open_set(name, data), split, scaled=split == "train")
            _say(console, f"benchmark {name}, {split}: ok, {len(examples)} images")
        except UserError as problem:
            _say(console, f"benchmark {name}, {split}: BROKEN {problem}")
            sound = False
    return sound


def _say(console: "Console", text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
