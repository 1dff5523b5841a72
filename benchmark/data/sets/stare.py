"""STARE: blood vessels in photographs of retinas, half of them diseased.

Format: `stare/STARE/images/{training,validation}/im<nnnn>.png` (700 x 605, RGB) and masks
`annotations/{training,validation}/im<nnnn>.ah.png` (one channel, 0 and 1), as mmsegmentation's
converter makes them of the official archives, whose files are `im<nnnn>.ppm.gz` (photographs) and
`im<nnnn>.ah.ppm.gz` (grey masks of 0 and 255). The masks of a second observer, `im<nnnn>.vk.png`,
lie in the same folders.

Classes: background, vessel, by the first observer (Adam Hoover, "ah"); the second (Valentina
Kouznetsova, "vk"), who draws more and thinner vessels, is not used. Void: none, also outside the
field of view. Splits: `test` is what the field calls validation and reports results on (the last 10
images by name); `val` is 2 of the 10 images for training, carved by a fixed seed, and `train` the
other 8.

Licence: publicly available, none is named.

Citation: A. Hoover, V. Kouznetsova, M. Goldbaum, "Locating blood vessels in retinal images by
piecewise threshold probing of a matched filter response", IEEE Transactions on Medical Imaging
19(3), 2000.
"""

from pathlib import Path

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official
from benchmark.data.sets.rawlabels import MASK, look_up

FOLDERS: dict[Official, str] = {"train": "training", "val": "validation"}


@register("stare")
class Stare(CarvedBenchmark):
    """Retinal vessels by the first observer; the field's validation as test."""

    title = "STARE: vessels in healthy and diseased retinas"
    domain = "retina"
    classes = ("background", "vessel")
    metric = "dice"
    folder = "stare/STARE"
    origin = "https://github.com/ChengBinJin/V-GAN-tensorflow @ 79c889f604ee, data/STARE"
    licence = "publicly available, no licence named"
    citation = (
        "Hoover, Kouznetsova, Goldbaum: Locating blood vessels in retinal images by piecewise "
        "threshold probing of a matched filter response. IEEE Transactions on Medical Imaging "
        "19(3), 2000"
    )
    manual = (
        "fetch stare-images.tar, labels-ah.tar and labels-vk.tar of the STARE project (or the .ppm "
        f"files of {origin}), convert them to .png by tools/dataset_converters/stare.py of "
        "mmsegmentation, and put what it makes into 'stare/STARE' below the data root, so that it "
        "holds images/ and annotations/"
    )
    share = 0.2

    def official(self, split: Official) -> list[str]:
        """Ids such as `validation/im0162`."""
        folder = FOLDERS[split]
        images = self.path / "images" / folder
        if not images.is_dir():
            raise DataError(f"the folder {images} is missing; {self.manual}")
        names = stems(images, "*.png", self.origin)
        if not names and any(images.glob("*.ppm*")):
            raise DataError(f"{images} holds .ppm files that are not converted yet; {self.manual}")
        return [f"{folder}/{name}" for name in names]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, MASK, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / "images" / f"{id}.png", self.path / "annotations" / f"{id}.ah.png"
