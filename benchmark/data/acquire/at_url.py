"""Data at a URL: the files of a set are copied once per machine, and read as local files.

They go into a mirror in the cache (`core.object_store`), each whole or not at all. When all files
of a set are there, `.copied/` of the mirror says so; until then no process reads them, and those
that need them wait for the one that copies. A copy is not compared with its origin again: to copy
anew, remove the mirror.
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from filelock import FileLock

from benchmark.core import object_store
from benchmark.core.errors import DataError, UserError
from benchmark.core.files import make_folder, write_atomic
from benchmark.core.format import counted, size_text
from benchmark.core.object_store import Store, is_url, patiently

COPIED = ".copied"
PATIENCE_SECONDS, SHORT_SECONDS = 60.0, 5.0
"""How long a store that does not answer is asked for a file, and for a listing."""
THREADS = 8


def located(data: Path | str | None) -> Path | None:
    """The folder that an option names: of a URL its mirror, in which nothing need be yet.

    Raises:
        UserError: the cache cannot be written.
    """
    if data is None:
        return None
    return object_store.mirror(str(data), "data") if is_url(data) else Path(data)


def url_of(folder: Path | None) -> str | None:
    """The URL that a folder mirrors; None of all others."""
    found = None if folder is None else object_store.mirrored(folder)
    return None if found is None or found[1] != folder else found[0]


def bring(folder: Path, name: str) -> None:
    """Copies what is missing of a folder in a mirror; does nothing for all other folders.

    Args:
        folder: the mirror, or below it.
        name: of the set, for messages.

    Raises:
        UserError: the store does not answer, or refuses; it has no such folder; a file vanished; or
            there is no room.
    """
    found = object_store.mirrored(folder)
    if found is None:
        return
    url, root = found
    below = folder.absolute().relative_to(root).as_posix()
    below = "" if below == "." else below
    mark = root / COPIED / (below.replace("/", "|") or "all")
    if mark.exists():
        return
    try:
        make_folder(mark.parent)
        with FileLock(f"{mark}.lock"):
            if not mark.exists():
                _copy(Store(url), below, folder, name)
                write_atomic(mark, b"")
    except OSError as error:
        raise UserError(
            f"{name}: {root} cannot be written ({error.strerror or error}); make room there, or "
            f"name another folder by {object_store.FOLDER}"
        ) from error


def _copy(store: Store, below: str, folder: Path, name: str) -> None:
    where = f"{store.url}/{below}".rstrip("/")
    found = patiently(lambda: store.find(below), SHORT_SECONDS, _say)
    sizes = {file: size for file, (_, size) in found.items() if file and not file.endswith("/")}
    if not sizes:
        raise DataError(f"{name}: there are no files at {where}; upload the set, or correct --data")
    for file in sizes:
        if ".." in PurePosixPath(file).parts:
            raise DataError(f"{where}: {file!r} leads out of its folder; rename it")
    left = {file: size for file, size in sizes.items() if _size(folder / file) != size}
    make_folder(folder)
    need, free = sum(left.values()), shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"{name}: its files at {where} take {size_text(need)}, and {folder} has "
            f"{size_text(free)} free; make room, or name another folder by {object_store.FOLDER}"
        )
    number = counted(len(left), "file")
    _say(f"{name}: copying {number} ({size_text(need)}) from {where} to {folder}")

    told: list[str] = []

    def say_once(text: str) -> None:
        if not told:
            told.append(text)
            _say(text)

    def get(file: str) -> None:
        source = f"{below}/{file}".lstrip("/")
        try:
            patiently(lambda: store.download(source, folder / file), PATIENCE_SECONDS, say_once)
        except FileNotFoundError:
            raise DataError(
                f"{name}: {where}/{file} vanished while the set was copied; restore it, and repeat "
                "the command"
            ) from None

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            list(pool.map(get, left))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _say(text: str) -> None:
    print(text, file=sys.stderr)
