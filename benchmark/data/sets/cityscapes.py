"""Cityscapes: street scenes of fifty cities from a driving car, fine annotations.

Format: `cityscapes/leftImg8bit/{train,val}/<city>/<name>_leftImg8bit.png` (2048 x 1024), labels
`cityscapes/gtFine/{train,val}/<city>/<name>_gtFine_labelIds.png` (one channel, ids 0 to 33).

Classes: the 19 of the evaluation, in the order of their train ids. Void: every other id, and 255,
as 8 bits hold the id -1 of licence plates (the official files leave those undrawn). Splits: `test`
is the official validation split (500 images); `val` is 5 % of the official training split
(2,975), carved by a fixed seed within each city, and `train` the rest. The labels of the official
test split are not public.

Licence: non-commercial use, after registration.

Citation: M. Cordts, M. Omran, S. Ramos, T. Rehfeld, M. Enzweiler, R. Benenson, U. Franke, S. Roth,
B. Schiele, "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016.
"""

from pathlib import Path

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official
from benchmark.data.sets.classes import class_colours, class_names
from benchmark.data.sets.rawlabels import look_up, lookup_table

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the classes, in the order of their train ids."""

TABLE = lookup_table(
    dict.fromkeys((*range(34), 255), IGNORE) | {id: k for k, id in enumerate(EVALUATED)}
)
_IMAGE = "_leftImg8bit"


@register("cityscapes")
class Cityscapes(CarvedBenchmark):
    """Street scenes; official validation as test, val stratified by city."""

    title = "Cityscapes: street scenes of many cities"
    domain = "driving"
    classes = class_names("cityscapes")
    colours = class_colours("cityscapes")
    folder = "cityscapes"
    origin = "https://www.cityscapes-dataset.com/downloads/"
    licence = "non-commercial use, after registration"
    citation = (
        "Cordts, Omran, Ramos, Rehfeld, Enzweiler, Benenson, Franke, Roth, Schiele: The Cityscapes "
        "dataset for semantic urban scene understanding. CVPR 2016"
    )
    manual = (
        "register at https://www.cityscapes-dataset.com/downloads/, fetch "
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there, and unpack both into "
        "'cityscapes' below the data root, so that it holds leftImg8bit/ and gtFine/"
    )
    share = 0.05

    def official(self, split: Official) -> list[str]:
        """Ids such as `train/aachen/aachen_000000_000019`."""
        folder = self.path / "leftImg8bit" / split
        if not folder.is_dir():
            raise DataError(f"the folder {folder} is missing; {self.manual}")
        cities = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
        return [
            f"{split}/{city.name}/{stem.removesuffix(_IMAGE)}"
            for city in cities
            for stem in stems(city, f"*{_IMAGE}.png", self.origin)
        ]

    def stratum(self, id: str) -> str:
        """The city."""
        return id.split("/")[1]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, TABLE, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        image = self.path / "leftImg8bit" / f"{id}{_IMAGE}.png"
        return image, self.path / "gtFine" / f"{id}_gtFine_labelIds.png"
