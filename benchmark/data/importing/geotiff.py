"""GeoTIFF: rasters in `images/`, and masks of the same names in `labels/` or `masks/`.

A mask has one band of whole numbers on the grid of its image; `--classes` names the numbers.
Nodata and 255 are void unless they are named. Folders called train, val and test within both are
the splits.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE
from benchmark.data.custom.folder import files_by_stem
from benchmark.data.importing.annotated import (
    AnnotatedSet,
    Picture,
    Shape,
    Source,
    categories_of,
    split_named,
)
from benchmark.data.importing.images import open_raster
from benchmark.data.importing.raster import VOID, Canvas, looked_up

MASKS = ("labels", "masks")
TIFF = (".tif", ".tiff")
_NAN = 2**40
"""Stands for NaN among whole numbers."""


def fits(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return any(
        files_by_stem(folder / name, suffixes=TIFF) for name in MASKS if (folder / name).is_dir()
    )


def read(source: Source) -> AnnotatedSet:
    """Reads a folder.

    Raises:
        DataError: an image or mask is missing, or nothing names the values of masks.
    """
    there = [source.path / name for name in MASKS if (source.path / name).is_dir()]
    folder = source.images.root if source.images.given else source.path / "images"
    masks = files_by_stem(there[0], suffixes=TIFF) if there else {}
    if not masks:
        raise DataError(f"{source.path} holds no TIFF masks in labels/ or masks/; put them there")
    images = files_by_stem(folder)
    if missing := sorted(masks.keys() - images.keys()):
        raise DataError(
            f"{masks[missing[0]]} has no image in {folder}; put it there, or name the folder by "
            "--images"
        )
    if bare := sorted(images.keys() - masks.keys()):
        raise DataError(f"{images[bare[0]]} has no mask in {there[0]}; put it there")
    if not source.names:
        raise DataError(
            f"{source.path}: nothing names the values of the masks (such as {_values(masks)}); use "
            "--classes 0=background,1=road,..."
        )
    categories, numbers = categories_of(source.names)
    numbers.setdefault(IGNORE, VOID)
    result = AnnotatedSet(categories, [], complete=True)
    for stem, mask in masks.items():
        shapes = [Shape(str(mask), partial(_draw, mask, images[stem], numbers))]
        split = split_named(stem.split("/")[0]) if "/" in stem else None
        result.pictures.append(Picture(images[stem], str(mask), shapes, split))
    return result


def _values(masks: dict[str, Path]) -> str:
    """The lowest values of some masks."""
    found: set[float] = set()
    for path in list(masks.values())[:20]:
        with open_raster(path) as raster:
            values = raster.read(1)
        if values.dtype.kind in "iuf":
            found |= {*np.unique(values)[:10].tolist()}
    return ", ".join(f"{value:g}" for value in sorted(found)[:10])


def _draw(path: Path, image: Path, numbers: dict[int, int], canvas: Canvas) -> None:
    with open_raster(path) as raster:
        canvas.check_size(raster.width, raster.height)
        if raster.count != 1:
            raise ValueError(f"it has {raster.count} bands, not one of class numbers")
        if image.suffix.lower() in TIFF:
            _check_grid(raster, image)
        values, nodata = raster.read(1), raster.nodata
    numbers = dict(numbers)
    if values.dtype.kind == "f":
        whole = (values == np.floor(values)) & (np.abs(values) < _NAN)
        if not (whole | np.isnan(values)).all():
            raise ValueError("it holds fractions, not class numbers")
        numbers[_NAN] = VOID
        values = np.where(whole, values, _NAN).astype(np.int64)
    elif values.dtype.kind not in "iu":
        raise ValueError(f"it stores {values.dtype}, not class numbers")
    if nodata is not None and np.isfinite(nodata):
        numbers.setdefault(int(nodata), VOID)
    canvas.label[:] = looked_up(values, numbers)


def _check_grid(mask: Any, image: Path) -> None:
    """Checks that a mask covers the ground that its image covers, where both say what that is."""
    with open_raster(image) as raster:
        if mask.crs is None or raster.crs is None:
            return
        if mask.crs != raster.crs:
            raise ValueError(
                f"it is in {mask.crs}, but its image in {raster.crs}; warp it to the image's grid"
            )
        far = np.abs(np.subtract(mask.bounds, raster.bounds)) > np.tile(raster.res, 2) / 2
        if far.any():
            raise ValueError(
                "it covers a different area than its image; warp it to the image's grid"
            )
