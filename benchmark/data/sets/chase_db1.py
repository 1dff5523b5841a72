"""CHASE_DB1: blood vessels in photographs of the retinas of children.

Format: `chase_db1/CHASEDB1/Image_<nn><L|R>.jpg` (999 x 960), left and right eye of 14 children,
with the masks of two observers beside them, `Image_<nn><L|R>_1stHO.png` and `..._2ndHO.png` (one
bit). That is the official archive; a folder `CHASEDB1` within `CHASEDB1`, as others pack it, is
read, too. So is the layout that mmsegmentation's converter makes of it:
`images/{training,validation}/Image_<nn><L|R>.png` and `annotations/{training,validation}/` with the
masks as 0 and 1.

Classes: background, vessel, by the first observer; the second is not used. Void: none, also outside
the field of view. Splits: `test` is what the field calls validation and reports results on
(children 11 to 14, 8 images); `val` is both eyes of two of the ten children for training, chosen by
a fixed seed, and `train` the other 16 images.

Licence: CC BY 4.0.

Citation: M. M. Fraz, P. Remagnino, A. Hoppe, B. Uyyanonvara, A. R. Rudnicka, C. G. Owen, S. A.
Barman, "An ensemble classification-based approach applied to retinal blood vessel segmentation",
IEEE Transactions on Biomedical Engineering 59(9), 2012.
"""

from pathlib import Path

import numpy as np

from benchmark.data.base import Source, register
from benchmark.data.files import read_indexed, read_rgb, stems
from benchmark.data.sets.carving import CarvedBenchmark, Official
from benchmark.data.sets.rawlabels import MASK, look_up

FOLDERS: dict[Official, str] = {"train": "training", "val": "validation"}
TRAINING_CHILDREN = 10
"""The first ones; the field reports results on the others."""


@register("chase_db1")
class ChaseDB1(CarvedBenchmark):
    """Retinal vessels by the first observer; val carved by child."""

    title = "CHASE_DB1: vessels in the retinas of children"
    domain = "retina"
    classes = ("background", "vessel")
    metric = "dice"
    folder = "chase_db1/CHASEDB1"
    origin = "https://github.com/HaoShilong0118/Dataset @ 858b87db4f1c, CHASEDB1.zip"
    licence = "CC BY 4.0"
    citation = (
        "Fraz, Remagnino, Hoppe, Uyyanonvara, Rudnicka, Owen, Barman: An ensemble "
        "classification-based approach applied to retinal blood vessel segmentation. IEEE "
        "Transactions on Biomedical Engineering 59(9), 2012"
    )
    sources = (
        Source(
            "https://github.com/HaoShilong0118/Dataset/raw/"
            "858b87db4f1c7fd181e11d8391835cf2b1d20fbb/CHASEDB1.zip",
            folder,
            bytes=2_700_000,
        ),
    )
    share = 0.2

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        nested = self.path / self.path.name
        if nested.is_dir():
            self.path = nested
        self._converted = (self.path / "images").is_dir()

    def official(self, split: Official) -> list[str]:
        """Ids such as `Image_01L`, the same in every layout."""
        folder = self.path / "images" / FOLDERS[split] if self._converted else self.path
        suffix = "png" if self._converted else "jpg"
        names = stems(folder, f"Image_[0-9][0-9][LR].{suffix}", self.origin)
        return [name for name in names if _split(name) == split]

    def unit(self, id: str) -> str:
        """The child: its two eyes look alike."""
        return id[:-1]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), look_up(raw, MASK, str(label), self.origin)

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        if not self._converted:
            return self.path / f"{id}.jpg", self.path / f"{id}_1stHO.png"
        folder = FOLDERS[_split(id)]
        image = self.path / "images" / folder / f"{id}.png"
        return image, self.path / "annotations" / folder / f"{id}_1stHO.png"


def _split(id: str) -> Official:
    child = int(id.removeprefix("Image_")[:-1])
    return "train" if child <= TRAINING_CHILDREN else "val"
