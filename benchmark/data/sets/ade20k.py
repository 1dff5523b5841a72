"""ADE20K, as in the scene parsing challenge of 2016: indoor and outdoor scenes.

Format: `ade20k/ADEChallengeData2016/images/{training,validation}/*.jpg` of many sizes, labels of
the same names in `annotations/{training,validation}/*.png` (one channel): 0 is "other", 1 to 150
are the classes in the order of `objectInfo150.txt`, so that every class index is one less than
its raw value.

Classes: 150, the first synonym of each. Void: 0. Splits: `test` is the official validation split
(2,000 images); `val` is 2 % of the official training split (20,210), carved by a fixed seed, and
`train` the rest.

Licence: BSD-3 for the annotations, images for non-commercial research.

Citation: B. Zhou, H. Zhao, X. Puig, S. Fidler, A. Barriuso, A. Torralba, "Scene parsing through
ADE20K dataset", CVPR 2017.
"""

from pathlib import Path

import numpy as np

from benchmark.data.base import IGNORE, Source, register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official, shorter_side
from benchmark.data.sets.classes import class_names
from benchmark.data.sets.rawlabels import look_up, lookup_table

FOLDERS: dict[Official, str] = {"train": "training", "val": "validation"}
TABLE = lookup_table({0: IGNORE} | {raw: raw - 1 for raw in range(1, 151)})


@register("ade20k")
class ADE20K(CarvedBenchmark):
    """Scenes; official validation as test."""

    title = "ADE20K: indoor and outdoor scenes, 150 classes"
    domain = "scenes"
    classes = class_names("ade20k")
    folder = "ade20k/ADEChallengeData2016"
    origin = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
    licence = "BSD-3 annotations, images for non-commercial research"
    citation = (
        "Zhou, Zhao, Puig, Fidler, Barriuso, Torralba: Scene parsing through ADE20K dataset. "
        "CVPR 2017"
    )
    sources = (
        Source(origin, "ade20k", checksum="md5:7328b3957e407ddae1d3cbf487f149ef", bytes=967382037),
    )

    def official(self, split: Official) -> list[str]:
        """Ids such as `validation/ADE_val_00000001`."""
        folder = FOLDERS[split]
        names = stems(self.path / "images" / folder, "*.jpg", self.origin)
        return [f"{folder}/{name}" for name in names]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, TABLE, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / "images" / f"{id}.jpg", self.path / "annotations" / f"{id}.png"

    def scale(self, height: int, width: int) -> float:
        """The shorter side is 512 px, as in published results."""
        return shorter_side(height, width, 512, 2048)
