"""Dubai: satellite images of a city and its surroundings.

Format: `dubai/Semantic segmentation dataset/Tile <n>/images/image_part_<nnn>.jpg` with colour
masks `Tile <n>/masks/image_part_<nnn>.png` (some with a palette), nine parts per tile, from
509 x 544 to 2149 x 1480. The colours of the masks are those in `COLOURS`, not those in the set's
`classes.json`.

Classes: 5. Void: "unlabeled", and pure black. Splits, within each tile: parts 001-006 train,
007 val, 008-009 test.

Licence: CC0 upstream.

Citation: Humans in the Loop, Mohammed Bin Rashid Space Center, "Semantic segmentation of aerial
imagery", 2020.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, Finding, Source, Split, register
from benchmark.data.files import FolderBenchmark, read_colours, read_rgb, read_with, stems

COLOURS = {
    0x3C1098: 0,
    0x8429F6: 1,
    0x6EC1E4: 2,
    0xFEDD3A: 3,
    0xE2A929: 4,
    0x9B9B9B: IGNORE,
    0x000000: IGNORE,
}
_KEYS = np.array(sorted(COLOURS), dtype=np.int32)
_VALUES = np.array([COLOURS[key] for key in sorted(COLOURS)], dtype=np.uint8)


@register("dubai")
class Dubai(FolderBenchmark):
    """Satellite images; split by part within each tile."""

    title = "Dubai: land use in satellite images"
    domain = "aerial"
    classes = ("building", "land", "road", "vegetation", "water")
    folder = "dubai/Semantic segmentation dataset"
    origin = (
        "https://github.com/Kaarti22/satellite-imagery @ 4943c52893, Semantic segmentation dataset/"
    )
    licence = "CC0"
    citation = (
        "Humans in the Loop, Mohammed Bin Rashid Space Center: Semantic segmentation of aerial "
        "imagery. 2020"
    )
    colours = tuple(f"#{colour:06X}" for colour, value in COLOURS.items() if value != IGNORE)
    sources = (
        Source(
            "https://github.com/Kaarti22/satellite-imagery/archive/4943c52893.zip",
            folder,
            inside="*/Semantic segmentation dataset",
            bytes=27_000_000,
        ),
    )

    def ids(self, split: Split) -> list[str]:
        """Ids such as `Tile 1/image_part_001`."""
        tiles = sorted(path.name for path in self.path.glob("Tile *") if path.is_dir())
        return [
            f"{tile}/{part}"
            for tile in tiles
            for part in stems(
                self.path / tile / "images", "image_part_[0-9][0-9][0-9].jpg", self.origin
            )
            if _split(int(part[-3:])) == split
        ]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        photo, mask = self.files(id)
        image = read_rgb(photo, self.origin)
        colour = _packed(read_colours(mask, self.origin))
        index = np.searchsorted(_KEYS, colour).clip(max=len(_KEYS) - 1)
        unknown = _KEYS[index] != colour
        if unknown.any():
            raise DataError(
                f"{self.where(id)}: colour #{int(colour[unknown][0]):06X} belongs to no class; "
                f"fetch it again from {self.origin}"
            )
        return image, _VALUES[index]

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        tile, part = id.split("/")
        folder = self.path / tile
        return folder / "images" / f"{part}.jpg", folder / "masks" / f"{part}.png"

    def scale(self, height: int, width: int) -> float:
        """The tiles are large against what a road or a house measures in them."""
        return 0.6

    def oddities(self) -> Iterator[Finding]:
        """Compares the colours of `classes.json` with those in one mask of each tile."""
        path = self.path / "classes.json"
        if not path.is_file():
            return
        stated = read_with(path, self.origin, _stated)
        found: set[int] = set()
        for mask in sorted(self.path.glob("Tile */masks/image_part_001.png")):
            found |= set(np.unique(_packed(read_colours(mask, self.origin))).tolist())
        # Black is void at the edges of the masks and is in no list.
        strange = sorted(found - set(stated.values()) - {0})
        if strange:
            unused = [f"{name} #{c:06X}" for name, c in stated.items() if c not in found]
            yield Finding(
                "note",
                f"{path}: its colours are not those of the masks; it states "
                f"{', '.join(unused) or 'no others'}, but the masks show "
                f"{', '.join(f'#{c:06X}' for c in strange)}",
                "do not use the file; the loader goes by the colours of the masks",
            )


def _packed(rgb: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) as one number 0xRRGGBB each."""
    r, g, b = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return (r << 16) | (g << 8) | b


def _stated(file: BinaryIO) -> dict[str, int]:
    """Colour of each class by its title, as `classes.json` has it."""
    return {
        entry["title"]: int(entry["color"].removeprefix("#"), 16)
        for entry in json.load(file)["classes"]
    }


def _split(part: int) -> Split:
    return "train" if part <= 6 else "val" if part == 7 else "test"
