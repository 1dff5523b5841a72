"""The folder of the cache, and how large it may grow."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UserError

FOLDER, LIMIT = "BENCHMARK_CACHE", "BENCHMARK_CACHE_LIMIT"
"""Environment variables: where (a folder, or none), and at most how much (GiB)."""


USUAL_LIMIT = "64"


@dataclass(frozen=True)
class CacheFolder:
    """Where decoded splits are kept.

    Attributes:
        folder: None = nowhere.
        limit: bytes that all entries together may take.
    """

    folder: Path | None
    limit: int


def cache_folder() -> CacheFolder:
    """The cache that the environment names.

    Raises:
        UserError: the limit is no number.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "petseg-bench"
    name = os.environ.get(FOLDER) or str(usual)
    text = os.environ.get(LIMIT) or USUAL_LIMIT
    try:
        limit = float(text)
        if not limit >= 0:
            raise ValueError
    except ValueError:
        raise UserError(f"{LIMIT}={text!r}: write a number of GiB, as in 20") from None
    most = int(min(limit * 2**30, float(2**62)))
    return CacheFolder(None if name == "none" else Path(name), most)
