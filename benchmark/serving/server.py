"""The service as processes: uvicorn with one, or several that it starts again when they die."""

import os
import socket
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError
from benchmark.serving.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

VARIABLE = "PETSEG_SERVICE"
"""Holds the settings, for processes that start with nothing else."""

BACKLOG = 1024
GRACE_SECONDS = 5
"""After the longest time of a request, for it to be answered when the service ends."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 = any free one.

    Raises:
        UserError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {host}, port {port} ({reason}); choose others with --host and --port"
        ) from error
    made.set_inheritable(True)
    return made


def serve(
    settings: Settings, listening: socket.socket, workers: int, ready: Callable[[], None]
) -> None:
    """Answers requests until a signal comes; those that were taken are answered first.

    Args:
        settings: of each process.
        listening: what `bind` returned.
        workers: processes.
        ready: called when requests will be answered.

    Raises:
        UserError: a task cannot be loaded.
    """
    import uvicorn

    options: dict[str, Any] = {
        "log_level": "error",  # what clients do wrong is in the metrics
        "access_log": False,
        "server_header": False,
        "backlog": BACKLOG,
        "timeout_graceful_shutdown": int(settings.limits.seconds) + GRACE_SECONDS,
    }
    if workers == 1:
        config = uvicorn.Config(_application(settings), **options)
        listening.listen(BACKLOG)
        ready()
        uvicorn.Server(config).run(sockets=[listening])
        return
    from benchmark.serving.metrics import SHARED

    host, port = listening.getsockname()[:2]
    listening.close()  # uvicorn binds it again, for all processes
    ready()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {VARIABLE: settings.model_dump_json(), SHARED: folder}
        factory = f"{__name__}:{from_environment.__name__}"
        uvicorn.run(factory, factory=True, host=host, port=port, workers=workers, **options)


def _application(settings: Settings) -> "FastAPI":
    from benchmark.serving.app import build

    return build(settings)


def from_environment() -> "FastAPI":
    """The application of a process that uvicorn started."""
    return _application(Settings.model_validate_json(os.environ[VARIABLE]))
