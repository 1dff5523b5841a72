"""Tiny fake data in the layouts of the five small sets.

Each writer takes the data root, and returns the folder of its set.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.fake.drawing import blocks, picture, save, save_mat
from benchmark.data.sets.ccp import GROUPS
from benchmark.data.sets.dubai import COLOURS
from benchmark.data.sets.mtd import FOLDERS

_CCP_NAMES = """
null accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs coat dress
earrings flats glasses gloves hair hat heels hoodie intimate jacket jeans jumper leggings loafers
necklace panties pants pumps purse ring romper sandals scarf shirt shoes shorts skin skirt sneakers
socks stockings suit sunglasses sweater sweatshirt swimwear t-shirt tie tights top vest wallet watch
wedges
"""
CCP_NAMES = _CCP_NAMES.split()
"""Raw names in the order of the real `label_list.mat`."""


def write_camvid(root: Path, n: int = 3) -> Path:
    """`n` images in each of train, val and test."""
    base = root / "camvid" / "CamVid"
    for k, split in enumerate(("train", "val", "test")):
        lines = []
        for i in range(n):
            label = blocks(list(range(12)), seed=10 * k + i)
            name = f"{split}_{i:05}.png"
            save(base / split / name, picture(label, 10 * k + i))
            save(base / f"{split}annot" / name, label)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (base / f"{split}.txt").write_text("".join(lines))
    return base


def write_dubai(root: Path, n: int = 2) -> Path:
    """`n` tiles of nine parts; the masks of even tiles have a palette."""
    base = root / "dubai" / "Semantic segmentation dataset"
    colours = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in COLOURS], dtype=np.uint8)
    for tile in range(1, n + 1):
        for part in range(1, 10):
            index = blocks(list(range(len(colours))), seed=9 * tile + part)
            name = f"image_part_{part:03}"
            folder = base / f"Tile {tile}"
            save(folder / "images" / f"{name}.jpg", picture(index, part))
            mask = folder / "masks" / f"{name}.png"
            save(mask, colours[index])
            if tile % 2 == 0:
                paletted = Image.fromarray(index, mode="P")
                paletted.putpalette(colours.ravel().tolist())
                paletted.save(mask)
    return base


def write_wbc(root: Path, n: int = 10) -> Path:
    """`n` cells in each of the two sets; one grey is stray."""
    base = root / "wbc"
    for name in ("Dataset 1", "Dataset 2"):
        for i in range(1, n + 1):
            mask = blocks([0, 7, 128, 255], seed=i)
            save(base / name / f"{i:03}.bmp", picture(mask, i))
            save(base / name / f"{i:03}.png", mask)
    return base


def write_mtd(root: Path, n: int = 10) -> Path:
    """`n` tiles in each folder; the edges of the masks are anti-aliased."""
    base = root / "mtd"
    for folder in FOLDERS:
        for i in range(n):
            mask = blocks([0, 100, 180, 255], seed=i) * np.uint8(folder != "MT_Free")
            stem = base / folder / "Imgs" / f"exp1_num_{i}"
            save(stem.with_suffix(".jpg"), picture(mask, i)[..., 0])
            save(stem.with_suffix(".png"), mask)
    return base


def write_ccp(root: Path, n: int = 12) -> Path:
    """`n` labelled photos, and one without labels per pixel, as the full set has."""
    base = root / "ccp"
    (base / "annotations" / "pixel-level").mkdir(parents=True)
    raw = [CCP_NAMES.index((members or "belt").split()[0]) for members in GROUPS.values()]
    for i in range(1, n + 1):
        label = blocks(raw, seed=i)
        save(base / "photos" / f"{i:04}.jpg", picture(label, i))
        save_mat(base / "annotations" / "pixel-level" / f"{i:04}.mat", {"groundtruth": label})
    save(base / "photos" / "1005.jpg", picture(label, 1005))
    names = np.empty((1, len(CCP_NAMES)), dtype=object)
    names[0] = CCP_NAMES
    save_mat(base / "label_list.mat", {"label_list": names})
    return base


WRITERS: dict[str, Callable[[Path], Path]] = {
    "camvid": write_camvid,
    "dubai": write_dubai,
    "wbc": write_wbc,
    "mtd": write_mtd,
    "ccp": write_ccp,
}
"""Writer of each set with files, by the name of its benchmark."""
