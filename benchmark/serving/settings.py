"""What a service is and what it bears."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from benchmark.core.errors import UserError

SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096
"""Characters; a shorter one could be guessed, and a longer one is another file."""


class Limits(BaseModel):
    """How much is taken at once; what is beyond is refused, and the service goes on."""

    model_config = ConfigDict(frozen=True)

    body: int = Field(20_000_000, ge=1)  # bytes of a request: 413
    pixels: int = Field(16_000_000, ge=1)  # of an image, by its header: 413
    queue: int = Field(64, ge=1)  # requests that are read, wait or compute: 503
    seconds: float = Field(30.0, gt=0)  # of a request, from its header to its answer: 504
    batch: int = Field(8, ge=1)  # images that pass the backbone together


class Settings(BaseModel):
    """All that a process of the service needs to begin.

    Attributes:
        tasks: run of each task, by the task's name.
        results: the results folder that run ids are looked up in.
        weights: folders with pretrained weights; None = that of `BENCHMARK_WEIGHTS`.
        device: where tasks compute.
        plugins: files to load first.
        limits: of requests.
        token: that requests must carry; "" = none.
        hosts: names that a request may call the server by; empty = any.
        threads: of torch; None = one a core.
    """

    model_config = ConfigDict(frozen=True)

    tasks: dict[str, str]
    results: Path = Path("results")
    weights: tuple[Path, ...] | None = None
    device: str = "auto"
    plugins: tuple[Path, ...] = ()
    limits: Limits
    token: str = ""
    hosts: tuple[str, ...] = ()
    threads: int | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        UserError: the file cannot be read, or holds no token.
    """
    try:
        with path.open("rb") as file:
            token = file.read(LONGEST_TOKEN + 1).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not plain text"
        raise UserError(f"--token-file {path}: {reason}; name a file that holds a token") from error
    fits = SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN
    if not fits or not token.isprintable() or " " in token:
        raise UserError(
            f"--token-file {path}: holds no token of {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters; "
            f"make one with `python -c 'import secrets; print(secrets.token_urlsafe())' > {path}`"
        )
    return token
