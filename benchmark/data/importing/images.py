"""The image files that annotations name."""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from benchmark.core.errors import DataError, on_one_line, shown
from benchmark.data.custom.folder import IMAGES
from benchmark.data.importing.raster import library

_LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Pixels; Pillow refuses to read larger images."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


class Images:
    """Files below a folder, found by the names that annotations give them.

    Args:
        root: the folder.
        given: whether the user named it. Then folders that a name begins with may be missing.
    """

    def __init__(self, root: Path, given: bool) -> None:
        self.root = root
        self.given = given

    @cached_property
    def _files(self) -> dict[str, list[tuple[str, ...]]]:
        """Paths below the root, as parts, by file name; without hidden ones."""
        found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        seen: set[str] = set()
        for folder, inside, names in os.walk(self.root, followlinks=True):
            # A link may lead back to a folder above it.
            real = os.path.realpath(folder)
            inside[:] = sorted(name for name in inside if not name.startswith("."))
            if real in seen:
                inside.clear()
                continue
            seen.add(real)
            parts = Path(folder).relative_to(self.root).parts
            for name in sorted(names):
                if not name.startswith("."):
                    found[name].append((*parts, name))
        return found

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, in any folder."""
        return name in self._files

    def find(
        self,
        name: str,
        beside: Path,
        where: str,
        hints: Sequence[str] = (),
        foreign: bool = False,
    ) -> Path:
        """The image of a name.

        Args:
            name: as the annotation has it; may hold folders.
            beside: the folder of the annotation.
            where: the annotation, for errors.
            hints: names of folders; of several images of the name, the one in all of them that
                hold one.
            foreign: whether the folders in the name are those of another machine.

        Raises:
            DataError: there is none, or there are several; the name leads out of the folder; the
                file is no image of a kind that is read.
        """
        foreign = foreign or self.given
        parts = self._inside(name, beside, where, foreign)
        ends = [parts[k:] for k in range(len(parts))] if foreign else [parts]
        matches: list[tuple[str, ...]] = []
        for end in ends:
            known = self._files.get(end[-1], []) if end else []
            matches = [path for path in known if path[-len(end) :] == end]
            if matches:
                break
        else:
            raise DataError(
                f"{where}: its image {shown(name)} is not in {self.root}; put it there, or name "
                "the folder of the images by --images"
            )
        path = self._one(matches, parts, beside, name, where, hints)
        if path.suffix.lower() not in IMAGES:
            raise DataError(f"{where}: {path} is none of {', '.join(IMAGES)}; convert the image")
        return path

    def _inside(self, name: str, beside: Path, where: str, foreign: bool) -> tuple[str, ...]:
        """The parts of a name below the root."""
        plain = name.replace("\\", "/")
        rooted = plain.startswith("/") or re.match(r"[A-Za-z]:", plain) is not None
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if rooted or ".." in parts:
            if foreign:
                last = max((k for k, part in enumerate(parts) if part == ".."), default=-1)
                return tuple(parts[last + 1 :])
            full = os.path.normpath(
                plain if rooted else os.path.join(os.path.abspath(beside), plain)
            )
            root = os.path.abspath(self.root)
            if not Path(full).is_relative_to(root):
                raise DataError(
                    f"{where}: the path {shown(name)} of its image leads out of {self.root}; name "
                    "the folder of the images by --images"
                )
            return Path(full).relative_to(root).parts
        return tuple(parts)

    def _one(
        self,
        matches: list[tuple[str, ...]],
        parts: tuple[str, ...],
        beside: Path,
        name: str,
        where: str,
        hints: Sequence[str],
    ) -> Path:
        """The match that is meant."""
        paths = [self.root.joinpath(*match) for match in matches]
        if len(paths) == 1:
            return paths[0]
        for exact in (beside.joinpath(*parts), self.root.joinpath(*parts)):
            if exact in paths:
                return exact
        # Masks often have the names of their images.
        for hint in (*hints, "images"):
            inside = [path for path in paths if hint in path.relative_to(self.root).parts]
            paths = inside or paths
        # Several paths through links may lead to one file.
        if len({os.path.realpath(path) for path in paths}) == 1:
            return paths[0]
        raise DataError(
            f"{where}: {paths[0]} and {paths[1]} are both called {shown(name)}; name the folder "
            "of the images by --images"
        )


def by_stem(folder: Path, suffixes: Sequence[str] = IMAGES) -> dict[str, Path]:
    """Files below a folder by their relative name without suffix; without hidden ones.

    Raises:
        DataError: two files differ in their suffix only.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(p.startswith(".") for p in inside.parts):
            continue
        stem = inside.with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{found[stem]} and {path} have the same name; rename or remove one")
        found[stem] = path
    return found


def exists(path: Path) -> bool:
    """Whether there is something at a path that may come from a file, and be none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is shown: its EXIF orientation applied.

    Only its header is read.

    Raises:
        DataError: it cannot be read, or is too large to.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    except UnidentifiedImageError as error:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise DataError(f"{path} is no image; fetch it again, or unlist it") from error
        return raster_size(path)  # a kind of TIFF that Pillow does not know
    except Exception as error:
        # Decoders report damage by whatever exception the damage happens to trigger.
        raise DataError(f"{path} cannot be read ({on_one_line(error)}); fetch it again") from error
    return (height, width) if sideways else (width, height)


def raster_size(path: Path) -> tuple[int, int]:
    """Width and height of a GeoTIFF.

    Raises:
        DataError: it cannot be read, or is too large to.
    """
    with open_raster(path) as raster:
        return raster.width, raster.height


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """A GeoTIFF, opened by rasterio.

    Raises:
        DataError: it cannot be read, also within the block, or is too large to.
    """
    rasterio = library("rasterio")
    try:
        with warnings.catch_warnings():
            # A TIFF without coordinates is as good a label.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            raster = rasterio.open(path, driver="GTiff")
        with raster:
            if raster.width * raster.height > _LARGEST:
                raise DataError(
                    f"{path} has {raster.width}x{raster.height} px, more than {_LARGEST:,}; cut it "
                    "into tiles"
                )
            yield raster
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path} cannot be read ({on_one_line(error)}); fetch it again") from error
