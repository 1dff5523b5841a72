"""The plug-in files that runs were made with: noted in records, and found again.

A description in YAML is data, so it is loaded again where its file is still there, unchanged. A
Python file is code: it is only ever named to the user.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.files import file_sha256
from benchmark.core.record import RECORD, PluginFile, PluginKind, Record
from benchmark.core.selectors import UnknownName
from benchmark.core.spec import plain_name
from benchmark.core.yaml_file import read_mapping
from benchmark.planning import plugins
from benchmark.planning.catalogue import BENCHMARKS, DECODERS, METHODS
from benchmark.results import store
from benchmark.results.record_file import check_size

LARGEST = 2**20
"""Bytes of a YAML file beyond which it describes no set."""


def note(files: Mapping[PluginKind, Path], root: Path) -> dict[PluginKind, PluginFile]:
    """What a record keeps of plug-in files.

    Args:
        files: by what the run took from them.
        root: the results folder.
    """
    return {
        kind: PluginFile(path=_from(root, path), sha256=plugins.sha256_of(path))
        for kind, path in files.items()
    }


def recall(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Loads the descriptions that runs of benchmarks were made with, if they are unchanged.

    Args:
        root: the results folder of the runs.
        names: of benchmarks.

    Returns:
        What the user has to do, on one line, for each benchmark that is not known afterwards and
        came from a file.
    """
    known, problems = BENCHMARKS.names(), {}
    for name in names:
        if name not in known and (used := _used(root, "benchmark", name)):
            problem = _restore(used, root)
            if problem:
                problems[name] = problem
    return problems


def require(record: Record, root: Path) -> None:
    """Makes everything known that a record's run took from plug-in files.

    Raises:
        UserError: a file has to be named by the user.
    """
    names = {
        "method": record.method_name,
        "benchmark": record.benchmark,
        "decoder": str(record.protocol.get("decoder")),
    }
    known = {
        "method": METHODS.names,
        "benchmark": BENCHMARKS.names,
        "decoder": DECODERS.names,
    }
    for kind, used in record.plugins.items():
        if names[kind] not in known[kind]() and (problem := _restore(used, root)):
            raise UserError(f"run {record.run_id}: {kind} {names[kind]!r} {problem}")


def sets_of(root: Path, suite: str) -> list[str]:
    """Names of the benchmarks that runs of a suite were made on."""
    folders = sorted(path.parent for path in (root / plain_name(suite)).glob("*/*/*/*/record.json"))
    firsts = {folder.parents[2]: folder for folder in reversed(folders)}
    records = filter(None, map(store.read_record, firsts.values()))
    return sorted({record.benchmark for record in records if record.plugins.get("benchmark")})


def explain(error: UnknownName, root: Path) -> UserError:
    """The error, with the plug-in file that brings the name, or how to name one.

    Args:
        error: of a name that is in no registry.
        root: the results folder, whose records may say it.
    """
    own = error.kind == "benchmark"
    path = next(_descriptions(error.name), None) if own else None
    if path:
        return UserError(
            f"unknown {error.kind} {error.name!r}: {path} describes it; add --plugin {path}, or "
            f"write `plugins: {path}` into petseg.yaml"
        )
    kinds: tuple[PluginKind, ...] = ("method", "benchmark")
    for kind in kinds:
        if error.kind == kind and (used := _used(root, kind, error.name)):
            return UserError(f"unknown {kind} {error.name!r}: it {_to_do(used, root)}")
    if own:
        return UserError(
            f"{str(error).removesuffix('?')}; a set of your own needs --plugin FILE.yaml, or "
            "`plugins` in petseg.yaml"
        )
    return error


def _used(root: Path, kind: PluginKind, name: str) -> PluginFile | None:
    """The file that a benchmark or method came from, as the first run that says so names it."""
    place = plain_name(name)
    pattern = f"*/{place}/*/*/*" if kind == "benchmark" else f"*/*/*/{place}/*"
    for path in root.glob(f"{pattern}/{RECORD}"):
        record = store.read_record(path.parent)
        if record and name == (record.benchmark if kind == "benchmark" else record.method_name):
            return record.plugins.get(kind)
    return None


def _restore(used: PluginFile, root: Path) -> str:
    """Loads a description that is unchanged; else what the user has to do."""
    for path in _places(used, root):
        if path.suffix.lower() in plugins.DESCRIPTIONS and file_sha256(path) == used.sha256:
            plugins.load_files([path])
            return ""
    return _to_do(used, root)


def _to_do(used: PluginFile, root: Path) -> str:
    name = Path(used.path).name
    for path in _places(used, root):
        changed = "" if file_sha256(path) == used.sha256 else ", which has changed since"
        return f"comes from {name}, says a record in {root}; add --plugin {path}{changed}"
    return f"comes from {name}, says a record in {root}; add --plugin and the path of that file"


def _places(used: PluginFile, root: Path) -> Iterator[Path]:
    """Where the file is: as seen from the results folder, else in the working folder."""
    for path in (root / used.path, Path(Path(used.path).name)):
        if path.is_file():
            short = Path(os.path.relpath(path))
            yield path if ".." in short.parts and path.is_absolute() else short


def _from(root: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
    except ValueError:  # on another drive
        return path.resolve().as_posix()


def _descriptions(name: str) -> Iterator[Path]:
    """YAML files of the working folder that describe a set of this name."""
    for path in sorted(Path().iterdir()):
        try:
            if path.suffix.lower() in plugins.DESCRIPTIONS and check_size(path) < LARGEST:
                content: Collection[object] = read_mapping(path, str(path), "fields", "name: x")
                if isinstance(content, dict) and content.get("name") == name:
                    yield path
        except (OSError, ValueError, UserError):
            continue  # no description, whatever it is
