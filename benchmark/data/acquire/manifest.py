"""Manifests: which files a benchmark consists of, and what verifying a set against one finds.

A manifest is text: lines `# key<TAB>value` (benchmark, edition, and how many examples each split
has), then a line `path<TAB>bytes<TAB>digest` a file, sorted by path. Paths are relative to the
benchmark's folder; the digest is the first 16 hex digits of the file's SHA-256. A manifest without
files knows the counts only; `train+val` means both where val is carved out of train.

The manifests in the folder beside this module are part of the project, one for each known edition
of a set. `data prepare` writes a manifest of the files it found to the set's own folder.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.core.errors import DataError, UserError
from benchmark.data.base import SPLITS, Benchmark, Finding

FOLDER = Path(__file__).parents[1] / "manifests"
COUNTS = ("train+val", *SPLITS)
DIGITS = 16
LOCAL = "local"
"""Edition of the manifests that are written where a set was prepared."""
_LOCAL = ".petseg-manifest.{}.tsv"
SHOWN = 5
"""Files that a finding names; it counts the others."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Manifest:
    """What a set consists of.

    Attributes:
        benchmark: name of the benchmark.
        edition: "official", "subset", ...
        counts: examples of each split; the keys are those of `COUNTS`.
        files: bytes and digest of each file, by its path; empty = not known.
    """

    benchmark: str
    edition: str
    counts: Mapping[str, int]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def make(benchmark: Benchmark, edition: str = LOCAL, progress: Progress | None = None) -> Manifest:
    """The manifest of a set as it is.

    Args:
        benchmark: the set.
        edition: what to call it.
        progress: called with the files hashed and their number.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    manifest, absent = _survey(benchmark, edition, progress)
    if absent:
        raise DataError(
            f"{benchmark.name}: {_listed(absent)} missing or unreadable; fetch from "
            f"{benchmark.origin}"
        )
    return manifest


def read(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        UserError: the file is missing or is no manifest.
    """
    header: dict[str, str] = {}
    files: dict[str, tuple[int, str]] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        # Not splitlines: file names may hold the rarer line breaks.
        for line in text.rstrip("\n").split("\n"):
            if line.startswith("# "):
                key, value = line[2:].split("\t")
                header[key] = value
            else:
                name, size, digest = line.rsplit("\t", 2)
                files[name] = int(size), digest
        counts = {key: int(header[key]) for key in COUNTS if key in header}
        return Manifest(header["benchmark"], header["edition"], counts, files)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a manifest or cannot be read ({type(error).__name__}: {error}); remove "
            "it"
        ) from error


def write(manifest: Manifest, path: Path) -> None:
    """Writes a manifest; a reader sees the old one or the new one, never half of it.

    Raises:
        UserError: it cannot be written there, or a file's name holds a line break.
    """
    if any("\n" in name for name in manifest.files):
        raise UserError(f"{manifest.benchmark}: a file's name holds a line break; rename it")
    header = {"benchmark": manifest.benchmark, "edition": manifest.edition, **manifest.counts}
    lines = [f"# {key}\t{value}" for key, value in header.items()]
    lines += [
        f"{name}\t{size}\t{digest}" for name, (size, digest) in sorted(manifest.files.items())
    ]
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(
            f"manifest {path} cannot be written ({error.strerror}); fix the folder's permissions"
        ) from error


def local_path(benchmark: Benchmark) -> Path:
    """Path of a prepared set's manifest; benchmarks that share a folder have one each."""
    return _base(benchmark) / _LOCAL.format(benchmark.name)


def known(benchmark: Benchmark) -> list[Manifest]:
    """The manifests that a set may be checked against: the project's, then the local one.

    Raises:
        UserError: one of them cannot be read.
    """
    name = benchmark.name
    paths = [*sorted(FOLDER.glob(f"{name}.tsv")), *sorted(FOLDER.glob(f"{name}.*.tsv"))]
    if local_path(benchmark).exists():
        paths.append(local_path(benchmark))
    return [read(path) for path in paths]


def verify(benchmark: Benchmark, progress: Progress | None = None) -> list[Finding]:
    """Compares a set with the manifest whose counts are nearest to it.

    Args:
        benchmark: the set.
        progress: called with the files hashed and their number.

    Returns:
        Serious findings for what is missing, too much or changed, and a note on what the set was
        compared with.

    Raises:
        UserError: the set does not open, or a manifest cannot be read.

    Example:
        >>> verify(available()["camvid"](Path("data")))  # doctest: +SKIP
        [Finding(severity='note', what="camvid: 184/26/78 examples, edition 'subset': ...
    """
    found, absent = _survey(benchmark, LOCAL, progress)
    return compare(found, known(benchmark), absent, benchmark.origin)


def compare(
    found: Manifest, known: Iterable[Manifest], absent: Iterable[str] = (), origin: str = ""
) -> list[Finding]:
    """Compares what a set is with what it may be.

    Args:
        found: the set as it is.
        known: manifests that it may fit; of two that fit as well, the project's is taken.
        absent: files of its examples that are missing or unreadable.
        origin: where to get the set.
    """
    name, absent, known = found.benchmark, sorted(absent), list(known)
    fetch = f"fetch the set again from {origin}" if origin else "fetch the set again"
    findings = []
    if absent:
        findings.append(Finding("serious", f"{name}: {_listed(absent)} missing", fetch))
    size = f"{_slashed(found)} examples"
    if not known:
        what = f"{name}: {size}; no published checksums exist, so files were only counted"
        return [*findings, Finding("note", what, _RECORD if found.files else "nothing to do")]
    nearest = min(
        known,
        # Some sets have several layouts: checksums of one say nothing of another.
        key=lambda it: (
            _distance(found, it),
            it.edition == LOCAL,
            it.files.keys().isdisjoint(found.files),
        ),
    )
    for key, expected in nearest.counts.items():
        if (count := _count(found, key)) != expected:
            version = f"the known version {nearest.edition!r}"
            what = f"{name}: {key} has {count} examples, {version} has {expected}"
            findings.append(Finding("serious", what, f"restore its files and lists, or {fetch}"))
    others = [f"{it.edition} {_slashed(it)}" for it in known if it.edition != LOCAL]
    if nearest.edition == LOCAL and others:
        what = f"{name}: {size}, as in no known version ({', '.join(others)})"
        findings.append(Finding("warning", what, "only compare results on this same set"))
    basis = nearest
    if not nearest.files:
        fitting = (it for it in known if it.edition == LOCAL and not _distance(it, nearest))
        basis = next(fitting, nearest)
    if basis.files:
        findings += _differences(found, basis, absent, fetch)
    return [*findings, _note(found, size, nearest, basis)]


_RECORD = "run `data prepare` to record checksums of the files as they are now"


def _note(found: Manifest, size: str, nearest: Manifest, basis: Manifest) -> Finding:
    """What the set was compared with."""
    what = f"{found.benchmark}: {size}, compared with the known version {nearest.edition!r}"
    if nearest.edition == LOCAL:
        what = f"{found.benchmark}: {size}, compared with those found by `data prepare`"
    fix = "nothing to do"
    if nearest.edition == "subset":
        fix = "do not compare results on a subset with those on the full set"
    if not found.files:
        what += "; it has no files to check"
    elif not basis.files:
        what, fix = f"{what} by count: it has no checksums", _RECORD
    elif basis is not nearest:
        what += " by count, and with the checksums recorded when it was prepared"
    return Finding("note", what, fix)


def _differences(
    found: Manifest, expected: Manifest, absent: Iterable[str], fetch: str
) -> list[Finding]:
    """Serious findings on files: not used, unknown, of another size, of other content."""
    name, edition = found.benchmark, f"the known version {expected.edition!r}"
    if expected.edition == LOCAL:
        fetch += (
            f"; if the change is intended, remove {_LOCAL.format(name)} in its folder and run "
            "`data prepare`"
        )
    both = found.files.keys() & expected.files.keys()
    sizes = {path for path in both if found.files[path][0] != expected.files[path][0]}
    digests = {path for path in both if found.files[path][1] != expected.files[path][1]}
    groups = {
        f"in {edition}, but in no split": expected.files.keys() - found.files.keys() - {*absent},
        f"in a split, but not in {edition}": found.files.keys() - expected.files.keys(),
        f"of another size than in {edition}": sizes,
        f"changed: the checksum differs from {edition}": digests - sizes,
    }
    return [
        Finding("serious", f"{name}: {_listed(sorted(paths))} {problem}", fetch)
        for problem, paths in groups.items()
        if paths
    ]


def _survey(
    benchmark: Benchmark, edition: str, progress: Progress | None
) -> tuple[Manifest, list[str]]:
    """The manifest of the files that are there, and the paths of those that are not."""
    ids = {split: benchmark.ids(split) for split in SPLITS}
    paths = sorted(
        {path for members in ids.values() for id in members for path in benchmark.files(id)}
    )
    names = [_relative(path, benchmark) for path in paths]
    files: dict[str, tuple[int, str]] = {}
    # Hashing leaves Python's lock, and waiting for a network drive too.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (name, facts) in enumerate(zip(names, pool.map(_facts, paths), strict=True), 1):
            if facts:
                files[name] = facts
            if progress:
                progress(done, len(paths))
    counts: dict[str, int] = {split: len(members) for split, members in ids.items()}
    manifest = Manifest(benchmark.name, edition, counts, files)
    return manifest, [name for name in names if name not in files]


def _facts(path: Path) -> tuple[int, str] | None:
    """Bytes and digest of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
            return file.tell(), digest
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return None


def _base(benchmark: Benchmark) -> Path:
    """The folder of a set that has files; where it has no `path`, as its class describes it."""
    path = getattr(benchmark, "path", None)
    return path if isinstance(path, Path) else Path(benchmark.root or ".", benchmark.folder or ".")


def _relative(path: Path, benchmark: Benchmark) -> str:
    return Path(os.path.relpath(path, _base(benchmark))).as_posix()


def _count(manifest: Manifest, key: str) -> int:
    return sum(manifest.counts[split] for split in key.split("+"))


def _distance(found: Manifest, known: Manifest) -> int:
    return sum(abs(_count(found, key) - count) for key, count in known.counts.items())


def _slashed(manifest: Manifest) -> str:
    """`184/26/78`: examples of train, val and test, or of both of the former and test."""
    return "/".join(str(manifest.counts[key]) for key in COUNTS if key in manifest.counts)


def _listed(names: list[str]) -> str:
    """`2 files (a, b) are`, with the first few named."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    plural = "files" if len(names) > 1 else "file"
    verb = "are" if len(names) > 1 else "is"
    return f"{len(names)} {plural} ({', '.join(names[:SHOWN])}{more}) {verb}"
