"""`serve`: trained tasks as an HTTP service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from benchmark.cli.request import Request
    from benchmark.serving.settings import Limits

_LIMITS = "Limits"
_PACKAGES = ("fastapi", "uvicorn", "multipart", "prometheus_client")


@options.takes("results", "weights", "device", "plugin")
def serve(
    request: "Request",
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN", help="Run ids, or folders of runs; called after their benchmarks."
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME=RUN", help="A task under a name; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port; 0: any free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Requests must carry the token in this file (needed off loopback)."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes, each with all tasks (default: 1)."),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, rich_help_panel=_LIMITS, help="Images that pass together."
        ),
    ] = 8,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", rich_help_panel=_LIMITS, help="Largest request.")
    ] = "20MB",
    max_pixels: Annotated[
        str, typer.Option(metavar="N", rich_help_panel=_LIMITS, help="Largest image.")
    ] = "16M",
    queue: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=_LIMITS, help="Requests at a time.")
    ] = 64,
    max_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=3600,
            rich_help_panel=_LIMITS,
            help="Longest time of a request.",
        ),
    ] = 30.0,
) -> None:
    """Serve trained tasks over HTTP, all on one frozen backbone.

    POST an image to /v1/tasks/NAME:predict; the answer is a PNG of class indices, or run lengths in
    JSON. A web page at / does the same. /v1/tasks lists tasks and classes; /health and /metrics are
    for programs that watch.

    Needs the extra `serve`. Ctrl-C and SIGTERM answer what was taken, then end.
    """
    import importlib.util

    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"serve needs packages that are not installed ({', '.join(missing)}); "
            "pip install 'petseg-bench[serve]'"
        )
    from benchmark.planning import plugins
    from benchmark.serving.server import bind
    from benchmark.serving.server import serve as run
    from benchmark.serving.settings import Settings, is_loopback, read_token

    if not (runs or names):
        raise UserError("no task; name runs, as in `serve 3f2a`, or --name streets=3f2a")
    if not is_loopback(host) and token_file is None:
        raise UserError(
            f"--host {host} is reached from other machines, so --token-file FILE is needed"
        )
    token = read_token(token_file) if token_file else ""
    tasks = _tasks(runs or [], names or [], request.results)
    local = ("localhost", "127.0.0.1", "::1", host)
    settings = Settings(
        tasks=tasks,
        results=request.results,
        weights=request.weights or None,
        device=request.device,
        plugins=tuple(plugins.loaded()),
        limits=_limits(max_body, max_pixels, queue, max_seconds, batch),
        token=token,
        hosts=() if token else local,
        threads=_threads(workers or 1),
    )
    with bind(host, port) as listening:
        number = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        text = f"serving {', '.join(tasks)} on http://{shown}:{number}; Ctrl-C ends it"
        run(settings, listening, workers or 1, lambda: print(text, flush=True))


def _tasks(runs: list[str], names: list[str], results: Path) -> dict[str, str]:
    """Run by the name of its task; a run that is not named is called after its benchmark.

    Raises:
        UserError: a name is no name, or is given twice.
    """
    import re

    from benchmark.inference.find import find_run

    given = []
    for text in names:
        name, equals, run = text.partition("=")
        if not (name and equals and run):
            raise UserError(f"--name {text!r}: write NAME=RUN, as in streets=3f2a")
        given.append((name, run))
    found = {run: find_run(run, results) for run in [*(run for _, run in given), *runs]}
    given += [(found[run].record.benchmark, run) for run in runs]
    tasks: dict[str, str] = {}
    for name, run in given:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"task {name!r}: use letters, digits, '-', '_' and '.' in its name")
        if name in tasks:
            raise UserError(
                f"two tasks are called {name!r} ({tasks[name]} and {run}); name one with "
                "--name NAME=RUN"
            )
        tasks[name] = run
    return tasks


def _limits(body: str, pixels: str, queue: int, seconds: float, batch: int) -> "Limits":
    from benchmark.core.quantity import BYTES, COUNTS, quantity
    from benchmark.serving.settings import Limits

    return Limits(
        body=int(quantity(body, BYTES, "--max-body", "20MB")),
        pixels=int(quantity(pixels, COUNTS, "--max-pixels", "16M")),
        queue=queue,
        seconds=seconds,
        batch=batch,
    )


def _threads(workers: int) -> int | None:
    """Of each process, so that together they do not want more cores than there are."""
    import os

    return None if workers == 1 else max(1, (os.cpu_count() or 1) // workers)
