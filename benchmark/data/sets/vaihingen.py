"""Vaihingen: aerial images of a small town, of the ISPRS 2D semantic labelling contest.

Format: crops of 512 x 512 px as mmsegmentation's converter cuts them out of the tiles (9 cm a
pixel): `vaihingen/img_dir/{train,val}/area<n>_<left>_<top>_<right>_<bottom>.png` and labels of the
same names in `ann_dir/{train,val}/` (one channel): 0 where nothing is labelled, 1 to 6 are the
classes in their order. The three channels are infrared, red and green, so that plants look red; a
backbone sees them as RGB. Labels are the contest's eroded ones (`*_noBoundary`): pixels close to
an outline are 0. Crops start at multiples of 512 px, but the last ones of a row or column end at
the edge of the tile and overlap their neighbours: pixels there count twice, as in published
results.

Classes: 6. Void: 0. Splits: `test` is what the field calls validation and reports results on (17
tiles, 398 crops); `val` is two of the 16 tiles for training (344 crops), chosen by a fixed seed,
and `train` the others.

Licence: research use, by request form.

Citation: F. Rottensteiner, G. Sohn, J. Jung, M. Gerke, C. Baillard, S. Benitez, U. Breitkopf, "The
ISPRS benchmark on urban object classification and 3D building reconstruction", ISPRS Annals I-3,
2012. The images are those of M. Cramer, "The DGPF-test on digital airborne camera evaluation:
overview and test design", PFG 2/2010.
"""

from pathlib import Path

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official
from benchmark.data.sets.rawlabels import look_up, lookup_table

TABLE = lookup_table({0: IGNORE} | {raw: raw - 1 for raw in range(1, 7)})


@register("vaihingen")
class Vaihingen(CarvedBenchmark):
    """Crops of aerial images; the field's validation as test, val carved by tile."""

    title = "Vaihingen: aerial images of a town, infrared, red and green"
    domain = "aerial"
    classes = ("impervious surface", "building", "low vegetation", "tree", "car", "clutter")
    colours = ("#FFFFFF", "#0000FF", "#00FFFF", "#00FF00", "#FFFF00", "#FF0000")
    folder = "vaihingen"
    origin = "ISPRS 2D semantic labelling contest, Vaihingen, by request form"
    licence = "research use, by request form"
    citation = (
        "Rottensteiner, Sohn, Jung, Gerke, Baillard, Benitez, Breitkopf: The ISPRS benchmark on "
        "urban object classification and 3D building reconstruction. ISPRS Annals I-3, 2012"
    )
    manual = (
        "request ISPRS_semantic_labeling_Vaihingen.zip and "
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip by the form of the "
        "ISPRS 2D semantic labelling contest, cut them by tools/dataset_converters/vaihingen.py of "
        "mmsegmentation, and put what it makes into 'vaihingen' below the data root, so that it "
        "holds img_dir/ and ann_dir/"
    )
    share = 0.1

    def official(self, split: Official) -> list[str]:
        """Ids such as `train/area1_0_0_512_512`."""
        folder = self.path / "img_dir" / split
        if not folder.is_dir():
            raise DataError(f"the folder {folder} is missing; {self.manual}")
        return [f"{split}/{name}" for name in stems(folder, "area*.png", self.origin)]

    def unit(self, id: str) -> str:
        """The tile: its crops adjoin, and some overlap."""
        return id.split("/")[1].split("_")[0]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, TABLE, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / "img_dir" / f"{id}.png", self.path / "ann_dir" / f"{id}.png"
