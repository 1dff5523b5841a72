"""Which files a user means by paths, folders and globs, and what their results are called."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm", ".pgm")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
"""Suffixes of the files that are taken from a folder; a file that is named may have any."""

RESULTS = MASKS, OVERLAYS = "masks", "overlays"
"""Folders of results, beside their table."""

TABLE = "classes.csv"


@dataclass(frozen=True)
class Input:
    """A file to predict.

    Attributes:
        path: of the file.
        name: of its results, below the folder of the results and without suffix.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it holds frames."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(given: Sequence[str | Path], but: Sequence[Path] = ()) -> list[Input]:
    """The files that are meant, sorted, each once.

    Results are named as the files are, below the folder that is named, or else below the innermost
    folder that holds all that is named.

    Args:
        given: files, folders, which are searched with all folders in them, and globs.
        but: folders that are left out, because results are written there.

    Raises:
        UserError: there is no such file, nothing was found, or two files would have results of one
            name.
    """
    roots: list[Path] = []
    found: dict[Path, None] = {}
    left_out = [_absolute(folder) for folder in but]
    for text in given:
        paths = _matching(str(text))
        roots += [path if path.is_dir() else path.parent for path in paths]
        for path in paths:
            files = sorted(_in_folder(path, left_out)) if path.is_dir() else [path]
            if not files and len(paths) == 1:
                raise UserError(
                    f"{path} holds no images or videos ({', '.join((*IMAGES, *VIDEOS))})"
                )
            found |= dict.fromkeys(files)
    if not found:
        raise UserError("nothing to predict; name images, folders or videos")
    above = Path(os.path.commonpath([*map(str, roots)]))
    inputs = [Input(path, path.relative_to(above).with_suffix("")) for path in found]
    first: dict[Path, Input] = {}
    for one in inputs:
        other = first.setdefault(one.name, one)
        if other is not one:
            raise _same_place(other, one)
    for one in inputs:  # frames have a folder of the video's name
        other = first.get(one.name.parent, one)
        if other.is_video and other is not one:
            raise _same_place(other, one)
    return inputs


def _same_place(one: Input, other: Input) -> UserError:
    return UserError(
        f"the results of {one.path} and {other.path} would both be in {one.name}; rename one of "
        "them, or predict them into two folders"
    )


def _absolute(path: Path) -> Path:
    # Not `resolve`: where a link is named, its own name counts.
    return Path(os.path.abspath(path))


def _matching(text: str) -> list[Path]:
    """The file or folder of a name, or all that match a glob."""
    try:
        if os.path.lexists(text):
            return [_absolute(Path(text))]
        if set(text) & set("*?["):
            if paths := sorted(glob.glob(text, recursive=True)):
                return [_absolute(Path(path)) for path in paths]
            raise UserError(f"{text}: nothing matches; check the pattern")
    except ValueError as error:  # a NUL in its name
        raise UserError(f"{text}: {error}; check the path") from error
    raise UserError(f"{text}: no such file or folder; check the path")


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror}); change its permissions")


def _in_folder(folder: Path, left_out: Sequence[Path]) -> Iterator[Path]:
    for place, names, files in os.walk(folder, onerror=_unreadable):
        here = Path(place)
        written = RESULTS if TABLE in files else ()  # by `predict`, perhaps of another run
        names[:] = [
            n for n in names if n[0] != "." and here / n not in left_out and n not in written
        ]
        for name in files:
            if name[0] != "." and Path(name).suffix.lower() in (*IMAGES, *VIDEOS):
                yield here / name
