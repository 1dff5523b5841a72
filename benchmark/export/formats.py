"""What a run can be exported as: the registry, and what all formats share."""

import importlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from benchmark.core.errors import UserError
from benchmark.core.files import draft_beside, write_atomic
from benchmark.export.agreement import Agreement
from benchmark.export.trained import Trained


@dataclass(frozen=True)
class Written:
    """What an export made.

    Attributes:
        agreement: how close it is to the network in torch; None where nothing computes.
        notes: what a user has to know, a line each.

    """

    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Notes, and what the check found, for people."""
        return [*self.notes, *([] if self.agreement is None else [str(self.agreement)])]


Write = Callable[[Trained, Path], Written]


@dataclass(frozen=True)
class Format:
    """One way to export a run.

    Attributes:
        name: what users type.
        about: one line for people.
        write: writes to a path that is free, and checks what it wrote.
        extra: of this package that brings what it needs; empty = nothing.
        needs: modules that have to be there.

    """

    name: str
    about: str
    write: Write
    extra: str = ""
    needs: tuple[str, ...] = ()


FILES = frozenset(
    {
        *("backbone.safetensors", "decoder.safetensors", "decoder.pt2", "task.json"),
        *("adapter_config.json", "adapter_model.safetensors", "model.xml", "model.bin"),
        *("delta.safetensors", "record.json", "README.md"),
    }
)
"""That formats write into folders."""

_FORMATS: dict[str, Format] = {}


def formats() -> dict[str, Format]:
    """All formats by name."""
    for module in _MODULES:
        importlib.import_module(f"benchmark.export.{module}")
    return dict(_FORMATS)


_MODULES = ("single_file", "merged", "peft_folder", "folder")


def register_format(
    name: str, about: str, extra: str = "", needs: Sequence[str] = ()
) -> Callable[[Write], Write]:
    """Decorator of the function that writes a format."""

    def add(write: Write) -> Write:
        _FORMATS[name] = Format(name, about, write, extra, tuple(needs))
        return write

    return add


def format_named(name: str) -> Format:
    """A format by its name, with what it needs there.

    Raises:
        UserError: there is no such format, or a package is missing.
    """
    known = formats()
    if name not in known:
        raise UserError(f"unknown format {name!r}; choose from {', '.join(known)}")
    chosen = known[name]
    require_packages(f"--format {name}", chosen.extra, chosen.needs)
    return chosen


def require_packages(what: str, extra: str, needs: Sequence[str]) -> None:
    """Raises UserError, naming the extra, where a module is not installed."""
    missing = [module for module in needs if not _installed(module)]
    if missing:
        raise UserError(
            f"{what} needs {', '.join(missing)}; python -m pip install 'petseg-bench[{extra}]'"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # put into sys.modules by hand, or taken out as None
        return False


def export(trained: Trained, name: str, out: Path, force: bool = False) -> Written:
    """Writes a run in a format; a file or folder that fails its check is removed again.

    Args:
        trained: the run.
        name: of the format.
        out: file or folder to write.
        force: whether what is there is replaced.

    Raises:
        UserError: the format is unknown or does not suit the run, something is in the way, or the
            result does not agree with the network.
    """
    chosen = format_named(name)
    with draft(out, force) as path:
        return chosen.write(trained, path)


@contextmanager
def draft(out: Path, force: bool) -> Iterator[Path]:
    """A path beside `out`, which takes its place when the block ends without an exception.

    Raises:
        UserError: `out` is there and must not be replaced, holds something else than an export, or
            cannot be written.
    """
    if out.exists() and not force:
        raise UserError(f"--out {out} exists; choose another path, or replace it with --force")
    _require_export(out)
    if not out.name or not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    path = draft_beside(out)
    try:
        yield path
        if out.is_dir():
            shutil.rmtree(out)
        elif path.is_dir():
            out.unlink(missing_ok=True)
        path.replace(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror or error})") from error
    finally:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _require_export(out: Path) -> None:
    """Raises UserError where a folder has files in it that no export writes: they would be lost."""
    held = out.iterdir() if out.is_dir() else ()
    others = sorted(path.name for path in held if path.name not in FILES)
    if others:
        raise UserError(
            f"--out {out} holds {others[0]}, which no export writes, so it is not replaced; choose "
            "another folder"
        )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def write_json(path: Path, content: object) -> None:
    """Writes JSON that a person can read."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file.

    Not by the library's own writer: its file is for the eyes of its owner alone, and its errors of
    the disk are no OSError.
    """
    state = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(state, None if metadata is None else dict(metadata)))
