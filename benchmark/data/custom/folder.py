"""A user's own folder of images and labels.

Format: `images/{train,val,test}/**/<name>.{jpg,jpeg,png,bmp,tif,tiff}` with labels
`labels/{train,val,test}/**/<name>.png` of the same relative names. Without `images/val`, a tenth of
train becomes val; test is never touched for that.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data.base import SPLITS, Split
from benchmark.data.custom.described import DescribedBenchmark, Description
from benchmark.data.files import read_rgb, read_with

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
LABELS = (".png",)

_ELSEWHERE = "your own source"


class ImageFolder(DescribedBenchmark):
    """Images and labels below a folder of the user's.

    Raises:
        DataError: the folder, or its train or test images, are missing; an image has no label, or
            a label no image.
    """

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.path = _folder(self.description, self.home)
        if not self.path.is_dir():
            raise DataError(
                f"{self.name}: the folder {self.path} is missing; create it, or correct `folder`, "
                "which is relative to the YAML file"
            )
        self._files: dict[str, tuple[Path, Path]] = {}
        self._ids = {split: self._pair(split) for split in SPLITS}
        if not self._ids["val"]:
            self._ids["train"], self._ids["val"] = self.carved(self._ids["train"])

    @classmethod
    def source(cls, description: Description, home: Path) -> str:
        """The folder."""
        return str(_folder(description, home))

    def _pair(self, split: Split) -> list[str]:
        inside, beside = self.path / "images" / split, self.path / "labels" / split
        images, labels = _found(inside, IMAGES), _found(beside, LABELS)
        if bare := sorted(images.keys() - labels.keys()):
            raise DataError(
                f"{images[bare[0]]} has no label; put it at {beside / bare[0]}.png, or remove the "
                "image"
            )
        if stray := sorted(labels.keys() - images.keys()):
            raise DataError(
                f"{labels[stray[0]]} has no image; put it at {inside / stray[0]}.jpg (or another "
                f"of {', '.join(IMAGES)}), or remove the label"
            )
        if not images and split != "val":
            raise DataError(
                f"{self.name}: there are no images in {inside}; create it with the {split} images "
                f"({', '.join(IMAGES)}), and {beside} with their labels (.png)"
            )
        ids = {f"{split}/{stem}": stem for stem in sorted(images)}
        self._files |= {id: (images[stem], labels[stem]) for id, stem in ids.items()}
        return list(ids)

    def ids(self, split: Split) -> list[str]:
        """Ids such as `train/street/0001`; those of a carved val begin with `train/`."""
        return list(self._ids[split])

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self.files(id)
        stored = read_with(label, _ELSEWHERE, _open)
        return read_rgb(image, _ELSEWHERE), self.decode(stored, str(label))

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`."""
        return self._files[id]


def _folder(description: Description, home: Path) -> Path:
    return home / Path(description.folder or ".").expanduser()


def _found(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files by their relative name without suffix.

    Raises:
        DataError: two files differ in their suffix only.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        # File managers and archives leave hidden files, which are not images.
        if path.suffix.lower() not in suffixes or any(p.startswith(".") for p in inside.parts):
            continue
        stem = inside.with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{found[stem]} and {path} have the same name; rename or remove one")
        found[stem] = path
    return found


def _open(file: BinaryIO) -> Image.Image:
    image = Image.open(file)
    image.load()
    return image
