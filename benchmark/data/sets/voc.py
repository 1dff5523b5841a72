"""PASCAL VOC 2012 with the additional annotations of SBD: photos of twenty kinds of objects.

Format: `voc2012/VOCdevkit/VOC2012/JPEGImages/*.jpg`, labels `SegmentationClass/*.png` (palette
images that store class indices) and the lists `ImageSets/Segmentation/{train,val}.txt`; SBD in
`voc2012/benchmark_RELEASE/dataset/`: labels `cls/*.mat` (struct `GTcls`, field `Segmentation`) of
images among VOC's own, and the lists `train.txt`, `val.txt`, which are not VOC's.

Classes: 21, background first. Void: 255, the borders of objects in VOC's labels; SBD draws none.
Splits: `test` is VOC's validation split (1,449 images). The training split is the usual augmented
one, computed from the official lists: VOC's train, and what SBD's train and val list besides
VOC's train and val (10,582 together); VOC's own label is read where there is one. `val` is 2 % of
it, carved by a fixed seed, and `train` the rest.

Licence: research use, images under Flickr's terms.

Citation: M. Everingham, S. M. A. Eslami, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman,
"The PASCAL visual object classes challenge: A retrospective", IJCV 111(1), 2015; B. Hariharan,
P. Arbelaez, L. Bourdev, S. Maji, J. Malik, "Semantic contours from inverse detectors", ICCV 2011.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data.base import IGNORE, Source, register
from benchmark.data.files import read_indexed, read_rgb
from benchmark.data.sets.carving import CarvedBenchmark, Official, read_list, shorter_side
from benchmark.data.sets.classes import class_names
from benchmark.data.sets.rawlabels import look_up, lookup_table, read_mat

SBD_TABLE = lookup_table({raw: raw for raw in range(21)})
VOC_TABLE = lookup_table({raw: raw for raw in range(21)} | {255: IGNORE})


@register("voc2012")
class VOC2012(CarvedBenchmark):
    """Objects; VOC's validation as test, VOC's train and SBD as train."""

    title = "PASCAL VOC 2012 with SBD: objects in photos"
    domain = "objects"
    classes = class_names("voc2012")
    folder = "voc2012"
    origin = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and SBD's benchmark.tgz"
    licence = "research use, images under Flickr's terms"
    citation = (
        "Everingham, Eslami, Van Gool, Williams, Winn, Zisserman: The PASCAL visual object classes "
        "challenge: A retrospective. IJCV 111(1), 2015; Hariharan, Arbelaez, Bourdev, Maji, Malik: "
        "Semantic contours from inverse detectors. ICCV 2011"
    )
    sources = (
        Source(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "voc2012",
            checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
            bytes=1_999_639_040,
        ),
        Source(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
            "semantic_contours/benchmark.tgz",
            "voc2012",
            checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
            bytes=1_419_539_633,
        ),
    )

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self._voc = self.path / "VOCdevkit" / "VOC2012"
        self._sbd = self.path / "benchmark_RELEASE" / "dataset"

    def official(self, split: Official) -> list[str]:
        """Ids such as `2007_000032`."""
        train, val = self._lists
        if split == "val":
            return val
        more = {
            id
            for name in ("train", "val")
            for id in read_list(self._sbd / f"{name}.txt", self.origin)
        }
        return train + sorted(more - set(train) - set(val))

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        if label.suffix == ".mat":
            raw, table = read_mat(label, self.origin, "GTcls", "Segmentation"), SBD_TABLE
        else:
            raw, table = read_indexed(label, self.origin), VOC_TABLE
        return read_rgb(image, self.origin), look_up(raw, table, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        image = self._voc / "JPEGImages" / f"{id}.jpg"
        if id in self._labelled_by_voc:
            return image, self._voc / "SegmentationClass" / f"{id}.png"
        return image, self._sbd / "cls" / f"{id}.mat"

    def scale(self, height: int, width: int) -> float:
        """The shorter side is 512 px, as in published results."""
        return shorter_side(height, width, 512, 2048)

    @cached_property
    def _lists(self) -> tuple[list[str], list[str]]:
        lists = self._voc / "ImageSets" / "Segmentation"
        train, val = (read_list(lists / f"{name}.txt", self.origin) for name in ("train", "val"))
        return train, val

    @cached_property
    def _labelled_by_voc(self) -> frozenset[str]:
        return frozenset(id for ids in self._lists for id in ids)
