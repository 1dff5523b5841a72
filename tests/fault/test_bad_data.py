from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.base import IGNORE, SPLITS, Benchmark
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import blocks, save
from benchmark.data.fake.small import WRITERS
from tests.helpers.files import truncate

pytestmark = pytest.mark.no_torch

NAMES = list(WRITERS)


def fails(name: str, root: Path | None) -> str:
    """The one line that loading all splits ends with."""
    with pytest.raises(DataError) as info:
        benchmark = available()[name](root)
        for split in SPLITS:
            open_split(benchmark, split)
    message = str(info.value)
    assert message and len(message.splitlines()) == 1
    return message


def label_file(name: str, root: Path) -> Path:
    benchmark = available()[name](root)
    return Path(benchmark.where(benchmark.ids("train")[0]))


def image_file(name: str, root: Path) -> Path:
    id = available()[name](root).ids("train")[0]
    return {
        "camvid": lambda: root / "camvid/CamVid" / f"{id}.png",
        "dubai": lambda: (
            root / "dubai/Semantic segmentation dataset" / f"{id.replace('/', '/images/')}.jpg"
        ),
        "wbc": lambda: root / "wbc" / f"{id}.bmp",
        "mtd": lambda: root / "mtd" / f"{id.replace('/', '/Imgs/')}.jpg",
        "ccp": lambda: root / "ccp/photos" / f"{id}.jpg",
    }[name]()


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [label_file, image_file])
def test_missing_file(name: str, which: Callable[[str, Path], Path], tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = which(name, tmp_path)
    if which is image_file and name != "camvid":
        # Elsewhere an image that is gone is no example; it may still go between listing and read.
        benchmark = available()[name](tmp_path)
        id = benchmark.ids("train")[0]
        path.unlink()
        with pytest.raises(DataError, match="is missing") as info:
            benchmark.read(id)
        assert str(path) in str(info.value)
        return
    path.unlink()
    message = fails(name, tmp_path)
    assert str(path) in message and "is missing" in message
    assert available()[name].origin in message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", [label_file, image_file])
@pytest.mark.parametrize("share", [0, 0.2, 0.6])
def test_truncated_file(
    name: str, which: Callable[[str, Path], Path], share: float, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    path = which(name, tmp_path)
    truncate(path, share)
    message = fails(name, tmp_path)
    assert str(path) in message and "truncated or damaged" in message
    assert available()[name].origin in message


@pytest.mark.parametrize("name", NAMES)
def test_size_mismatch(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = label_file(name, tmp_path)
    if name == "ccp":
        savemat(path, {"groundtruth": np.zeros((20, 30), np.uint8)})
    else:
        Image.open(path).resize((30, 20), Image.Resampling.NEAREST).save(path)
    message = fails(name, tmp_path)
    assert str(path) in message and "30x20" in message and "56x40" in message


@pytest.mark.parametrize("value", [12, 254, 255])
def test_camvid_value_out_of_range(value: int, tmp_path: Path) -> None:
    WRITERS["camvid"](tmp_path)
    path = label_file("camvid", tmp_path)
    save(path, blocks([0, value], seed=0))
    message = fails("camvid", tmp_path)
    assert str(path) in message and f"label value {value} is out of range" in message


@pytest.mark.parametrize("value", [59, 255])
def test_ccp_value_out_of_range(value: int, tmp_path: Path) -> None:
    WRITERS["ccp"](tmp_path)
    path = label_file("ccp", tmp_path)
    savemat(path, {"groundtruth": blocks([0, value], seed=0)})
    message = fails("ccp", tmp_path)
    assert str(path) in message and f"label value {value} is out of range" in message


@pytest.mark.parametrize("values", [np.full((40, 56), 300), np.full((40, 56), 0.5)])
def test_ccp_label_of_another_kind(values: np.ndarray, tmp_path: Path) -> None:
    WRITERS["ccp"](tmp_path)
    path = label_file("ccp", tmp_path)
    savemat(path, {"groundtruth": values})
    assert str(path) in fails("ccp", tmp_path)


def test_ccp_damaged_label_list(tmp_path: Path) -> None:
    path = WRITERS["ccp"](tmp_path) / "label_list.mat"
    truncate(path)
    assert str(path) in fails("ccp", tmp_path)


def test_camvid_colour_label(tmp_path: Path) -> None:
    WRITERS["camvid"](tmp_path)
    path = label_file("camvid", tmp_path)
    save(path, np.zeros((40, 56, 3), np.uint8))
    message = fails("camvid", tmp_path)
    assert str(path) in message and "class index" in message


def test_dubai_unknown_colour(tmp_path: Path) -> None:
    WRITERS["dubai"](tmp_path)
    path = label_file("dubai", tmp_path)
    pixels = np.zeros((40, 56, 3), np.uint8)
    # The colour that classes.json promises for water, which no mask has.
    pixels[3, 4] = (0x50, 0xE3, 0xC2)
    save(path, pixels)
    message = fails("dubai", tmp_path)
    assert str(path) in message and "#50E3C2" in message


def test_camvid_empty_split(tmp_path: Path) -> None:
    (WRITERS["camvid"](tmp_path) / "val.txt").write_text("\n")
    message = fails("camvid", tmp_path)
    assert "val split is empty" in message and "camvid/CamVid" in message


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("dubai", "Tile */images/*"),
        ("wbc", "*/*.bmp"),
        ("mtd", "*/Imgs/*.jpg"),
        ("ccp", "photos/*"),
    ],
)
def test_empty_split(name: str, pattern: str, tmp_path: Path) -> None:
    for path in WRITERS[name](tmp_path).glob(pattern):
        path.unlink()
    message = fails(name, tmp_path)
    assert "train split is empty" in message and str(available()[name].folder) in message


@pytest.mark.parametrize(
    ("name", "inner"), [("wbc", "Dataset 2"), ("mtd", "MT_Crack/Imgs"), ("ccp", "photos")]
)
def test_missing_inner_folder(name: str, inner: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path) / inner
    folder.rename(tmp_path / "elsewhere")
    message = fails(name, tmp_path)
    assert str(folder) in message and "is missing" in message


def test_camvid_missing_list(tmp_path: Path) -> None:
    path = WRITERS["camvid"](tmp_path) / "test.txt"
    path.unlink()
    assert str(path) in fails("camvid", tmp_path)


def test_camvid_list_without_labels(tmp_path: Path) -> None:
    path = WRITERS["camvid"](tmp_path) / "test.txt"
    path.write_text("/SegNet/CamVid/test/test_00000.png\n")
    assert str(path) in fails("camvid", tmp_path)


def test_camvid_image_in_two_splits(tmp_path: Path) -> None:
    base = WRITERS["camvid"](tmp_path)
    (base / "test.txt").write_text((base / "train.txt").read_text())
    message = fails("camvid", tmp_path)
    assert str(base / "test.txt") in message and "listed twice" in message


def test_a_split_without_a_labelled_pixel_is_told():
    class Void(Benchmark):
        name, folder, classes, fingerprint = "void", None, ("a", "b"), "1"

        def ids(self, split):
            return ["one"]

        def read(self, id):
            return np.zeros((4, 4, 3), np.uint8), np.full((4, 4), IGNORE, np.uint8)

    with pytest.raises(DataError, match="no pixel of the train split is labelled"):
        open_split(Void(), "train")
