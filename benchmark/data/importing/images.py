"""The image files that annotations name."""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from benchmark.core.errors import DataError, on_one_line, shown
from benchmark.data.custom.folder import IMAGES, files_below
from benchmark.data.importing.raster import library

_LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Pixels; Pillow refuses to read larger images."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


Parts = tuple[str, ...]
"""A path below a folder."""


class Named(NamedTuple):
    """An image as an annotation names it.

    Attributes:
        name: may hold folders.
        where: the annotation, for errors.
    """

    name: str
    where: str


class Images:
    """Files below a folder, found by the names that annotations give them.

    Args:
        root: the folder.
        given: whether the user named it. Then folders that names begin with may be missing.
    """

    def __init__(self, root: Path, given: bool) -> None:
        self.root = root
        self.given = given

    @cached_property
    def _files(self) -> dict[str, list[Parts]]:
        """Paths below the root, by the name of the file."""
        found: dict[str, list[Parts]] = defaultdict(list)
        for path in files_below(self.root):
            found[path.name].append(path.relative_to(self.root).parts)
        return found

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, in any folder."""
        return name in self._files

    def find(
        self,
        named: Sequence[Named],
        beside: Path,
        hints: Sequence[str] = (),
        foreign: bool = False,
    ) -> list[Path]:
        """The images of one annotation file, all of which are named relative to one folder.

        So an image that is missing is never taken from another folder, which may hold masks, or
        another split, of the same names.

        Args:
            named: the images.
            beside: the folder of the annotations.
            hints: names of folders that decide between several which hold the images.
            foreign: whether the folders in names are those of another machine.

        Raises:
            DataError: an image is missing, or no kind that is read; several folders hold them; a
                name leads out of the root.
        """
        foreign = foreign or self.given
        ends = [self._inside(one, beside, foreign) for one in named]
        folder: Parts = ()
        stripped = 0
        for strip in self._strips(ends) if foreign else (0,):
            counts = self._folders([_stripped(end, strip) for end in ends])
            if counts:
                folder, stripped = self._one(counts, beside, hints), strip
                break
        return [
            self._image((*folder, *_stripped(end, stripped)), one, self.root.joinpath(*folder))
            for one, end in zip(named, ends, strict=True)
        ]

    def beside(self, one: Named, folder: Path) -> Path:
        """The image of an annotation that names it relative to its own folder.

        Raises:
            DataError: it is missing, or no kind that is read; its name leads out of the root.
        """
        return self._image(self._below(one, folder), one, folder)

    def _image(self, parts: Parts, one: Named, folder: Path) -> Path:
        """An image at its place below the root.

        Raises:
            DataError: it is missing, or no kind that is read.
        """
        if not parts or parts not in self._files.get(parts[-1], []):
            raise DataError(
                f"{one.where}: its image {shown(one.name)} is not in {folder}; put it there, or "
                "name the folder of the images by --images"
            )
        path = self.root.joinpath(*parts)
        if path.suffix.lower() not in IMAGES:
            raise DataError(
                f"{one.where}: {path} is none of {', '.join(IMAGES)}; convert the image"
            )
        return path

    def _strips(self, ends: list[Parts]) -> range:
        """How many folders may be taken off names before they can be below the root."""
        longest = max(map(len, ends), default=0)
        deepest = max((len(path) for paths in self._files.values() for path in paths), default=0)
        return range(max(0, longest - deepest), longest)

    def _folders(self, ends: list[Parts]) -> dict[Parts, set[Parts]]:
        """Which of some paths each folder holds, where it holds any."""
        held: dict[Parts, set[Parts]] = defaultdict(set)
        for end in ends:
            for path in self._files.get(end[-1], []) if end else []:
                if path[-len(end) :] == end:
                    held[path[: -len(end)]].add(path)
        return held

    def _one(self, held: dict[Parts, set[Parts]], beside: Path, hints: Sequence[str]) -> Parts:
        """The folder that is meant, of those that hold images of some names.

        Raises:
            DataError: it cannot be told.
        """
        most = max(map(len, held.values()))
        # By chance, others hold a few.
        folders = [folder for folder, paths in held.items() if 2 * len(paths) >= most]
        for exact in (os.path.relpath(beside, self.root), "."):
            if Path(exact).parts in folders:
                return Path(exact).parts
        # Masks often have the names of their images.
        for hint in (*hints, "images"):
            folders = [folder for folder in folders if hint in folder] or folders
        if len(folders) > 1:
            folders = self._without_links(folders, held)
        if len(folders) > 1:
            first, second = (self.root.joinpath(*folder) for folder in folders[:2])
            raise DataError(
                f"{first} and {second} hold images of the same names; say which to take by --images"
            )
        return folders[0]

    def _without_links(self, folders: list[Parts], held: dict[Parts, set[Parts]]) -> list[Parts]:
        """Folders but for those whose files are all in another, as of a set imported before."""
        files = {
            folder: {os.path.realpath(self.root.joinpath(*path)) for path in held[folder]}
            for folder in sorted(folders, key=lambda folder: -len(held[folder]))
        }
        kept: list[Parts] = []
        for folder, real in files.items():
            if not any(real <= files[other] for other in kept):
                kept.append(folder)
        return kept

    def _inside(self, one: Named, beside: Path, foreign: bool) -> Parts:
        """The folders and the file of a name.

        Raises:
            DataError: it leads out of the root.
        """
        plain = _plain(one.name)
        rooted = plain.startswith("/") or re.match(r"[A-Za-z]:", plain) is not None
        parts = tuple(part for part in plain.split("/") if part not in ("", "."))
        if foreign and ".." in parts:
            return parts[len(parts) - parts[::-1].index("..") :]
        if foreign or not (rooted or ".." in parts):
            return parts
        return self._below(one, beside)

    def _below(self, one: Named, folder: Path) -> Parts:
        """A name relative to a folder, as a path below the root.

        Raises:
            DataError: it leads out of the root.
        """
        if re.match(r"[A-Za-z]:[/\\]", one.name):
            raise DataError(
                f"{one.where}: the path {shown(one.name)} of its image is of another machine; name "
                "the folder of the images here by --images"
            )
        root = os.path.abspath(self.root)
        full = os.path.normpath(os.path.join(os.path.abspath(folder), _plain(one.name)))
        if not Path(full).is_relative_to(root):
            raise DataError(
                f"{one.where}: the path {shown(one.name)} of its image leads out of {self.root}; "
                "name the folder of the images by --images"
            )
        return Path(full).relative_to(root).parts


def _plain(name: str) -> str:
    return name.replace("\\", "/")


def _stripped(end: Parts, count: int) -> Parts:
    """A path without its first folders."""
    return end[min(count, max(0, len(end) - 1)) :]


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
            raise DataError(
                f"{path} is not an image; fetch it again, or remove it from the list"
            ) from error
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
