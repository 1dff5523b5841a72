"""Options that several verbs share, and the decorator that gives them to a verb."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

WHAT, HOW, WHERE = "What to run", "How", "Where"
how = functools.partial(typer.Option, rich_help_panel=HOW)
where = functools.partial(typer.Option, rich_help_panel=WHERE)

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result and errors, no progress.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

_METHODS = r"Methods: names, globs or name\[field=value,...]; write a|b to run both values."
_SUITE = "Suite: a named choice of benchmarks, backbones and settings (default: demo)."
_FRACTION = "Fractions of the training images, stratified by class: 0.1,0.25,1."
_SET = "Change a training setting of the suite, such as steps=400; repeatable."
_WEIGHTS = "Folder of pretrained weights (BENCHMARK_WEIGHTS), or none for random weights."
_PLUGIN = (
    "Your methods, benchmarks or decoders (.py), or your images described (.yaml); repeatable."
)
_SETTINGS = "File of the methods' settings, as `tune` writes it."
_WORKERS = "Processes that prepare training crops (default: 0; more with a GPU)."
_SHARED: dict[str, tuple[str, type, str, str]] = {
    "suite": (
        WHAT,
        str,
        "NAME",
        "Suite: benchmarks, backbones and settings (default: demo; own for your own sets).",
    ),
    "methods": (WHAT, str, "LIST", _METHODS),
    "benchmarks": (WHAT, str, "LIST", "Benchmarks: names or globs."),
    "backbones": (
        WHAT,
        str,
        "LIST",
        "Backbones: names in timm, or names and globs of weights files.",
    ),
    "seeds": (WHAT, str, "LIST", "Seeds of the random draws, as in 0,1,2."),
    "fraction": (WHAT, str, "LIST", _FRACTION),
    "settings": (WHAT, Path, "FILE", _SETTINGS),
    "set": (HOW, list[str], "FIELD=VALUE", _SET),
    "config": (HOW, Path, "FILE", "YAML file with these options; the command line overrides it."),
    "weights": (WHERE, list[str], "DIR|none", _WEIGHTS),
    "data": (WHERE, str, "DIR|URL", "Data folder, or its URL (BENCHMARK_DATA)."),
    "plugin": (WHERE, list[Path], "FILE", _PLUGIN),
    "results": (
        WHERE,
        str,
        "DIR|URL",
        "Results folder (default: results), or its URL, as s3://BUCKET/FOLDER.",
    ),
    "device": (WHERE, str, "NAME", "Device: auto (default), cpu, cuda or cuda:N."),
    "workers": (WHERE, int, "N", _WORKERS),
}
"""By name: panel of the help page, type, metavar, help. Each is None where it is not typed."""

ALL = tuple(_SHARED)


def takes(
    *names: str, finished: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb shared options, and their values as its first argument, a `Request`.

    Args:
        *names: of the options, in the order of the help page.
        finished: whether the verb is about finished runs: the suite is then that of the results.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def resolved(**typed: Any) -> None:
            from benchmark.cli.request import resolve
            from benchmark.core.selectors import UnknownName

            typed_here = {name: typed.pop(name) for name in names}
            request, sent = resolve(finished=finished, **typed_here), True
            try:
                verb(request, **typed)
            except UnknownName as error:
                from benchmark.planning.remembered import explain

                raise explain(error, request.results) from None
            finally:
                if request.url and "results" in names:
                    from benchmark.results import remote

                    sent = remote.finish(request.results)
            if not sent:
                raise typer.Exit(1)

        own = list(inspect.signature(verb).parameters.values())[1:]
        parameters = sorted(
            [*map(_parameter, names), *own], key=lambda one: one.default is not one.empty
        )
        # What typer reads.
        resolved.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        resolved.__annotations__ = {one.name: one.annotation for one in parameters}
        return resolved

    return decorate


def without(*names: str) -> tuple[str, ...]:
    """All shared options but these."""
    return tuple(name for name in ALL if name not in names)


def _parameter(name: str) -> inspect.Parameter:
    panel, kind, metavar, text = _SHARED[name]
    least = 0 if kind is int else None
    option = typer.Option(f"--{name}", metavar=metavar, help=text, min=least, rich_help_panel=panel)
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, option],
    )
