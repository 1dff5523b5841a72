"""PASCAL Context: the photos of VOC 2010 with every pixel labelled.

Format: `pascal_context/VOCdevkit/VOC2010/JPEGImages/*.jpg` and `ImageSets/Main/{train,val}.txt` of
VOC 2010, labels `pascal_context/trainval/*.mat` (key `LabelMap`, raw ids) and
`pascal_context/labels.txt` with the 459 raw names as lines `id: name`. Images without a label file
are left out.

Classes: the 59 most frequent names, found in `labels.txt` by name, in the order of the origin's
`59_labels.txt` (which spells three of them otherwise: diningtable, clothes, bedcloth). All other
names, and 0, are void in `context59`; in `context60` they are the class "background", which comes
first. Splits: `test` is the official validation split (5,105 images); `val` is 2 % of the official
training split (4,998), carved by a fixed seed, and `train` the rest.

Licence: research use, images under Flickr's terms.

Citation: R. Mottaghi, X. Chen, X. Liu, N.-G. Cho, S.-W. Lee, S. Fidler, R. Urtasun, A. Yuille, "The
role of context for object detection and semantic segmentation in the wild", CVPR 2014.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, Source, register
from benchmark.data.files import read_rgb, read_with, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official, read_list, shorter_side
from benchmark.data.sets.classes import class_names
from benchmark.data.sets.rawlabels import look_up, lookup_table, read_mat


@register("context59")
class Context59(CarvedBenchmark):
    """Scenes; official validation as test, names beyond the 59 void."""

    title = "PASCAL Context: everyday photos, 59 classes"
    domain = "scenes"
    classes = class_names("context59")
    folder = "pascal_context"
    origin = "https://www.cs.stanford.edu/~roozbeh/pascal-context/ and VOC 2010"
    licence = "research use, images under Flickr's terms"
    citation = (
        "Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille: The role of context for object "
        "detection and semantic segmentation in the wild. CVPR 2014"
    )
    sources = (
        Source(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
            "pascal_context",
            checksum="md5:da459979d0c395079b5c75ee67908abb",
            bytes=1_390_000_000,
        ),
        Source(
            "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
            "pascal_context",
            bytes=30_700_000,
        ),
        Source(
            "https://www.cs.stanford.edu/~roozbeh/pascal-context/labels.txt",
            "pascal_context",
            bytes=7_000,
        ),
    )
    rest: ClassVar[int] = IGNORE
    """Label value of every name that is no class."""

    def official(self, split: Official) -> list[str]:
        """Ids such as `2008_000002`."""
        lists = self.path / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main"
        listed = read_list(lists / f"{split}.txt", self.origin)
        return [id for id in listed if id in self._labelled]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_mat(label, self.origin, "LabelMap")
        return read_rgb(image, self.origin), look_up(raw, self._table, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        image = self.path / "VOCdevkit" / "VOC2010" / "JPEGImages" / f"{id}.jpg"
        return image, self.path / "trainval" / f"{id}.mat"

    def scale(self, height: int, width: int) -> float:
        """The shorter side is 520 px, as in published results."""
        return shorter_side(height, width, 520, 2080)

    @property
    def fingerprint(self) -> str:
        """See `Benchmark.fingerprint`: what `labels.txt` makes of the raw ids."""
        return hashlib.sha256(self._table.tobytes()).hexdigest()

    @cached_property
    def _labelled(self) -> frozenset[str]:
        return frozenset(stems(self.path / "trainval", "*.mat", self.origin))

    @cached_property
    def _table(self) -> np.ndarray:
        path = self.path / "labels.txt"
        names: dict[int, str] = read_with(path, self.origin, _names)
        absent = [name for name in class_names("context59") if name not in names.values()]
        if absent:
            raise DataError(f"{path}: it names no {absent[0]!r}; fetch it again from {self.origin}")
        index = {name: k for k, name in enumerate(self.classes)}
        return lookup_table({0: self.rest} | {i: index.get(n, self.rest) for i, n in names.items()})


@register("context60")
class Context60(Context59):
    """Scenes; official validation as test, names beyond the 59 background."""

    title = "PASCAL Context: everyday photos, 59 classes and background"
    classes = ("background", *class_names("context59"))
    rest = 0


def _names(file: BinaryIO) -> dict[int, str]:
    pairs = (line.split(":", 1) for line in file.read().decode().splitlines() if line.strip())
    return {int(id): name.strip() for id, name in pairs}
