"""What verbs print to: a terminal with styles, a plain one, or a program that reads JSON."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

_PLAIN = {"TTY_COMPATIBLE": "0", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
"""What rich and typer read: nothing that they write is for a terminal."""


def settle(environ: MutableMapping[str, str] = os.environ) -> None:
    """Turns all escape sequences off where the environment asks for that.

    `NO_COLOR` (https://no-color.org) alone would leave bold text and moving bars, which are escape
    sequences, too. It wins over `FORCE_COLOR`. What the output's encoding lacks, such as a dash or
    a byte in the name of a file, is written as its number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    if environ.get("NO_COLOR") or environ.get("TERM") in ("dumb", "unknown"):
        environ.update(_PLAIN)


def print_json(document: Any) -> None:
    """Prints one JSON document. Its text is ASCII, so that any terminal takes it."""
    print(json.dumps(document, indent=2))


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Shows on a terminal what takes some seconds; elsewhere nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield


def training(protocol: Mapping[str, Any]) -> str:
    """How a protocol trains, in the shortest words."""
    return (
        f"{protocol['steps']} steps of {protocol['batch_size']} crops of {protocol['crop']} px, "
        f"{protocol['decoder']} decoder"
    )
