"""The way to a Ray cluster, and to what it keeps for a results folder."""

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from benchmark.core.errors import UserError

NAMESPACE = "petseg"
KNOCK_SECONDS = 5.0


def module() -> Any:
    """Ray.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "--executor ray: Ray is not installed; python -m pip install 'petseg-bench[ray]'"
        ) from None
    return ray


def actor_name(results: Path) -> str:
    """Of the actor that keeps a folder's cells."""
    return f"petseg-{hashlib.sha256(os.fsencode(results.absolute())).hexdigest()[:12]}"


def connect(address: str | None) -> None:
    """Joins a cluster, or starts one of this machine; does nothing where that was done.

    Raises:
        UserError: there is no cluster at the address.
    """
    ray = module()
    if ray.is_initialized():
        return
    # A worker that starts must not look for a package of its own.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "namespace": NAMESPACE}
    try:
        _knock(address)
        ray.init(address=address or "local", **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there; start one with `ray start --head`,"
            " or leave out --address"
        ) from error


def _knock(address: str | None) -> None:
    """Raises OSError where nothing listens; Ray itself asks for minutes."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def alive(address: str, name: str) -> set[str]:
    """Keys of the cells that a folder's actor still keeps; empty where there is none.

    Raises:
        UserError: no cluster answers.
    """
    connect(address)
    ray = module()
    try:
        keeper = ray.get_actor(name)
    except ValueError:
        return set()
    return set(ray.get(keeper.keys.remote()))
