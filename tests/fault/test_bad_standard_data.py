from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.base import SPLITS, Benchmark
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import SIZE, save
from benchmark.data.fake.standard import COCO_UNUSED, WRITERS, write_lines, write_sbd
from tests.helpers.files import truncate

pytestmark = pytest.mark.no_torch

NAMES = list(WRITERS)
VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"


def fails(name: str, root: Path | None) -> str:
    """The one line that loading all splits ends with."""
    with pytest.raises(DataError) as info:
        benchmark = available()[name](root)
        for split in SPLITS:
            open_split(benchmark, split)
    message = str(info.value)
    assert message and len(message.splitlines()) == 1
    return message


def written(name: str, root: Path) -> tuple[Benchmark, Path, Path]:
    """A fresh set, and image and label of its first training example with a label of its own."""
    WRITERS[name](root)
    benchmark = available()[name](root)
    image, label = benchmark.files(benchmark.ids("train")[0])
    return benchmark, image, label


def put(name: str, path: Path, values: np.ndarray) -> None:
    """Writes a label in the format of its set."""
    key = {"context59": "LabelMap", "context60": "LabelMap", "cocostuff10k": "S"}.get(name)
    if key:
        savemat(path, {key: values})
    elif path.suffix == ".mat":
        write_sbd(path, values)
    else:
        save(path, values)


@pytest.mark.parametrize("name", NAMES)
def test_no_root(name: str) -> None:
    message = fails(name, None)
    assert "BENCHMARK_DATA" in message and "--data" in message


@pytest.mark.parametrize("name", NAMES)
def test_missing_folder(name: str, tmp_path: Path) -> None:
    message = fails(name, tmp_path)
    cls = available()[name]
    for part in (str(tmp_path / str(cls.folder)), "BENCHMARK_DATA", "--data", cls.origin):
        assert part in message


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("ade20k", "images/training"),
        ("ade20k", "images/validation"),
        ("cityscapes", "leftImg8bit/train"),
        ("cityscapes", "leftImg8bit/val"),
        ("context59", "trainval"),
        ("cocostuff164k", "images/train2017"),
        ("cocostuff164k", "images/val2017"),
        ("stare", "images/training"),
        ("stare", "images/validation"),
        ("vaihingen", "img_dir/train"),
        ("vaihingen", "img_dir/val"),
    ],
)
def test_missing_inner_folder(name: str, inner: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path) / inner
    folder.rename(tmp_path / "elsewhere")
    message = fails(name, tmp_path)
    assert str(folder) in message and "is missing" in message
    assert (available()[name].manual or available()[name].origin) in message


def test_cityscapes_says_which_files_to_fetch(tmp_path: Path) -> None:
    (WRITERS["cityscapes"](tmp_path) / "leftImg8bit/train").rename(tmp_path / "elsewhere")
    message = fails("cityscapes", tmp_path)
    assert "leftImg8bit_trainvaltest.zip" in message and "gtFine_trainvaltest.zip" in message


@pytest.mark.parametrize(
    ("name", "list_"),
    [
        ("voc2012", f"{VOC}/ImageSets/Segmentation/train.txt"),
        ("voc2012", f"{VOC}/ImageSets/Segmentation/val.txt"),
        ("voc2012", f"{SBD}/train.txt"),
        ("voc2012", f"{SBD}/val.txt"),
        ("context59", "VOCdevkit/VOC2010/ImageSets/Main/train.txt"),
        ("context60", "VOCdevkit/VOC2010/ImageSets/Main/val.txt"),
        ("context59", "labels.txt"),
        ("cocostuff10k", "imageLists/train.txt"),
        ("cocostuff10k", "imageLists/test.txt"),
    ],
)
def test_missing_list(name: str, list_: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path) / list_
    path.unlink()
    message = fails(name, tmp_path)
    assert str(path) in message and "is missing" in message
    assert available()[name].origin in message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [0, 1])
def test_missing_file(name: str, which: int, tmp_path: Path) -> None:
    benchmark, *files = written(name, tmp_path)
    files[which].unlink()
    with pytest.raises(DataError, match="is missing") as info:
        benchmark.read(benchmark.ids("train")[0])
    assert str(files[which]) in str(info.value) and benchmark.origin in str(info.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("share", [0, 0.2, 0.6])
def test_truncated_file(name: str, which: int, share: float, tmp_path: Path) -> None:
    _, *files = written(name, tmp_path)
    truncate(files[which], share)
    message = fails(name, tmp_path)
    assert str(files[which]) in message and "truncated or damaged" in message
    assert available()[name].origin in message


@pytest.mark.parametrize("share", [0, 0.2, 0.6])
def test_truncated_sbd_label(share: float, tmp_path: Path) -> None:
    path = WRITERS["voc2012"](tmp_path) / SBD / "cls/2009_000001.mat"
    truncate(path, share)
    message = fails("voc2012", tmp_path)
    assert str(path) in message and "truncated or damaged" in message


@pytest.mark.parametrize("name", NAMES)
def test_size_mismatch(name: str, tmp_path: Path) -> None:
    _, _, label = written(name, tmp_path)
    put(name, label, np.ones((20, 30), np.uint8))
    message = fails(name, tmp_path)
    assert str(label) in message and "30x20" in message and "56x40" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ade20k", value) for value in (151, 254, 255)),
        *(("cityscapes", value) for value in (34, 254)),
        *(("voc2012", value) for value in (21, 254)),
        *(("context59", value) for value in (460, 65535)),
        *(("context60", value) for value in (460, 65535)),
        *(("cocostuff10k", value) for value in (*COCO_UNUSED, 183, 255)),
        *(("cocostuff164k", value - 1) for value in (*COCO_UNUSED, 183, 255)),
    ],
)
def test_value_out_of_range(name: str, value: int, tmp_path: Path) -> None:
    _, _, label = written(name, tmp_path)
    values = np.ones(SIZE, np.uint16 if value > 255 else np.uint8)
    values[7, 9] = value
    put(name, label, values)
    message = fails(name, tmp_path)
    assert str(label) in message and f"label value {value} is out of range" in message
    assert available()[name].origin in message


@pytest.mark.parametrize("value", [21, 255])
def test_sbd_value_out_of_range(value: int, tmp_path: Path) -> None:
    path = WRITERS["voc2012"](tmp_path) / SBD / "cls/2009_000001.mat"
    write_sbd(path, np.full(SIZE, value, np.uint8))
    message = fails("voc2012", tmp_path)
    assert str(path) in message and f"label value {value} is out of range" in message


@pytest.mark.parametrize("name", ["ade20k", "cityscapes", "cocostuff164k"])
def test_colour_label(name: str, tmp_path: Path) -> None:
    _, _, label = written(name, tmp_path)
    save(label, np.zeros((*SIZE, 3), np.uint8))
    message = fails(name, tmp_path)
    assert str(label) in message and "class index" in message


def test_voc_label_with_resolved_palette(tmp_path: Path) -> None:
    path = WRITERS["voc2012"](tmp_path) / VOC / "SegmentationClass/2007_000001.png"
    Image.open(path).convert("RGB").save(path)
    message = fails("voc2012", tmp_path)
    assert str(path) in message and "class index" in message


@pytest.mark.parametrize("name", ["context59", "cocostuff10k"])
@pytest.mark.parametrize(
    "content",
    [
        lambda key: {key: np.full(SIZE, 0.5)},
        lambda key: {key: np.zeros((*SIZE, 3))},
        lambda key: {"another": np.zeros(SIZE)},
    ],
)
def test_mat_of_another_kind(
    name: str, content: Callable[[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    _, _, label = written(name, tmp_path)
    savemat(label, content("S" if name == "cocostuff10k" else "LabelMap"))
    assert str(label) in fails(name, tmp_path)


def test_context_names_that_lack_a_class(tmp_path: Path) -> None:
    path = WRITERS["context59"](tmp_path) / "labels.txt"
    path.write_text(path.read_text().replace(": wood\n", ": timber\n"))
    message = fails("context59", tmp_path)
    assert str(path) in message and "'wood'" in message


def test_context_names_of_another_kind(tmp_path: Path) -> None:
    path = WRITERS["context59"](tmp_path) / "labels.txt"
    path.write_text("aeroplane\nwood\n")
    assert str(path) in fails("context59", tmp_path)


def test_listed_twice(tmp_path: Path) -> None:
    path = WRITERS["cocostuff10k"](tmp_path) / "imageLists/train.txt"
    write_lines(path, ["a", "b", "a"])
    message = fails("cocostuff10k", tmp_path)
    assert str(path) in message and "a is listed twice" in message


def test_listed_in_both_splits(tmp_path: Path) -> None:
    base = WRITERS["cocostuff10k"](tmp_path)
    (base / "imageLists/test.txt").write_text((base / "imageLists/train.txt").read_text())
    message = fails("cocostuff10k", tmp_path)
    assert str(base) in message and "training and validation" in message


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("ade20k", "images/training/*"),
        ("cityscapes", "leftImg8bit/train/*/*"),
        ("context59", "trainval/*"),
        ("cocostuff164k", "images/train2017/*"),
        ("vaihingen", "img_dir/train/*"),
        ("chase_db1", "Image_0*"),
        ("stare", "images/training/*"),
    ],
)
def test_empty_split(name: str, pattern: str, tmp_path: Path) -> None:
    for path in WRITERS[name](tmp_path).glob(pattern):
        path.unlink()
    message = fails(name, tmp_path)
    assert "train split is empty" in message and str(available()[name].folder) in message
