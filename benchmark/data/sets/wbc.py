"""WBC: white blood cells under the microscope, from two laboratories with different stains.

Format: `wbc/Dataset 1/<nnn>.bmp` (about 120 x 120) and `wbc/Dataset 2/<nnn>.bmp` (300 x 300),
each with a mask `<nnn>.png` of greys.

Classes: background (black, 0; red blood cells too), cytoplasm (grey, 128), nucleus (white, 255);
a few stray greys go to the nearest of the three. Void: none. Splits: 60/10/30 carved by a fixed
seed within each of the two sets.

Licence: GPL-3 file at the origin; cite. Dataset 1 is due to Jiangxi Tecom Science Corporation,
Dataset 2 to the CellaVision blog.

Citation: X. Zheng, Y. Wang, G. Wang, J. Liu, "Fast and robust segmentation of white blood cell
images by self-supervised learning", Micron 107, 2018.
"""

from pathlib import Path

import numpy as np

from benchmark.data.base import Source, Split, carve, register
from benchmark.data.files import FolderBenchmark, read_gray, read_rgb, stems

SETS = ("Dataset 1", "Dataset 2")


@register("wbc")
class WBC(FolderBenchmark):
    """Single white blood cells; carved splits, stratified by laboratory."""

    title = "WBC: white blood cells under the microscope"
    domain = "microscopy"
    classes = ("background", "cytoplasm", "nucleus")
    folder = "wbc"
    origin = "https://github.com/zxaoyou/segmentation_WBC @ fa9c01622f"
    licence = "GPL-3 (file at the origin), cite"
    citation = (
        "Zheng, Wang, Wang, Liu: Fast and robust segmentation of white blood cell images by "
        "self-supervised learning. Micron 107, 2018"
    )
    sources = (
        Source(
            "https://github.com/zxaoyou/segmentation_WBC/archive/fa9c01622f.zip",
            folder,
            inside="*",
            bytes=17_000_000,
        ),
    )

    def ids(self, split: Split) -> list[str]:
        """Ids such as `Dataset 1/001`."""
        strata = {
            f"{name}/{stem}": name
            for name in SETS
            for stem in stems(self.path / name, "*.bmp", self.origin)
        }
        return carve(list(strata), (0.6, 0.1, 0.3), strata)[split]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, mask = self.files(id)
        grey = read_gray(mask, self.origin)
        return read_rgb(image, self.origin), np.digitize(grey, (64, 192)).astype(np.uint8)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / f"{id}.bmp", self.path / f"{id}.png"

    def scale(self, height: int, width: int) -> float:
        """Brings the shorter side to 224 px at least, which the crops of training need."""
        return max(1.0, 224 / min(height, width))
