"""Reading of benchmark files from disk, with errors that say what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from benchmark.core.errors import DataError, on_one_line
from benchmark.data.base import IGNORE, Benchmark
from benchmark.data.pixels import Unfit, brightness, image_bytes, label_colours, label_values

OWN = "your own source"
"""The origin of a user's files: what can be done about them is up to the user."""


class FolderBenchmark(Benchmark):
    """A benchmark whose files are in `folder` below the data root.

    Attributes:
        path: the folder itself.

    Raises:
        DataError: there is no data root, or the folder is not in it.
    """

    folder: ClassVar[str]

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        if root is None:
            raise DataError(
                f"{self.name}: no data root is given; set BENCHMARK_DATA or --data to the folder "
                f"that holds '{self.folder}' (from {self.origin})"
            )
        self.path = Path(root) / self.folder
        if not self.path.is_dir():
            raise DataError(
                f"{self.name}: the folder {self.path} is missing; fetch it from {self.origin}, "
                f"or set BENCHMARK_DATA or --data to the folder that holds '{self.folder}'"
            )


def stems(folder: Path, pattern: str, origin: str) -> list[str]:
    """Sorted file names without suffix, of the files in `folder` that match `pattern`.

    Raises:
        DataError: the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"the folder {folder} is missing; fetch it again from {origin}")
    # File managers and archives leave `._001.png` beside `001.png`; those are not images.
    return sorted(p.stem for p in folder.glob(pattern) if not p.name.startswith("."))


def read_with(path: Path, origin: str, decode: Callable[[BinaryIO], Any]) -> Any:
    """What `decode` makes of an open file; its failures become a `DataError`.

    Args:
        path: of the file.
        origin: where to fetch it again; `OWN` for a user's own.
        decode: is given the file at its beginning.

    Raises:
        DataError: the file is missing, not permitted to be read, cannot be decoded, or holds what
            is not read (`Unfit`).
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise DataError(f"{path} is not a regular file; remove it, or fetch it again from {origin}")
    try:
        with path.open("rb") as file:
            return decoded(file, str(path), origin, decode)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; fetch it again from {origin}") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise DataError(f"{path} cannot be read ({on_one_line(error)})") from error


def decoded(file: BinaryIO, where: str, origin: str, decode: Callable[[BinaryIO], Any]) -> Any:
    """What `decode` makes of an open file, which comes from `where`; see `read_with`."""
    try:
        return decode(file)
    except Unfit as reason:
        fix = reason.fix if origin == OWN else f"fetch it again from {origin}"
        raise DataError(f"{where} {reason.what}; {fix}") from reason
    except Exception as error:
        # Damage can raise almost any exception in the decoders.
        raise DataError(f"{where} is truncated or damaged; fetch it again from {origin}") from error


def read_rgb(path: Path, origin: str) -> np.ndarray:
    """An image of any mode as (H, W, 3) uint8 RGB, upright; palettes are resolved.

    Raises:
        DataError: the file is missing, damaged, or not a photograph of 8 or 16 bits.
    """
    return read_with(path, origin, image_bytes)


def read_gray(path: Path, origin: str) -> np.ndarray:
    """Brightness (H, W) uint8, 0..255, for masks whose meaning is how bright they look.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_with(path, origin, brightness)


def read_colours(path: Path, origin: str) -> np.ndarray:
    """Colours (H, W, 3) uint8, for masks that store a colour for each class.

    Raises:
        DataError: the file is missing, damaged, compressed with loss, or has not 8 bits.
    """
    return read_with(path, origin, label_colours)


def read_indexed(path: Path, origin: str) -> np.ndarray:
    """Stored values (H, W) uint8, for masks that store class indices; palettes stay unresolved.

    Raises:
        DataError: the file is missing, damaged, compressed with loss, or has not one channel of
            8 bits.
    """
    values, _ = read_with(path, origin, label_values)
    if values.dtype != np.uint8:
        raise DataError(
            f"{path} stores class numbers of {values.dtype}, not of 8 bits; fetch it again from "
            f"{origin}"
        )
    return values


def remap(raw: np.ndarray, table: np.ndarray, where: str) -> np.ndarray:
    """Replaces raw value v by table[v]; values beyond the table stay, for the audit to report.

    Args:
        raw: (H, W) uint8.
        table: (n,) uint8, at least as long as the benchmark has classes.
        where: the label file, for the error.

    Raises:
        DataError: a raw value is 255, which as it is would pass for void.
    """
    if (raw == IGNORE).any():
        raise DataError(
            f"{where}: label value {IGNORE} is out of range; "
            f"the files of its origin store 0..{len(table) - 1}"
        )
    full = np.arange(256, dtype=np.uint8)
    full[: len(table)] = table
    return full[raw]
