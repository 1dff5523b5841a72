"""Decode once: a split as one memory-mapped file that all processes of a machine share.

A split is in `<cache>/<benchmark>-<split>-<key>.bin`, image and label of one example after the
other, and beside it an index `.npz` with ids, sizes, fingerprint and the classes of each image. The
key hashes paths, sizes and times of the source files and the code that decodes them: a changed file
or loader makes another entry. The index is renamed into place last; an entry without index does not
exist. The process that builds an entry holds its lock, and others wait for it. At the limit, the
least recently used entry is removed (a process that still maps it keeps it).

Where an entry would not fit, or the folder cannot be written, or a benchmark does not say what its
examples depend on, they are decoded whenever they are asked for: slower, with the same values.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from benchmark.core.cache_folder import FOLDER, CacheFolder, cache_folder
from benchmark.core.errors import DataError
from benchmark.core.machine import cores
from benchmark.data.base import (
    Benchmark,
    Example,
    Split,
    check_seal,
    read_example,
    require_sound,
)
from benchmark.data.examples import (
    Direct,
    Examples,
    Index,
    Mapped,
    Progress,
    digests_of,
    levels_of,
    no_label,
    offsets,
    presence_in,
    resized,
)

FORMAT = 3
SPARE_BYTES = 1 << 30
"""What a cache leaves free on its disk."""

_ARRAYS = ("shapes", "presence", "has_void", "levels", "digests")
"""Of an `Index`, as they are stored."""


def open_split(
    benchmark: Benchmark,
    split: Split,
    scaled: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Examples:
    """A split, decoded and audited: from the cache, into it, or past it.

    Args:
        benchmark: whose split.
        split: which one.
        scaled: at the benchmark's working scale instead of native size.
        progress: called while decoding, which takes minutes for a full set.
        threads: that decode; None = one a core.

    Raises:
        DataError: the set has faults; the split is empty or all void; image and label differ in
            size; a label is out of range. (Past the cache the last three are found when the
            example is read.)
        RuntimeError: it is the test split, inside `seal_test`.
    """
    check_seal(benchmark.name, split)
    require_sound(benchmark)
    ids = ids_of(benchmark, split)
    key = _key(benchmark, ids, scaled)
    where = cache_folder()
    knowable = benchmark.fingerprint or benchmark.files(ids[0])
    if where.folder is None or not knowable:
        return Direct(benchmark, split, ids, scaled, key)
    target = where.folder / f"{benchmark.name}-{split}-{key[:20]}.bin"
    try:
        where.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            found = _open(target)
            if found is not None:
                return found
            need = _forecast(benchmark, ids, scaled)
            if not make_room(where, need):
                raise OSError(f"it needs {need / 2**30:.1f} GiB, which do not fit")
            return _build(benchmark, split, ids, scaled, target, progress, threads)
    except OSError as error:
        warnings.warn(
            f"{benchmark.name}: the {split} split is decoded again at each use, because the cache "
            f"{where.folder} cannot take it ({error.strerror or error}); make room there or name "
            f"another folder by {FOLDER}",
            stacklevel=2,
        )
        return Direct(benchmark, split, ids, scaled, key)


def ids_of(benchmark: Benchmark, split: Split) -> list[str]:
    """The ids of a split.

    Raises:
        DataError: it is empty.
    """
    ids = benchmark.ids(split)
    if not ids:
        raise DataError(
            f"{benchmark.name}: the {split} split is empty; check the files under "
            f"{benchmark.folder or benchmark.origin} or its split list"
        )
    return ids


def _key(benchmark: Benchmark, ids: Sequence[str], scaled: bool) -> str:
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update("\0".join(map(str, parts)).encode() + b"\n")

    add(FORMAT, benchmark.name, scaled, _code(type(benchmark)), benchmark.fingerprint)
    for id in ids:
        add(id)
        for path in benchmark.files(id):
            try:
                status = path.stat()
            except (OSError, ValueError):  # ValueError: a NUL in its name
                continue  # reading it will fail
            # The change time, too: a copy that keeps its times is another file all the same.
            add(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return digest.hexdigest()


@functools.cache
def _code(cls: type[Benchmark]) -> str:
    """Hash of the code that decodes: this package, the benchmark's own file, and the decoders."""
    files = set(Path(__file__).parent.rglob("*.py"))
    for base in cls.__mro__[:-1]:
        try:
            files.add(Path(inspect.getfile(base)))
        except (OSError, TypeError):
            continue
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    for package in ("numpy", "pillow", "scipy", "tifffile"):
        digest.update(metadata.version(package).encode())
    return digest.hexdigest()


def _open(target: Path) -> Mapped | None:
    index = target.with_suffix(".npz")
    try:
        with np.load(index, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in _ARRAYS}
            ids, sha256 = [str(id) for id in arrays["ids"]], str(arrays["sha256"])
            found = Mapped(target, Index(ids=ids, sha256=sha256, **content))
        if target.stat().st_size != offsets(found.shapes)[-1]:
            return None
        with contextlib.suppress(PermissionError):  # another user's, in a shared cache
            os.utime(index)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found


def _forecast(benchmark: Benchmark, ids: Sequence[str], scaled: bool) -> int:
    """Bytes that a split will take, from a few of its examples."""
    sample = ids[:: -(-len(ids) // 8)]
    examples = (resized(benchmark, read_example(benchmark, id), scaled) for id in sample)
    sizes = [example.image.size + example.label.size for example in examples]
    return sum(sizes) * len(ids) // len(sizes)


def make_room(where: CacheFolder, need: int) -> bool:
    """Removes the least recently used entries until `need` bytes fit; whether they do."""
    assert where.folder is not None
    _sweep(where.folder)
    if need > where.limit:
        return False
    entries = sorted(where.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    sizes = {index: _size(index.with_suffix(".bin")) for index in entries}
    while True:
        free = shutil.disk_usage(where.folder).free
        if sum(sizes.values()) + need <= where.limit and need + SPARE_BYTES <= free:
            return True
        if not entries:
            return False
        index = entries.pop(0)
        del sizes[index]
        # Never the lock: who waits for it would hold another than who comes later.
        index.unlink(missing_ok=True)
        index.with_suffix(".bin").unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Removes what processes left that were killed while they built an entry."""
    whole = {index.stem for index in folder.glob("*.npz")}
    for left in [*folder.glob("*.tmp"), *folder.glob("*.bin")]:
        name = left.name.partition(".")[0]
        if left.suffix == ".bin" and name in whole:
            continue
        try:
            with FileLock(folder / f"{name}.bin.lock", timeout=0):
                if left.suffix == ".tmp" or not left.with_suffix(".npz").exists():
                    left.unlink(missing_ok=True)
        except Timeout:
            continue  # another process builds it


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _build(
    benchmark: Benchmark,
    split: Split,
    ids: list[str],
    scaled: bool,
    target: Path,
    progress: Progress | None,
    threads: int | None,
) -> Mapped:
    shapes = np.zeros((len(ids), 3), np.int32)
    presence = np.zeros((len(ids), len(benchmark.classes)), bool)
    has_void, levels = np.zeros(len(ids), bool), np.zeros((len(ids), 2), np.uint8)
    digests = np.zeros((len(ids), 2, 16), np.uint8)
    digest = hashlib.sha256()
    partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            for i, (native, kept) in enumerate(_decode(benchmark, ids, scaled, threads)):
                digest.update(f"{native.id}{native.image.shape}".encode())
                digest.update(np.ascontiguousarray(native.image).data)
                digest.update(np.ascontiguousarray(native.label).data)
                presence[i], has_void[i] = presence_in(native.label, len(benchmark.classes))
                levels[i] = levels_of(native.image)
                digests[i] = digests_of(native.image, native.label)
                shapes[i] = kept.image.shape
                file.write(np.ascontiguousarray(kept.image).data)
                file.write(np.ascontiguousarray(kept.label).data)
                if progress:
                    progress(f"{benchmark.name} {split}", i + 1, len(ids))
            file.flush()
            os.fsync(file.fileno())
        if not presence.any():
            raise no_label(benchmark, split, ids)
        index = Index(ids, shapes, presence, has_void, levels, digests, digest.hexdigest())
        os.replace(partial, target)
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                ids=np.array(ids),
                sha256=np.array(index.sha256),
                **{name: getattr(index, name) for name in _ARRAYS},
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target.with_suffix(".npz"))
    finally:
        partial.unlink(missing_ok=True)
    return Mapped(target, index)


def _decode(
    benchmark: Benchmark, ids: Sequence[str], scaled: bool, threads: int | None
) -> Iterator[tuple[Example, Example]]:
    """Native and kept examples in order, a few ahead of the writer."""

    def read(id: str) -> tuple[Example, Example]:
        native = read_example(benchmark, id)
        return native, resized(benchmark, native, scaled)

    # Decoders let go of the interpreter while they work.
    workers = min(8, threads or cores())
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(ids), 4 * workers):
            yield from pool.map(read, ids[start : start + 4 * workers])
