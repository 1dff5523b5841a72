from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from benchmark.data import available
from benchmark.data.base import IGNORE, SPLITS, Benchmark, read_example
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import save
from benchmark.data.fake.standard import (
    COCO_IDS,
    COCO_UNUSED,
    CONTEXT_IDS,
    WRITERS,
    write_lines,
    write_sbd,
)
from benchmark.data.sets.carving import carve_val, shorter_side
from benchmark.data.sets.classes import class_colours, class_names
from benchmark.data.sets.cocostuff import UNUSED
from benchmark.engine.counts import class_counts
from benchmark.results.metrics import class_iou

NAMES = list(WRITERS)
WITHOUT_VOID = ("context60", "chase_db1", "stare")
OFFICIAL = "official_samples"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standard")
    for write in dict.fromkeys(WRITERS.values()):
        write(folder)
    return folder


def make(name: str, root: Path) -> Benchmark:
    return available()[name](root)


def read_back(name: str, root: Path, raw: list[int]) -> list[int]:
    """Labels that the loader makes of a training label whose one row is `raw`."""
    benchmark = make(name, root)
    id = next(id for id in benchmark.ids("train") if not id.startswith("2009"))
    image, label = benchmark.files(id)
    values = np.array([raw])
    save(image, np.zeros((1, len(raw), 3), np.uint8))
    if name in ("context59", "context60"):
        savemat(label, {"LabelMap": values.astype(np.uint16)})
    elif name == "cocostuff10k":
        savemat(label, {"S": values.astype(np.uint8)})
    else:
        save(label, values.astype(np.uint8))
    return benchmark.read(id)[1][0].tolist()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ade20k", (3, 1, 4)),
        ("cityscapes", (7, 1, 4)),
        ("voc2012", (7, 1, 4)),
        ("context59", (3, 1, 4)),
        ("context60", (3, 1, 4)),
        ("cocostuff10k", (3, 1, 4)),
        ("cocostuff164k", (3, 1, 4)),
        ("vaihingen", (6, 2, 8)),
        ("chase_db1", (6, 2, 8)),
        ("stare", (3, 1, 4)),
    ],
)
def test_splits(name: str, counts: tuple[int, ...], root: Path) -> None:
    benchmark = make(name, root)
    ids = [benchmark.ids(split) for split in SPLITS]
    flat = [id for members in ids for id in members]
    assert tuple(map(len, ids)) == counts
    assert len(set(flat)) == len(flat), "splits share ids"
    assert [make(name, root).ids(split) for split in SPLITS] == ids, "ids change between objects"
    assert not any(str(root) in id for id in flat)


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str, root: Path) -> None:
    benchmark = make(name, root)
    classes = set(range(len(benchmark.classes)))
    for split in SPLITS:
        seen: set[int] = set()
        for example in open_split(benchmark, split):
            assert example.image.dtype == example.label.dtype == np.uint8
            assert example.image.shape == (40, 56, 3) and example.label.shape == (40, 56)
            seen |= set(np.unique(example.label).tolist())
            assert all(path.is_file() for path in benchmark.files(example.id))
        if split == "val":
            assert seen <= classes | {IGNORE}
        else:
            assert seen == classes | ({IGNORE} if name not in WITHOUT_VOID else set())


@pytest.mark.parametrize("name", NAMES)
def test_description(name: str) -> None:
    cls = available()[name]
    assert cls.name == name
    for text in (cls.title, cls.domain, cls.folder, cls.origin, cls.licence, cls.citation):
        assert text and "\n" not in text
    assert len(set(cls.classes)) == len(cls.classes)
    assert all(name == name.strip() and name for name in cls.classes)
    assert len(cls.colours) in (0, len(cls.classes))
    assert bool(cls.sources) != bool(cls.manual), "neither or both ways to get the files"
    for source in cls.sources:
        # What is unpacked must be what the loader reads.
        assert str(cls.folder).split("/")[0] == source.to.split("/")[0]


def test_titles_are_unique() -> None:
    assert len({available()[name].title for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_split_is_listed_once(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = make(name, root)
    ids = {split: benchmark.ids(split) for split in SPLITS}
    benchmark.read(ids["train"][0])
    for method in ("glob", "iterdir"):
        monkeypatch.setattr(Path, method, lambda *_: pytest.fail("a folder is listed again"))
    for split, members in ids.items():
        assert benchmark.ids(split) == members
        for id in members:
            benchmark.files(id)
    ids["train"].clear()
    assert benchmark.ids("train"), "the cached list itself was handed out"


@pytest.mark.parametrize(
    "name", ["ade20k", "cityscapes", "cocostuff164k", "vaihingen", "chase_db1", "stare"]
)
def test_ids_do_not_depend_on_the_order_of_files(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [make(name, root).ids(split) for split in SPLITS]
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, p: iter(sorted(glob(self, p), reverse=True)))
    assert [make(name, root).ids(split) for split in SPLITS] == before


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ade20k", "ade20k/ADEChallengeData2016/images/training"),
        ("cityscapes", "cityscapes/leftImg8bit/train/aachen"),
        ("context59", "pascal_context/trainval"),
        ("cocostuff164k", "cocostuff164k/images/train2017"),
        ("vaihingen", "vaihingen/img_dir/train"),
        ("chase_db1", "chase_db1/CHASEDB1"),
        ("stare", "stare/STARE/images/training"),
    ],
)
def test_hidden_files_are_no_examples(name: str, folder: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    before = make(name, tmp_path).ids("train")
    some = next((tmp_path / folder).iterdir())
    (tmp_path / folder / f"._{some.name}").write_bytes(b"")
    if name == "cityscapes":
        (tmp_path / "cityscapes/leftImg8bit/train/.DS_Store").write_bytes(b"")
    assert make(name, tmp_path).ids("train") == before


def test_ade_is_shifted_exactly_once(tmp_path: Path) -> None:
    WRITERS["ade20k"](tmp_path)
    assert read_back("ade20k", tmp_path, [0, 1, 2, 150]) == [255, 0, 1, 149]
    raw = list(range(151))
    assert read_back("ade20k", tmp_path, raw) == [255, *range(150)]


def test_cityscapes_ids(tmp_path: Path) -> None:
    WRITERS["cityscapes"](tmp_path)
    v = 255
    # The train ids of the label ids 0 to 33, from the official list of labels.
    expected = [v, v, v, v, v, v, v, 0, 1, v, v, 2, 3, 4, v, v, v, 5, v, 6, 7, 8, 9, 10, 11, 12, 13]
    expected += [14, 15, v, v, 16, 17, 18]
    assert read_back("cityscapes", tmp_path, [*range(34), 255]) == [*expected, 255]
    cls = available()["cityscapes"]
    assert cls.classes[10] == "sky" and cls.colours[10] == "#4682B4"
    assert cls.classes[18] == "bicycle" and cls.colours[18] == "#770B20"


def test_cityscapes_val_takes_its_share_of_each_city(tmp_path: Path) -> None:
    WRITERS["cityscapes"](tmp_path, n=20)
    val = make("cityscapes", tmp_path).ids("val")
    assert [id.split("/")[1] for id in val] == ["aachen", "bochum"]


def test_voc_stored_indices_and_border(tmp_path: Path) -> None:
    WRITERS["voc2012"](tmp_path)
    assert read_back("voc2012", tmp_path, [*range(21), 255]) == [*range(21), 255]


def test_voc_palettes_stay_unresolved(root: Path) -> None:
    voc = make("voc2012", root)
    with Image.open(voc.where("2008_000001")) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(voc.read("2008_000001")[1], np.asarray(image))


def test_voc_augmented_list(tmp_path: Path) -> None:
    base = WRITERS["voc2012"](tmp_path)
    lists = base / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    write_lines(lists / "train.txt", ["a", "b", "c"])
    write_lines(lists / "val.txt", ["d", "e"])
    write_lines(base / "benchmark_RELEASE/dataset/train.txt", ["f", "b", "e"])
    write_lines(base / "benchmark_RELEASE/dataset/val.txt", ["d", "g", "c", "f"])
    voc = make("voc2012", tmp_path)
    assert sorted(voc.ids("train") + voc.ids("val")) == ["a", "b", "c", "f", "g"]
    assert voc.ids("test") == ["d", "e"]
    assert [voc.files(id)[1].suffix for id in "abcdefg"] == [".png"] * 5 + [".mat"] * 2


def test_voc_prefers_its_own_labels(root: Path) -> None:
    # SBD's labels of these two are all background.
    voc = make("voc2012", root)
    for id in ("2007_000000", "2008_000000"):
        assert set(np.unique(voc.read(id)[1])) == {*range(21), 255}


def test_sbd_labels(tmp_path: Path) -> None:
    base = WRITERS["voc2012"](tmp_path)
    raw = np.arange(21, dtype=np.uint8)[None]
    write_sbd(base / "benchmark_RELEASE/dataset/cls/2009_000001.mat", raw)
    assert make("voc2012", tmp_path).read("2009_000001")[1].tolist() == raw.tolist()


@pytest.mark.parametrize(("name", "rest"), [("context59", 255), ("context60", 0)])
def test_context_by_name(name: str, rest: int, tmp_path: Path) -> None:
    WRITERS["context59"](tmp_path)
    classes = available()[name].classes
    raw = list(range(460))
    got = read_back(name, tmp_path, raw)
    named = {id: classes.index(class_) for class_, id in CONTEXT_IDS.items()}
    assert len(named) == 59
    assert got == [named.get(id, rest) for id in raw]
    # aeroplane comes first and wood last, whatever their raw ids.
    assert (got[2], got[458]) == ((0, 58) if name == "context59" else (1, 59))


def test_context_follows_the_file_of_names(tmp_path: Path) -> None:
    path = WRITERS["context59"](tmp_path) / "labels.txt"
    lines = path.read_text().splitlines()
    lines[1], lines[457] = "2: wood", "458: aeroplane"
    before = make("context59", tmp_path).fingerprint
    write_lines(path, lines[::-1])
    assert read_back("context59", tmp_path, [2, 458]) == [58, 0]
    assert make("context59", tmp_path).fingerprint != before, "decoded labels would be kept"


def test_context_leaves_out_images_without_labels(root: Path) -> None:
    context = make("context59", root)
    assert all(id[-1] != "4" for split in SPLITS for id in context.ids(split))


def test_cocostuff_gaps(tmp_path: Path) -> None:
    for name in ("cocostuff10k", "cocostuff164k"):
        WRITERS[name](tmp_path)
    assert UNUSED == COCO_UNUSED
    expected = [255, *range(171)]
    assert read_back("cocostuff10k", tmp_path, [0, *COCO_IDS]) == expected
    assert read_back("cocostuff164k", tmp_path, [255, *(i - 1 for i in COCO_IDS)]) == expected
    # Official ids beside the first gaps, and of the first and last stuff.
    by_hand = {1: "person", 11: "fire hydrant", 13: "stop sign", 90: "toothbrush", 92: "banner"}
    by_hand |= {72: "tv", 105: "clothes", 182: "wood"}
    classes = available()["cocostuff10k"].classes
    assert classes == available()["cocostuff164k"].classes
    got = read_back("cocostuff10k", tmp_path, list(by_hand))
    assert [classes[k] for k in got] == list(by_hand.values())


def test_scales(root: Path) -> None:
    for name in ("ade20k", "voc2012", "cocostuff10k", "cocostuff164k"):
        assert make(name, root).scale(256, 384) == 2
        assert make(name, root).scale(4096, 100) == 0.5
    for name in ("context59", "context60"):
        assert make(name, root).scale(500, 260) == 2
        assert make(name, root).scale(100, 4160) == 0.5
    for name in ("cityscapes", "vaihingen", "chase_db1", "stare"):
        assert make(name, root).scale(1024, 2048) == 1
    assert shorter_side(2048, 2048, 512, 2048) == 0.25


def test_class_files() -> None:
    assert class_colours("ade20k") == ()
    assert len(class_colours("cityscapes")) == len(class_names("cityscapes")) == 19


def test_carve_val() -> None:
    ids = [f"{i:05}" for i in range(20210)]
    train, val = carve_val(ids, 0.02)
    assert len(val) == 404 and sorted(train + val) == ids
    assert carve_val(ids[::-1], 0.02) == (train, val), "depends on the order of the ids"
    assert len(carve_val(ids[:3], 0.02)[1]) == 1
    assert carve_val([], 0.02) == ([], [])
    train, val = carve_val(ids[:200], 0.05, {id: int(id) % 2 for id in ids[:200]})
    assert sorted(int(id) % 2 for id in val) == [0] * 5 + [1] * 5


def official(name: str, data_root: Path) -> Benchmark:
    if not (data_root / OFFICIAL / name).is_dir():
        pytest.skip(f"no official samples of {name}")
    return make(name, data_root / OFFICIAL)


@pytest.mark.realdata
def test_real_ade_classes(data_root: Path) -> None:
    ade = official("ade20k", data_root)
    path = data_root / OFFICIAL / "ade20k/ADEChallengeData2016/objectInfo150.txt"
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    assert [int(row[0]) for row in rows] == list(range(1, 151))
    assert ade.classes == tuple(row[4].split(",")[0].strip() for row in rows)


@pytest.mark.realdata
def test_real_ade_labels(data_root: Path) -> None:
    ade = official("ade20k", data_root)
    assert len(ade.ids("test")) == 3
    for example in (read_example(ade, id) for id in ade.ids("test")):
        with Image.open(ade.where(example.id)) as image:
            raw = np.array(image).astype(int)
        for value in range(151):
            expected = 255 if value == 0 else value - 1
            assert (example.label[raw == value] == expected).all()
        assert raw.max() <= 150


@pytest.mark.realdata
@pytest.mark.parametrize("shift", [0, 9])
def test_real_ade_miou_two_ways(shift: int, data_root: Path) -> None:
    """The published predictions equal the labels; shifted sideways, they are far from perfect."""
    ade = official("ade20k", data_root)
    folder = data_root / OFFICIAL / "ade20k"
    ours = []
    overlap, total = np.zeros((2, 151), np.float64)
    present = np.zeros(151, bool)
    for id in ade.ids("test"):
        stem = id.split("/")[1]
        # Predictions are stored as labels are: 1..150, and 0 where the label is 0.
        with Image.open(folder / "predictions" / f"{stem}.png") as image:
            predicted = np.roll(np.array(image), shift, axis=1).astype(np.int64)
        guessed = torch.from_numpy((predicted - 1).clip(0))
        label = torch.from_numpy(np.array(ade.read(id)[1]))
        ours.append(class_counts(guessed, label, 150).numpy())
        with Image.open(ade.where(id)) as image:
            raw = np.array(image)
        valid = raw > 0
        # Nothing but a class can be predicted: class 1 stands in for "other".
        predicted = np.where(predicted == 0, 1, predicted)
        for value in range(1, 151):
            p, t = (predicted == value) & valid, (raw == value) & valid
            overlap[value] += (p & t).sum()
            total[value] += (p | t).sum()
            present[value] |= t.any()
    counts = dict(
        zip(
            ("intersection", "prediction", "label"),
            map(np.stack, zip(*ours, strict=True)),
            strict=True,
        )
    )
    iou = class_iou(counts)
    assert (~np.isnan(iou) == present[1:]).all()
    miou = float(np.mean(overlap[present] / total[present]))
    assert np.nanmean(iou) == pytest.approx(miou, abs=1e-12)
    assert miou == 1.0 if shift == 0 else 0.2 < miou < 0.9


@pytest.mark.realdata
def test_real_cityscapes_train_ids(data_root: Path) -> None:
    """The sample's two kinds of labels were shrunk apart: they differ by a pixel along borders."""
    cityscapes = official("cityscapes", data_root)
    (id,) = cityscapes.ids("test")
    image, label = cityscapes.read(id)
    assert image.shape == (*label.shape, 3)
    with Image.open(cityscapes.where(id).replace("labelIds", "labelTrainIds")) as file:
        train_ids = np.array(file)
    assert set(np.unique(label)) == set(np.unique(train_ids))
    differ = label != train_ids
    assert differ.mean() < 0.005
    around = np.lib.stride_tricks.sliding_window_view(np.pad(label, 2, mode="edge"), (5, 5))
    assert (around == train_ids[..., None, None]).any((2, 3)).all()
    inside = (around == label[..., None, None]).all((2, 3))
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(label[inside], train_ids[inside])
