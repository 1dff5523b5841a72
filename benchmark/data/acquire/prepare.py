"""Preparing a benchmark: download, check, unpack, open, and record what is there.

Work in progress is in `.downloads` below the data root. While a set is being prepared, a journal
`.downloads/<benchmark>.json` names the sources that are in place already: a set with a journal is
incomplete, even if all its files are there, and the next call resumes from there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from benchmark.core.errors import DataError, UserError
from benchmark.core.format import size_text
from benchmark.data.acquire import manifest
from benchmark.data.acquire.download import fetch, file_name
from benchmark.data.acquire.extract import ArchiveError, extract, is_archive
from benchmark.data.base import SPLITS, Benchmark, Finding, Source, Split

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and the total; None = not known."""

DOWNLOADS = ".downloads"


@dataclass(frozen=True)
class Prepared:
    """A benchmark that is ready to be used.

    Attributes:
        benchmark: opened.
        counts: examples of each split.
        downloaded: sources that this call put in place; 0 = the set was there.
        manifest: the local manifest; None if the set has no files, or its folder takes none.
        findings: of comparing the set with the known manifests.
    """

    benchmark: Benchmark
    counts: dict[Split, int]
    downloaded: int
    manifest: Path | None
    findings: list[Finding]


def prepare(
    kind: type[Benchmark], root: Path, progress: Progress | None = None, keep: bool = False
) -> Prepared:
    """Makes a benchmark ready below a data root; may be called again after any interruption.

    A set that is whole is not downloaded again. A local manifest that is there already is kept,
    and the set compared with it, so that a damaged set does not vouch for itself.

    Args:
        kind: the benchmark's class.
        root: the data root; made if it is missing.
        progress: called all along.
        keep: whether the downloaded archives are kept in `.downloads`.

    Raises:
        UserError: a download fails, an archive is refused, the disk is full, the files must be
            fetched by hand, or what is there does not open.

    Example:
        >>> prepare(available()["camvid"], Path("data")).counts  # doctest: +SKIP
        {'train': 367, 'val': 101, 'test': 233}
    """
    downloaded = 0
    if kind.folder is not None and not _is_whole(kind, root):
        if kind.sources:
            with _alone(root):
                downloaded = _install(kind, root, progress or _silent, keep)
        elif kind.manual and not (root / kind.folder).is_dir():
            raise UserError(
                f"{kind.name}: {root / kind.folder} is missing and cannot be downloaded: "
                f"{kind.manual}"
            )
    return _record(_opened(kind, root), downloaded, progress or _silent)


def _silent(what: str, done: int, total: int | None) -> None:
    pass


def _counts(benchmark: Benchmark) -> dict[Split, int]:
    return {split: len(benchmark.ids(split)) for split in SPLITS}


def _opened(kind: type[Benchmark], root: Path) -> Benchmark:
    """The benchmark, all of whose splits have examples with all their files.

    Raises:
        DataError: it is not so.
    """
    benchmark = kind(root)
    for split in SPLITS:
        ids = benchmark.ids(split)
        missing = [path for id in ids for path in benchmark.files(id) if not path.is_file()]
        hint = kind.manual or f"fetch it again from {kind.origin}"
        if missing:
            more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
            raise DataError(f"{kind.name}: {missing[0]}{more} missing; {hint}")
        if not ids:
            raise DataError(f"{kind.name}: the {split} split of {root} is empty; {hint}")
    return benchmark


def _is_whole(kind: type[Benchmark], root: Path) -> bool:
    if _journal(kind, root).exists():
        return False
    try:
        _opened(kind, root)
    except DataError:
        return False
    return True


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keeps two processes from writing the same files."""
    lock = root / DOWNLOADS / "lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"another process is preparing data in {root}; wait until it is done"
        ) from None
    except OSError as error:
        raise UserError(
            f"{root} cannot be written ({error.strerror}); make room or fix its permissions, or "
            "choose another folder by BENCHMARK_DATA or --data"
        ) from error


def _install(kind: type[Benchmark], root: Path, progress: Progress, keep: bool) -> int:
    """Puts in place what is not yet; returns how many sources that were."""
    journal = _journal(kind, root)
    done: list[str] = json.loads(journal.read_text()) if journal.exists() else []
    pending = [source for source in kind.sources if _key(source) not in done]
    _write(journal, done)
    _check_room(kind, root, sum(source.bytes for source in pending))
    for number, source in enumerate(pending, 1):
        _place(source, root, progress)
        done.append(_key(source))
        _write(journal, done)
        if not keep and all(other.url != source.url for other in pending[number:]):
            shutil.rmtree(_cellar(source, root), ignore_errors=True)
    try:
        _opened(kind, root)
    except DataError as error:
        raise DataError(
            f"{error}; all downloads of {kind.name} are complete: fix that and repeat the command, "
            f"or remove {journal} to download them again"
        ) from error
    journal.unlink()
    return len(pending)


def _check_room(kind: type[Benchmark], root: Path, downloads: int) -> None:
    """Before hours of downloading: whether archives and what is in them will fit."""
    need, free = 2 * downloads, shutil.disk_usage(root).free
    if need > free:
        raise UserError(
            f"{kind.name}: its downloads and their content take about {size_text(need)}, and "
            f"{root} has {size_text(free)} free; make room, or choose another folder by "
            "BENCHMARK_DATA or --data"
        )


def _place(source: Source, root: Path, progress: Progress) -> None:
    """Downloads a source and puts it where it belongs."""
    if PurePosixPath(source.to).is_absolute() or ".." in PurePosixPath(source.to).parts:
        raise UserError(f"{source.url}: its target {source.to!r} is not below the data root")
    name, target = file_name(source.url), root / source.to
    path = fetch(
        source, _cellar(source, root), lambda done, total: progress(f"download {name}", done, total)
    )
    if not is_archive(name):
        target.mkdir(parents=True, exist_ok=True)
        # A copy, since the target may be on another disk.
        draft = target / f".{name}.unpacking"
        shutil.copyfile(path, draft)
        os.replace(draft, target / name)
        return
    try:
        extract(
            path,
            target,
            source.inside,
            progress=lambda done, total: progress(f"unpack {name}", done, total),
        )
    except ArchiveError:
        # Else the next call would try the same archive again.
        path.unlink(missing_ok=True)
        raise


def _record(benchmark: Benchmark, downloaded: int, progress: Progress) -> Prepared:
    """Compares a whole set with the known manifests, and writes its own."""
    found = manifest.make(
        benchmark, progress=lambda done, total: progress(f"check {benchmark.name}", done, total)
    )
    local = manifest.local_path(benchmark)
    path: Path | None = local
    if not found.files:
        note = Finding("note", f"{benchmark.name} has no files: nothing to prepare", "just use it")
        return Prepared(benchmark, _counts(benchmark), 0, None, [note])
    if downloaded or not local.exists():
        known = [it for it in manifest.known(benchmark) if it.edition != manifest.LOCAL]
        findings = manifest.compare(found, [*known, found], (), benchmark.origin)
        try:
            manifest.write(found, local)
        except UserError as error:
            note = Finding(
                "note", str(error), "without it, `data verify` may have no checksums to compare"
            )
            path, findings = None, [*findings, note]
    else:
        findings = manifest.compare(found, manifest.known(benchmark), (), benchmark.origin)
    return Prepared(benchmark, _counts(benchmark), downloaded, path, findings)


def _journal(kind: type[Benchmark], root: Path) -> Path:
    return root / DOWNLOADS / f"{kind.name}.json"


def _write(journal: Path, done: list[str]) -> None:
    draft = journal.with_suffix(".draft")
    draft.write_text(json.dumps(done))
    os.replace(draft, journal)


def _key(source: Source) -> str:
    """Identifies a source in the journal; changes with anything that decides what is put where."""
    text = "\n".join((source.url, source.to, source.inside, source.checksum))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cellar(source: Source, root: Path) -> Path:
    """The folder of a download; by its address, since many files are called `train.zip`."""
    return root / DOWNLOADS / hashlib.sha256(source.url.encode()).hexdigest()[:16]
