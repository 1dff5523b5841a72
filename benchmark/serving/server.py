"""The service as processes: uvicorn with one, or several that it starts again when they die."""

import contextlib
import os
import socket
import tempfile
from typing import TYPE_CHECKING

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


def serve(settings: Settings, listening: socket.socket, workers: int) -> None:
    """Answers requests until a signal comes; those that were taken are answered first.

    Args:
        settings: of each process.
        listening: what `bind` returned.
        workers: processes.

    Raises:
        UserError: a task cannot be loaded.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    with contextlib.ExitStack() as stack:
        if workers > 1:
            from benchmark.serving.metrics import SHARED

            os.environ[VARIABLE] = settings.model_dump_json()
            os.environ[SHARED] = stack.enter_context(tempfile.TemporaryDirectory())
        config = uvicorn.Config(
            f"{__name__}:from_environment" if workers > 1 else _application(settings),
            factory=workers > 1,
            workers=workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.limits.seconds) + GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        if workers > 1:
            Multiprocess(config, target=server.run, sockets=[listening]).run()
        else:
            server.run(sockets=[listening])


def _application(settings: Settings) -> "FastAPI":
    from benchmark.serving.app import build

    return build(settings)


def from_environment() -> "FastAPI":
    """The application of a process that uvicorn started."""
    return _application(Settings.model_validate_json(os.environ[VARIABLE]))
