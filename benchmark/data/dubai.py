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

from pathlib import Path

import numpy as np

from benchmark.data.base import IGNORE, Split, register
from benchmark.data.files import FolderBenchmark, read_rgb, stems
from benchmark.errors import DataError

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
        r, g, b = np.moveaxis(read_rgb(mask, self.origin).astype(np.int32), -1, 0)
        colour = (r << 16) | (g << 8) | b
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


def _split(part: int) -> Split:
    return "train" if part <= 6 else "val" if part == 7 else "test"
