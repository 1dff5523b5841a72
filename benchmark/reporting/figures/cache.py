"""Figures of the last report, used again where nothing that they show has changed."""

import hashlib
import io
import pickle
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from benchmark.reporting.figures.picture import Picture


class FigureCache:
    """A folder with a hidden name for each figure: a hash of its data and of the code.

    If it cannot be read or written, figures are drawn again.
    """

    def __init__(self, folder: Path | None) -> None:
        """Nothing is kept where the folder is None; else it is made when it is needed."""
        self.folder = folder
        self._used: set[str] = set()
        self._tables: dict[int, tuple[pd.DataFrame, str]] = {}

    def fetch(self, picture: Picture, into: Path) -> list[Path] | None:
        """Copies a figure's files; returns them, or None where it must be drawn."""
        found = None if self.folder is None else self.folder / self._name(picture)
        if found is None or not found.is_dir():
            return None
        try:
            ends = (found / "ends").read_text("ascii").split()
            return [
                Path(shutil.copyfile(found / f"figure{end}", into / f"{picture.stem}{end}"))
                for end in ends
            ]
        except (OSError, ValueError):
            return None

    def keep(self, picture: Picture, files: Sequence[Path]) -> None:
        """Keeps the files of a figure that was drawn."""
        if self.folder is None:
            return
        with suppress(OSError):
            place = self.folder / self._name(picture)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, place / f"figure{file.suffix}")
            # Last: a folder without it is not whole.
            (place / "ends").write_text(" ".join(file.suffix for file in files), "ascii")

    def forget_others(self) -> None:
        """Removes figures that were neither fetched nor kept."""
        if self.folder is not None and self.folder.is_dir():
            with suppress(OSError):
                for place in self.folder.iterdir():
                    if place.name not in self._used:
                        shutil.rmtree(place, ignore_errors=True)

    def _name(self, picture: Picture) -> str:
        stream = io.BytesIO()
        # Written only, never loaded.
        _Pickler(stream, self._tables).dump((picture.stem, picture.draw))
        name = hashlib.sha256(_code() + stream.getvalue()).hexdigest()[:32]
        self._used.add(name)
        return name


class _Pickler(pickle.Pickler):
    """Writes a hash in the place of a table: many figures show the same large one."""

    def __init__(self, stream: io.BytesIO, tables: "dict[int, tuple[pd.DataFrame, str]]") -> None:
        super().__init__(stream, protocol=4)
        self._tables = tables

    def persistent_id(self, thing: object) -> str | None:
        """Of a table; None for all else, which is pickled."""
        if not isinstance(thing, pd.DataFrame):
            return None
        if id(thing) not in self._tables:
            digest = hashlib.sha256(pickle.dumps(thing, protocol=4)).hexdigest()
            self._tables[id(thing)] = thing, digest  # kept: its id stays its own
        return self._tables[id(thing)][1]


@cache
def _code() -> bytes:
    """Hash of everything that draws."""
    digest = hashlib.sha256(f"{matplotlib.__version__} {np.__version__}\n".encode())
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
