"""MTD: defects on the surface of magnetic tiles.

Format: one folder per defect, `mtd/MT_<Defect>/Imgs/<name>.jpg` (grey, of many sizes) with a mask
`<name>.png` (grey, anti-aliased edges). `MT_Free` holds tiles without defect and empty masks; a few
masks in `MT_Uneven` are empty too.

Classes: background, and five defects named by their folder; a pixel belongs to the defect where
its mask is at least 128. Void: none. Splits: 60/10/30 carved by a fixed seed within each folder.
Most defects were photographed several times under other exposures (`exp1` to `exp6`), and photos
of one tile may fall into different splits: scores compare methods, they do not show how well a
method does on tiles never seen.

Licence: free use, cite.

Citation: Y. Huang, C. Qiu, K. Yuan, "Surface defect saliency of magnetic tile", The Visual
Computer 36, 2020.
"""

from pathlib import Path

import numpy as np

from benchmark.data.base import Source, Split, carve, register
from benchmark.data.files import FolderBenchmark, read_gray, read_rgb, stems

FOLDERS = {
    "MT_Free": 0,
    "MT_Blowhole": 1,
    "MT_Break": 2,
    "MT_Crack": 3,
    "MT_Fray": 4,
    "MT_Uneven": 5,
}


@register("mtd")
class MTD(FolderBenchmark):
    """Magnetic tiles; carved splits, stratified by defect."""

    title = "MTD: surface defects of magnetic tiles"
    domain = "industrial surface"
    classes = ("background", "blowhole", "break", "crack", "fray", "uneven")
    folder = "mtd"
    origin = "https://github.com/abin24/Magnetic-tile-defect-datasets. @ cc4eb530"
    licence = "free use, cite"
    citation = (
        "Huang, Qiu, Yuan: Surface defect saliency of magnetic tile. The Visual Computer 36, 2020"
    )
    sources = (
        Source(
            "https://github.com/abin24/Magnetic-tile-defect-datasets./archive/cc4eb530.zip",
            folder,
            inside="*",
            bytes=56_000_000,
        ),
    )

    def ids(self, split: Split) -> list[str]:
        """Ids such as `MT_Fray/exp6_num_77744`."""
        strata = {
            f"{name}/{stem}": name
            for name in FOLDERS
            for stem in stems(self.path / name / "Imgs", "*.jpg", self.origin)
        }
        return carve(list(strata), (0.6, 0.1, 0.3), strata)[split]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, mask = self.files(id)
        defect = np.uint8(FOLDERS[id.split("/")[0]])
        return read_rgb(image, self.origin), (read_gray(mask, self.origin) >= 128) * defect

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        folder, stem = id.split("/")
        images = self.path / folder / "Imgs"
        return images / f"{stem}.jpg", images / f"{stem}.png"
