"""The plug-in files that runs were made with: noted in records, and found again.

A description in YAML is data, so it is loaded again where its file is still there, unchanged. A
Python file is code: it is only ever named to the user.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

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
        kind: PluginFile(path=_seen_from(root, path), sha256=plugins.sha256_of(path))
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
    problems = {}
    for name in names:
        if name in BENCHMARKS.names():
            continue
        # The file may have changed between runs: those of its present content count.
        tried = []
        for used in _used(root, "benchmark", name):
            tried.append(_restore(used, root))
            if not tried[-1]:
                break
        if tried and tried[-1]:
            problems[name] = tried[0]
    return problems


def require(
    record: Record, root: Path, kinds: Collection[PluginKind] = get_args(PluginKind)
) -> None:
    """Makes everything known that a record's run took from plug-in files.

    Args:
        record: of the run.
        root: the results folder.
        kinds: what has to be known.

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
        if kind in kinds and names[kind] not in known[kind]() and (problem := _restore(used, root)):
            raise UserError(f"run {record.run_id}: {kind} {names[kind]!r} {problem}")


def sets_of(root: Path, suite: str) -> list[str]:
    """Names of the described benchmarks that runs of a suite were made on."""
    folders = sorted((root / plain_name(suite)).glob("[!.]*"))
    firsts = filter(None, (next(folder.glob(f"*/*/*/{RECORD}"), None) for folder in folders))
    records = filter(None, (store.read_record(path.parent) for path in firsts))
    return [record.benchmark for record in records if "benchmark" in record.plugins]


def explain(error: UnknownName, root: Path) -> UserError:
    """The error, with the plug-in file that brings the name, or how to name one.

    Args:
        error: of a name that is in no registry.
        root: the results folder, whose records may say it.
    """
    what = f"unknown {error.kind} {error.name!r}"
    own = error.kind == "benchmark"
    typed = Path(error.name)
    if own and typed.suffix.lower() in plugins.DESCRIPTIONS:
        name = next((name for other, name in descriptions(typed.parent) if other == typed), "NAME")
        return UserError(
            f"{what}: that is a file; write the name of the set, and name the file by --plugin: "
            f"{name} --plugin {typed}"
        )
    here = (path for path, name in descriptions() if name == error.name)
    if own and (path := next(here, None)):
        return UserError(
            f"{what}: {path} describes it; add --plugin {path}, or write `plugins: {path}` into "
            "petseg.yaml"
        )
    if error.kind in ("benchmark", "method"):
        for used in _used(root, error.kind, error.name):
            return UserError(f"{what}: it {_to_do(used, root)}")
    if own:
        return UserError(
            f"{str(error).removesuffix('?')}; a set of your own needs --plugin FILE.yaml, or "
            "`plugins` in petseg.yaml"
        )
    return error


def _used(root: Path, kind: str, name: str) -> Iterator[PluginFile]:
    """The files that a benchmark or method came from, as runs name them, each once."""
    place = plain_name(name)
    of_set, seen = kind == "benchmark", list[PluginFile]()
    for path in root.glob(f"*/{place}/*/*/*/{RECORD}" if of_set else f"*/*/*/{place}/*/{RECORD}"):
        record = store.read_record(path.parent)
        if record and name == (record.benchmark if of_set else record.method_name):
            used = record.plugins.get("benchmark" if of_set else "method")
            if used is not None and used not in seen:
                seen.append(used)
                yield used


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
    name = Path(used.path).name
    for path in (root.resolve() / used.path, Path(name)):
        if path.is_file():
            yield Path(os.path.relpath(path))


def _seen_from(root: Path, path: Path) -> str:
    # Of a link, not of its target: a description counts its folders from where it is named.
    return Path(os.path.relpath(path.parent.resolve() / path.name, root.resolve())).as_posix()


def descriptions(folder: Path = Path()) -> Iterator[tuple[Path, str]]:
    """YAML files of a folder, by default the working one, that describe a set, with its name."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if path.suffix.lower() in plugins.DESCRIPTIONS and check_size(path) < LARGEST:
                content: Collection[object] = read_mapping(path, str(path), "fields", "name: x")
                if isinstance(content, dict) and {"name", "classes"} <= content.keys():
                    yield path, str(content["name"])
        except (OSError, ValueError, UserError):
            continue  # no description, whatever it is
