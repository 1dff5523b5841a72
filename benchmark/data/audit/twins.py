"""Near-duplicates among image files, found once: the answer is kept in the cache."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmark.core.cache_folder import cache_folder
from benchmark.core.errors import UserError
from benchmark.core.files import write_atomic
from benchmark.core.machine import cores
from benchmark.data.audit import near_duplicates
from benchmark.data.audit.near_duplicates import Alike, Look, alike, look
from benchmark.data.base import SPLITS, Benchmark
from benchmark.data.examples import digests_of
from benchmark.data.palette import as_rgb

Progress = Callable[[int, int], None]
"""Called with the number of images read, and of all."""

MOST = 30_000
"""Images that are compared before a run; twice as many take four times as long."""

_FOUND: dict[str, Alike] = {}
_NO_LABEL = np.zeros((1, 1), np.uint8)


@functools.singledispatch
def twins_of(benchmark: Benchmark, progress: Progress | None = None) -> Alike | None:
    """Which images of all splits of a user's own set are the same, or nearly so.

    A kind of benchmark that can read images without their labels registers its own way.

    Args:
        benchmark: whose images.
        progress: called while images are read.

    Returns:
        None where nobody looks: published sets, whose splits are what they are; generated images;
        more than `MOST` images.
    """
    if benchmark.folder is not None:
        return None
    ids = [id for split in SPLITS for id in benchmark.ids(split)]
    if not 0 < len(ids) <= MOST or not _stored(benchmark, ids[0]):
        return None
    files = {id: benchmark.files(id)[:-1] for id in ids}
    return twins(files, lambda id: benchmark.read(id)[0], benchmark.fingerprint, progress)


def twins(
    files: Mapping[str, Sequence[Path]],
    read: Callable[[str], np.ndarray],
    meaning: str,
    progress: Progress | None = None,
) -> Alike:
    """Which images are the same, or nearly so; one that cannot be read is left out.

    Args:
        files: of each image, by its id: while they stay, they are not read again.
        read: an image (H, W, C) uint8 by its id.
        meaning: of anything else that decides the images.
        progress: called while images are read.
    """
    key = _key(files, meaning)
    if key not in _FOUND:
        folder = cache_folder().folder
        kept = None if folder is None else folder / f"twins-{key[:20]}.json"
        found = _load(kept)
        if found is None:
            found = _look_at(list(files), read, progress)
            _save(kept, found)
        _FOUND[key] = found
    return _FOUND[key]


def _stored(benchmark: Benchmark, id: str) -> bool:
    """Whether an example is in files, or in a table of the hub."""
    try:
        opened = benchmark.opened(id)
    except (OSError, ValueError):
        return True
    for file in opened:
        file.close()
    return bool(opened)


def _look_at(
    ids: Sequence[str], read: Callable[[str], np.ndarray], progress: Progress | None
) -> Alike:
    def seen(id: str) -> tuple[str, bytes, Look | None]:
        try:
            image = read(id)
        except (UserError, OSError, ValueError):
            return id, b"", None
        plain = bool((image == image[:1, :1]).all())
        digest = digests_of(image, _NO_LABEL)[0].tobytes()
        return id, digest, None if plain else look(as_rgb(image))

    found: list[tuple[str, bytes, Look | None]] = []
    workers = min(8, cores())
    # Decoders let go of the interpreter while they work.
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(ids), 4 * workers):
            found += pool.map(seen, ids[start : start + 4 * workers])
            if progress:
                progress(len(found), len(ids))
    return alike(found)


def _key(files: Mapping[str, Sequence[Path]], meaning: str) -> str:
    digest = hashlib.sha256(f"{_code()}\0{meaning}\n".encode())
    for id in sorted(files):
        digest.update(id.encode() + b"\n")
        for path in files[id]:
            with contextlib.suppress(OSError, ValueError):
                status = path.stat()
                times = status.st_size, status.st_mtime_ns, status.st_ctime_ns
                digest.update(f"{os.path.abspath(path)}\0{times}\n".encode())
    return digest.hexdigest()


@functools.cache
def _code() -> str:
    return hashlib.sha256(Path(near_duplicates.__file__).read_bytes()).hexdigest()


def _load(path: Path | None) -> Alike | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_bytes())
        return Alike(
            tuple(tuple(map(str, group)) for group in content["equal"]),
            tuple((str(a), str(b), float(score)) for a, b, score in content["near"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(path: Path | None, found: Alike) -> None:
    if path is None:
        return
    with contextlib.suppress(OSError):  # it is found again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"equal": found.equal, "near": found.near}).encode())
