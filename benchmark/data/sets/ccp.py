"""CCP, Clothing Co-Parsing: street fashion photos.

Format: `ccp/photos/<nnnn>.jpg` (550 px wide), labels `ccp/annotations/pixel-level/<nnnn>.mat`
(key `groundtruth`, raw values 0..58), and `ccp/label_list.mat` with the 59 raw names in the order
of the raw values. The full set holds 2098 photos; those after 1004 have labels per image only and
are left out.

Classes: the raw names grouped to the 11 of `GROUPS`; `null` is background, and every name that no
group has is an accessory. Void: none. Splits: 2/3, 1/10 and the rest carved by a fixed seed.

Licence: Apache-2.0.

Citation: W. Yang, P. Luo, L. Lin, "Clothing co-parsing by joint image segmentation and labeling",
CVPR 2014.
"""

from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmark.data.base import Source, Split, carve, register
from benchmark.data.files import FolderBenchmark, read_rgb, read_with, remap, stems

GROUPS = {
    "background": "null",
    "skin": "skin",
    "hair": "hair",
    "top": "blouse shirt t-shirt top sweater sweatshirt hoodie jumper cardigan vest bodysuit bra",
    "outerwear": "coat jacket blazer cape suit",
    "dress": "dress romper",
    "trousers": "pants jeans leggings shorts",
    "skirt": "skirt",
    "footwear": "shoes boots clogs flats heels loafers pumps sandals sneakers wedges stockings "
    "tights socks",
    "bag": "bag purse wallet",
    "accessories": "",
}
LAST_LABELLED = "1004"


@register("ccp")
class CCP(FolderBenchmark):
    """Street fashion; carved splits."""

    title = "CCP: clothing in street fashion photos"
    domain = "fashion"
    classes = tuple(GROUPS)
    folder = "ccp"
    origin = "https://github.com/bearpaw/clothing-co-parsing @ fe34fb7772"
    licence = "Apache-2.0"
    citation = (
        "Yang, Luo, Lin: Clothing co-parsing by joint image segmentation and labeling. CVPR 2014"
    )
    sources = (
        Source(
            "https://github.com/bearpaw/clothing-co-parsing/archive/fe34fb7772.zip",
            folder,
            inside="*",
            bytes=130_000_000,
        ),
    )

    def ids(self, split: Split) -> list[str]:
        """Ids such as `0001`."""
        photos = stems(self.path / "photos", "[0-9][0-9][0-9][0-9].jpg", self.origin)
        labelled = [stem for stem in photos if stem <= LAST_LABELLED]
        return carve(labelled, (2 / 3, 0.1, 1 - 2 / 3 - 0.1))[split]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        raw = read_with(label, self.origin, _groundtruth)
        return read_rgb(image, self.origin), remap(raw, self._table, self.where(id))

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        labels = self.path / "annotations" / "pixel-level"
        return self.path / "photos" / f"{id}.jpg", labels / f"{id}.mat"

    def scale(self, height: int, width: int) -> float:
        """A person fills the photo: half the size keeps whole garments within a crop."""
        return 0.5

    @property
    def fingerprint(self) -> str:
        """Of the label list, which says what a raw value means."""
        return self._table.tobytes().hex()

    @cached_property
    def _table(self) -> np.ndarray:
        names = read_with(self.path / "label_list.mat", self.origin, _names)
        group = {name: i for i, members in enumerate(GROUPS.values()) for name in members.split()}
        rest = self.classes.index("accessories")
        return np.array([group.get(name, rest) for name in names], dtype=np.uint8)


def _groundtruth(file: BinaryIO) -> np.ndarray:
    from scipy.io import loadmat

    values = loadmat(file)["groundtruth"]
    label = values.astype(np.uint8)
    if label.ndim != 2 or (label != values).any():
        raise ValueError("not a map of class indices")
    return label


def _names(file: BinaryIO) -> list[str]:
    from scipy.io import loadmat

    names = [str(cell.item()) for cell in loadmat(file)["label_list"].ravel()]
    if names[0] != "null":
        raise ValueError("not the list of raw names")
    return names
