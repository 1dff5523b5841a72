"""Tiny fake data in the layouts of the sets that are published with training and validation splits.

As in `small`, images carry their label's colour. Every label holds every raw value of its set
that is a class or void. Each writer takes the data root and the number of images in each official
split, and returns the folder of its set.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.fake.drawing import SIZE, blocks, picture, save, save_mat

CITIES = {"train": ("aachen", "bochum"), "val": ("frankfurt",)}
COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
COCO_IDS = [id for id in range(1, 183) if id not in COCO_UNUSED]
_CONTEXT_IDS = """
aeroplane 2 bag 9 bed 18 bedclothes 19 bench 22 bicycle 23 bird 25 boat 31 book 33 bottle 34
building 44 bus 45 cabinet 46 car 59 cat 65 ceiling 68 chair 72 cloth 80 computer 85 cow 98 cup 104
curtain 105 dog 113 door 115 fence 144 floor 158 flower 159 food 162 grass 187 ground 189 horse 207
keyboard 220 light 232 motorbike 258 mountain 259 mouse 260 person 284 plate 295 platform 296
pottedplant 308 road 324 rock 326 sheep 347 shelves 349 sidewalk 354 sign 355 sky 360 snow 366
sofa 368 table 397 track 415 train 416 tree 420 truck 424 tvmonitor 427 wall 440 water 445
window 454 wood 458
"""
CONTEXT_IDS = dict(
    zip(_CONTEXT_IDS.split()[::2], map(int, _CONTEXT_IDS.split()[1::2]), strict=True)
)
"""Raw ids of the 59 classes in the real `labels.txt`."""


def label_and_picture(
    values: Sequence[int], seed: int, dtype: type = np.uint8
) -> tuple[np.ndarray, np.ndarray]:
    """A label (40, 56) that holds every value, in rows of bars, and a picture of it."""
    rows = np.array_split(np.arange(len(values)), -(-len(values) // (SIZE[1] // 2)))
    edges = np.linspace(0, SIZE[0], len(rows) + 1).astype(int)
    index = np.concatenate(
        [
            blocks(list(row), seed, (int(bottom - top), SIZE[1]))
            for row, top, bottom in zip(rows, edges[:-1], edges[1:], strict=True)
        ]
    )
    return np.array(values, dtype=dtype)[index], picture(index, seed)


def write_ade20k(root: Path, n: int = 4) -> Path:
    """`n` images for training, `n` for validation."""
    base = root / "ade20k" / "ADEChallengeData2016"
    for k, (folder, short) in enumerate((("training", "train"), ("validation", "val"))):
        for i in range(1, n + 1):
            label, image = label_and_picture(range(151), 10 * k + i)
            name = f"ADE_{short}_{i:08}"
            save(base / "images" / folder / f"{name}.jpg", image)
            save(base / "annotations" / folder / f"{name}.png", label)
    return base


def write_cityscapes(root: Path, n: int = 4) -> Path:
    """`n` images in each of two cities for training and one for validation."""
    base = root / "cityscapes"
    cities = [(split, city) for split, names in CITIES.items() for city in names]
    for k, (split, city) in enumerate(cities):
        for i in range(n):
            label, image = label_and_picture(range(34), 10 * k + i)
            name = f"{split}/{city}/{city}_{i:06}_000019"
            save(base / "leftImg8bit" / f"{name}_leftImg8bit.png", image)
            save(base / "gtFine" / f"{name}_gtFine_labelIds.png", label)
            # The official folders hold more kinds of labels than a loader needs.
            save(base / "gtFine" / f"{name}_gtFine_instanceIds.png", label)
    return base


def write_voc2012(root: Path, n: int = 4) -> Path:
    """`n` images in VOC's train, `n` in its val, and `n` that only SBD labels.

    SBD also lists the first image of VOC's train and of VOC's val, as the real one does; its
    labels of them are all background, so that a mix-up shows.
    """
    base = root / "voc2012"
    voc = base / "VOCdevkit" / "VOC2012"
    sbd = base / "benchmark_RELEASE" / "dataset"
    (sbd / "cls").mkdir(parents=True)
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    names = {k: [f"20{k:02}_{i:06}" for i in range(n)] for k in (7, 8, 9)}
    colours = np.random.default_rng(0).integers(0, 256, 768).tolist()
    for k, ids in names.items():
        for i, id in enumerate(ids):
            values = range(21) if k == 9 else (*range(21), 255)
            label, image = label_and_picture(values, 10 * k + i)
            save(voc / "JPEGImages" / f"{id}.jpg", image)
            if k == 9:
                write_sbd(sbd / "cls" / f"{id}.mat", label)
            else:
                paletted = Image.fromarray(label, mode="P")
                paletted.putpalette(colours)
                (voc / "SegmentationClass").mkdir(exist_ok=True)
                paletted.save(voc / "SegmentationClass" / f"{id}.png")
    for id in (names[7][0], names[8][0]):
        write_sbd(sbd / "cls" / f"{id}.mat", np.zeros(SIZE, np.uint8))
    half = n // 2
    write_lines(lists / "train.txt", names[7])
    write_lines(lists / "val.txt", names[8])
    write_lines(sbd / "train.txt", [names[8][0], *names[9][:half]])
    write_lines(sbd / "val.txt", [names[7][0], *names[9][half:]])
    return base


def write_sbd(path: Path, label: np.ndarray) -> None:
    """A label file of SBD."""
    save_mat(path, {"GTcls": {"Boundaries": 0, "Segmentation": label, "CategoriesPresent": 0}})


def write_context(root: Path, n: int = 4) -> Path:
    """`n` images for training, `n` for validation, and one in each list without a label."""
    base = root / "pascal_context"
    voc = base / "VOCdevkit" / "VOC2010"
    (base / "trainval").mkdir(parents=True)
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    names = {id: name for name, id in CONTEXT_IDS.items()}
    lines = [f"{id}: {names.get(id, f'other {id}')}" for id in range(1, 460)]
    write_lines(base / "labels.txt", lines)
    for k, split in ((8, "train"), (9, "val")):
        ids = [f"20{k:02}_{i:06}" for i in range(n + 1)]
        for i, id in enumerate(ids):
            values = [0, 1, *CONTEXT_IDS.values(), 459]
            label, image = label_and_picture(values, 10 * k + i, np.uint16)
            save(voc / "JPEGImages" / f"{id}.jpg", image)
            if i < n:
                save_mat(base / "trainval" / f"{id}.mat", {"LabelMap": label})
        write_lines(voc / "ImageSets" / "Main" / f"{split}.txt", ids)
    return base


def write_cocostuff164k(root: Path, n: int = 4) -> Path:
    """`n` images for training, `n` for validation."""
    base = root / "cocostuff164k"
    for k, folder in enumerate(("train2017", "val2017")):
        for i in range(n):
            label, image = label_and_picture([*(id - 1 for id in COCO_IDS), 255], 10 * k + i)
            save(base / "images" / folder / f"{i:012}.jpg", image)
            save(base / "annotations" / folder / f"{i:012}.png", label)
    return base


def write_cocostuff10k(root: Path, n: int = 4) -> Path:
    """`n` images for training, `n` for test."""
    base = root / "cocostuff10k"
    for folder in ("annotations", "imageLists"):
        (base / folder).mkdir(parents=True)
    for k, split in enumerate(("train", "test")):
        ids = [f"COCO_train2014_{k}{i:011}" for i in range(n)]
        for i, id in enumerate(ids):
            label, image = label_and_picture([0, *COCO_IDS], 10 * k + i)
            save(base / "images" / f"{id}.jpg", image)
            save_mat(base / "annotations" / f"{id}.mat", {"S": label})
        write_lines(base / "imageLists" / f"{split}.txt", ids)
    return base


def write_vaihingen(root: Path, n: int = 4) -> Path:
    """Two crops of each of `n` tiles for training, and of `n` for validation."""
    base = root / "vaihingen"
    for k, split in enumerate(("train", "val")):
        for i in range(n):
            for left in (0, 40):  # the second crop overlaps the first: it ends at the tile's edge
                label, image = label_and_picture(range(7), 10 * k + i + left)
                area = f"area{2 * i + k + 1}"
                name = f"{area}_{left}_0_{left + SIZE[1]}_{SIZE[0]}.png"
                save(base / "img_dir" / split / name, image)
                save(base / "ann_dir" / split / name, label)
    return base


def write_chase_db1(root: Path, n: int = 4) -> Path:
    """Both eyes of `n` children for training, and of `n` for validation; masks have one bit."""
    base = root / "chase_db1" / "CHASEDB1"
    for child in (*range(1, n + 1), *range(11, 11 + n)):
        for k, eye in enumerate("LR"):
            label, image = label_and_picture(range(2), 2 * child + k)
            name = f"Image_{child:02}{eye}"
            save(base / f"{name}.jpg", image)
            save(base / f"{name}_1stHO.png", label > 0)
            # The second observer draws other vessels, so that a mix-up shows.
            save(base / f"{name}_2ndHO.png", label == 0)
    return base


def write_stare(root: Path, n: int = 4) -> Path:
    """`n` images for training, `n` for validation."""
    base = root / "stare" / "STARE"
    for k, folder in enumerate(("training", "validation")):
        for i in range(n):
            label, image = label_and_picture(range(2), 10 * k + i)
            name = f"im{100 * k + i + 1:04}"
            save(base / "images" / folder / f"{name}.png", image)
            save(base / "annotations" / folder / f"{name}.ah.png", label)
            # As above: the second observer.
            save(base / "annotations" / folder / f"{name}.vk.png", 1 - label)
    return base


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """A text file, one line each."""
    path.write_text("".join(f"{line}\n" for line in lines))


WRITERS: dict[str, Callable[..., Path]] = {
    "ade20k": write_ade20k,
    "cityscapes": write_cityscapes,
    "voc2012": write_voc2012,
    "context59": write_context,
    "context60": write_context,
    "cocostuff10k": write_cocostuff10k,
    "cocostuff164k": write_cocostuff164k,
    "vaihingen": write_vaihingen,
    "chase_db1": write_chase_db1,
    "stare": write_stare,
}
"""Writer of each set, by the name of its benchmark; both of PASCAL Context share one."""
