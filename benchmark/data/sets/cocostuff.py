"""COCO-Stuff: everyday photos with every pixel labelled, things and stuff.

Format of `cocostuff164k`: `cocostuff164k/images/{train2017,val2017}/*.jpg`, labels of the same
names in `annotations/{train2017,val2017}/*.png` (one channel): official id minus one, 255 is
unlabelled. Format of `cocostuff10k`, the first release (version 1.1): `cocostuff10k/images/*.jpg`,
labels `annotations/*.mat` (key `S`): official id, 0 is unlabelled; lists `imageLists/train.txt`
and `test.txt`.

Classes: 171, 80 things and then 91 stuff, by ascending official id 1 to 182; eleven of the ids
belong to names that were never annotated. Void: unlabelled. Splits: `test` is the official
validation split of `cocostuff164k` (5,000 images) and the official test list of `cocostuff10k`
(1,000); `val` is 2 % of the official training split (118,287 and 9,000), carved by a fixed seed,
and `train` the rest.

Licence: CC BY 4.0 for the annotations, images under Flickr's terms.

Citation: H. Caesar, J. Uijlings, V. Ferrari, "COCO-Stuff: Thing and stuff classes in context",
CVPR 2018.
"""

from pathlib import Path

import numpy as np

from benchmark.data.base import IGNORE, Source, register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official, read_list, shorter_side
from benchmark.data.sets.classes import class_names
from benchmark.data.sets.rawlabels import look_up, lookup_table, read_mat

UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Official ids without annotations: street sign, hat, shoe, eye glasses, plate, mirror, window,
desk, door, blender, hair brush."""

_IDS = [id for id in range(1, 183) if id not in UNUSED]
TABLE_10K = lookup_table({0: IGNORE} | {id: k for k, id in enumerate(_IDS)})
TABLE_164K = lookup_table({255: IGNORE} | {id - 1: k for k, id in enumerate(_IDS)})
_URL = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"


class _COCOStuff(CarvedBenchmark):
    domain = "scenes"
    classes = class_names("cocostuff")
    licence = "CC BY 4.0 annotations, images under Flickr's terms"
    citation = (
        "Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and stuff classes in context. CVPR 2018"
    )

    def scale(self, height: int, width: int) -> float:
        """The shorter side is 512 px, as in published results."""
        return shorter_side(height, width, 512, 2048)


@register("cocostuff164k")
class COCOStuff164K(_COCOStuff):
    """Everyday photos; official validation as test."""

    title = "COCO-Stuff 164K: everyday photos, 171 classes"
    folder = "cocostuff164k"
    origin = "https://github.com/nightrome/cocostuff"
    sources = (
        Source(
            "http://images.cocodataset.org/zips/train2017.zip",
            "cocostuff164k/images",
            bytes=19_300_000_000,
        ),
        Source(
            "http://images.cocodataset.org/zips/val2017.zip",
            "cocostuff164k/images",
            bytes=816_000_000,
        ),
        Source(
            f"{_URL}/stuffthingmaps_trainval2017.zip",
            "cocostuff164k/annotations",
            bytes=659_000_000,
        ),
    )

    def official(self, split: Official) -> list[str]:
        """Ids such as `val2017/000000000139`."""
        folder = f"{split}2017"
        names = stems(self.path / "images" / folder, "*.jpg", self.origin)
        return [f"{folder}/{name}" for name in names]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, TABLE_164K, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / "images" / f"{id}.jpg", self.path / "annotations" / f"{id}.png"


@register("cocostuff10k")
class COCOStuff10K(_COCOStuff):
    """Everyday photos; official test list as test."""

    title = "COCO-Stuff 10K: everyday photos, 171 classes"
    folder = "cocostuff10k"
    origin = "https://github.com/nightrome/cocostuff10k"
    sources = (Source(f"{_URL}/cocostuff-10k-v1.1.zip", "cocostuff10k", bytes=2_000_000_000),)

    def official(self, split: Official) -> list[str]:
        """Ids such as `COCO_train2014_000000000077`."""
        name = "train" if split == "train" else "test"
        return read_list(self.path / "imageLists" / f"{name}.txt", self.origin)

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_mat(label, self.origin, "S")
        return read_rgb(image, self.origin), look_up(raw, TABLE_10K, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / "images" / f"{id}.jpg", self.path / "annotations" / f"{id}.mat"
