"""Where a number comes from: code, packages, hardware, weights and data."""

import ast
import functools
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.data.base import Benchmark
    from methods.base import Method

SCHEME = "tree:"
"""How source is hashed (`meaning`); hashes of another scheme cannot be compared with these."""

PACKAGES = ("petseg-bench", "torch", "torchvision", "timm", "peft", "numpy", "pillow")


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether tracked files differ from it.

    Asked once a process: it describes the code that was loaded, not what the folder holds later.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        # An installed copy may be in an environment inside the checkout of another project.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno", "--", ":/"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def data_sha256(*splits: str) -> str:
    """Fingerprint of the data of a run from those of its splits.

    Returns:
        `<scheme>:<hash>`; only fingerprints of one scheme can be compared: `splits` of decoded
        pixels, `files` of names, sizes and times. (Older records have a hash without scheme.)
    """
    scheme = "files" if any(split.startswith("files:") for split in splits) else "splits"
    return f"{scheme}:{hashlib.sha256(chr(10).join(splits).encode()).hexdigest()}"


_TRAINING = (
    *(
        "benchmark.engine.train",
        "benchmark.core.seeding",
        "benchmark.data.batches",
        "benchmark.data.subsample",
    ),
    *("benchmark.models.precision", "benchmark.models.segmenter", "benchmark.models.weights"),
    *("benchmark.models.attention", "benchmark.engine.replicas", "benchmark.engine.compute"),
    *("benchmark.engine.feature_cache", "methods.pixelwise", "benchmark.engine.step"),
    *("benchmark.engine.ranks", "benchmark.engine.whole_batch", "benchmark.engine.sharding"),
    "benchmark.engine.activations",
)


@functools.cache
def method_sha256(method: "type[Method]") -> str:
    """Hash of the source that defines a method.

    That is the modules of its class and of the classes it derives from, `methods.base`, and what
    these import from the package `methods`, directly or not. Asked once a process, as `git_state`.
    """
    return SCHEME + _source_sha256(_modules(method) | {"methods.base"}, "methods").hexdigest()


@functools.cache
def training_sha256(decoder: Callable[..., object]) -> str:
    """Hash of the source that training runs through, besides that of method and data.

    That is the loop, the batches, the random streams, `benchmark.models`, and the module of the
    decoder with what it imports from there.

    Args:
        decoder: what builds it.
    """
    names = {decoder.__module__, *_TRAINING}
    return _source_sha256(names, "benchmark.models").hexdigest()


@functools.cache
def prefix_sha256() -> str:
    """Hash of what decides the output of frozen stages, besides weights, images and precision."""
    digest = _source_sha256(
        {"benchmark.engine.feature_cache", "benchmark.data.batches"}, "benchmark.models"
    )
    digest.update(repr(sorted(package_versions().items())).encode())
    return digest.hexdigest()


@functools.cache
def benchmark_sha256(benchmark: "Benchmark") -> str:
    """Hash of what decides the examples of an opened benchmark, without decoding any of them.

    That is the source of its class (its modules, `benchmark.data.base`, `benchmark.data.files` and
    what these import from `benchmark.data`), its `fingerprint`, and of all splits the ids and the
    names and sizes of their files. Times do not count: a copy of the files is the same benchmark.

    Raises:
        DataError: the files or the split lists are not there.
    """
    from benchmark.data.base import SPLITS

    base = {"benchmark.data.base", "benchmark.data.files"}
    digest = _source_sha256(_modules(type(benchmark)) | base, "benchmark.data")
    digest.update(f"{benchmark.name}\0{benchmark.fingerprint}\n".encode())
    for split in SPLITS:
        for id in benchmark.ids(split):
            sizes = [f"{path.name}:{_size(path, benchmark)}" for path in benchmark.files(id)]
            digest.update("\0".join([split, id, *sizes]).encode() + b"\n")
    return SCHEME + digest.hexdigest()


def _modules(cls: type) -> set[str]:
    return {base.__module__ for base in cls.__mro__}


def _source_sha256(modules: Collection[str], package: str) -> "hashlib._Hash":
    """Hash of modules, and of what they import from `package`."""
    open_ = set(modules)
    sources: dict[str, bytes] = {}
    while open_:
        name = open_.pop()
        path = _file_of(name)
        if path is None or name in sources:
            continue
        sources[name] = path.read_bytes()
        open_.update(_imports(sources[name], name, package))
    digest = hashlib.sha256()
    # A plug-in's module is named after its path, which is the machine's: the content has to do.
    for content in sorted(hashlib.sha256(meaning(code)).digest() for code in sources.values()):
        digest.update(content)
    return digest


def comparable(then: str | None, now: str | None) -> bool:
    """Whether two hashes of source are there and of one scheme; older ones name no scheme."""
    return bool(then and now) and str(then).rpartition(":")[0] == str(now).rpartition(":")[0]


def meaning(source: bytes) -> bytes:
    """What a source file does: its syntax tree without docstrings, imports, layout and comments.

    So a comment, a moved file and a moved import leave the hash as it is.
    """
    return repr(_meaning(ast.parse(source))).encode()


def _meaning(node: object) -> object:
    if isinstance(node, ast.AST):
        fields = ((name, _meaning(value)) for name, value in ast.iter_fields(node))
        # What one version of Python notes and another does not is always empty here.
        return type(node).__name__, [pair for pair in fields if pair[1] not in (None, [])]
    if isinstance(node, list):
        return [_meaning(one) for one in node if not _says_nothing(one)]
    return node


def _says_nothing(node: object) -> bool:
    """Whether a statement is an import, a bare text as docstrings are, or the range of `tune`."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id == "tunes"  # a run has one value of it, which is in its record
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _file_of(module: str) -> Path | None:
    """The source of a module that is ours or a plug-in's; None for Python's own and packages."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return None
    loaded = sys.modules.get(module)
    try:
        # The module of a described benchmark is a name only; its fingerprint says the rest.
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    name = spec.origin if spec else getattr(loaded, "__file__", None)
    path = Path(name) if name else None
    return path if path and path.suffix == ".py" and path.name != "__init__.py" else None


def _imports(source: bytes, module: str, package: str) -> Iterator[str]:
    """Modules below `package` that a module's source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = module.rsplit(".", node.level)[0] if node.level else ""
            origin = ".".join(filter(None, (parent, node.module)))
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith(f"{package}."))


def _size(path: Path, benchmark: "Benchmark") -> int:
    from benchmark.core.errors import DataError

    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); fetch it again from {benchmark.origin}"
        ) from error
