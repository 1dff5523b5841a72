import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from benchmark.data import available
from benchmark.data.base import IGNORE, SPLITS, Benchmark, carve
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import blocks, save
from benchmark.data.fake.small import CCP_NAMES, WRITERS
from benchmark.data.files import read_gray, read_indexed, read_rgb
from benchmark.data.sets.ccp import GROUPS
from tests.helpers.files import write_all

pytestmark = pytest.mark.no_torch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


def make(name: str, root: Path) -> Benchmark:
    return available()[name](root)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("camvid", (3, 3, 3)),
        ("dubai", (12, 2, 4)),
        ("wbc", (12, 2, 6)),
        ("mtd", (36, 6, 18)),
        ("ccp", (8, 1, 3)),
    ],
)
def test_splits(name: str, counts: tuple[int, ...], root: Path) -> None:
    benchmark = make(name, root)
    ids = [benchmark.ids(split) for split in SPLITS]
    flat = [id for members in ids for id in members]
    assert tuple(map(len, ids)) == counts
    assert len(set(flat)) == len(flat), "splits share ids"
    assert [make(name, root).ids(split) for split in SPLITS] == ids, "ids change between calls"
    assert not any(str(root) in id for id in flat)


@pytest.mark.parametrize("name", WRITERS)
def test_examples(name: str, root: Path) -> None:
    benchmark = make(name, root)
    examples = [example for split in SPLITS for example in open_split(benchmark, split)]
    seen: set[int] = set()
    for example in examples:
        assert example.image.dtype == example.label.dtype == np.uint8
        assert example.image.shape == (*example.label.shape, 3)
        seen |= set(np.unique(example.label).tolist())
        assert Path(benchmark.where(example.id)).is_file()
    void = {IGNORE} if name in ("camvid", "dubai") else set()
    assert seen == set(range(len(benchmark.classes))) | void


@pytest.mark.parametrize("name", WRITERS)
def test_description(name: str) -> None:
    cls = available()[name]
    assert cls.name == name
    for text in (cls.title, cls.domain, cls.folder, cls.origin, cls.licence, cls.citation):
        assert text and "\n" not in text
    assert len(set(cls.classes)) == len(cls.classes)


def test_scales(root: Path) -> None:
    assert make("camvid", root).scale(360, 480) == 1
    assert make("mtd", root).scale(300, 200) == 1
    assert make("dubai", root).scale(544, 509) == 0.6
    assert make("ccp", root).scale(825, 550) == 0.5
    wbc = make("wbc", root)
    assert wbc.scale(112, 120) == 2
    assert wbc.scale(300, 300) == 1


def test_camvid_void_and_order(root: Path) -> None:
    camvid = make("camvid", root)
    assert camvid.ids("train") == ["train/train_00000", "train/train_00001", "train/train_00002"]
    raw = np.asarray(Image.open(camvid.where("train/train_00001")))
    _, label = camvid.read("train/train_00001")
    np.testing.assert_array_equal(label, np.where(raw == 11, IGNORE, raw))


def test_camvid_list_on_one_line(root: Path) -> None:
    # Some revisions of the origin's lists have no line breaks.
    path = root / "camvid" / "CamVid" / "val.txt"
    text = path.read_text()
    path.write_text(" ".join(text.split()))
    assert len(make("camvid", root).ids("val")) == 3
    path.write_text(text)


def test_dubai_colours_and_parts(root: Path) -> None:
    dubai = make("dubai", root)
    assert dubai.ids("val") == ["Tile 1/image_part_007", "Tile 2/image_part_007"]
    # Tile 1 stores RGB, tile 2 a palette; both mean the same colours.
    for tile in (1, 2):
        _, label = dubai.read(f"Tile {tile}/image_part_003")
        index = blocks(list(range(7)), seed=9 * tile + 3)
        np.testing.assert_array_equal(label, np.where(index >= 5, IGNORE, index))


def test_wbc_takes_the_nearest_grey(root: Path, tmp_path: Path) -> None:
    base = WRITERS["wbc"](tmp_path)
    greys = np.array([[0, 25, 63, 65, 128, 190, 192, 255]], dtype=np.uint8)
    save(base / "Dataset 1" / "001.png", greys)
    _, label = make("wbc", tmp_path).read("Dataset 1/001")
    assert label.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]


def test_wbc_is_stratified(root: Path) -> None:
    train = make("wbc", root).ids("train")
    assert sum(id.startswith("Dataset 1/") for id in train) == 6


def test_mtd_threshold_and_stratification(root: Path) -> None:
    mtd = make("mtd", root)
    for k, name in enumerate(("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")):
        ids = [id for id in mtd.ids("test") if id.startswith(f"MT_{name}/")]
        assert len(ids) == 3
        raw = np.asarray(Image.open(mtd.where(ids[0])))
        np.testing.assert_array_equal(mtd.read(ids[0])[1], (raw >= 128) * k)


def test_ccp_groups(tmp_path: Path) -> None:
    base = WRITERS["ccp"](tmp_path)
    raw = np.arange(59, dtype=np.uint8)[None]
    save(base / "photos" / "0001.jpg", np.zeros((1, 59, 3), dtype=np.uint8))
    savemat(base / "annotations" / "pixel-level" / "0001.mat", {"groundtruth": raw})
    ccp = make("ccp", tmp_path)
    label = ccp.read("0001")[1][0]
    got = {name: ccp.classes[v] for name, v in zip(CCP_NAMES, label, strict=True)}
    assert {k: got[k] for k in ("null", "t-shirt", "suit", "romper", "tights", "purse")} == {
        "null": "background",
        "t-shirt": "top",
        "suit": "outerwear",
        "romper": "dress",
        "tights": "footwear",
        "purse": "bag",
    }
    assert " ".join(k for k, v in got.items() if v == "accessories") == (
        "accessories belt bracelet earrings glasses gloves hat intimate necklace panties ring "
        "scarf sunglasses swimwear tie watch"
    )
    # A misspelt member of a group would fall silently among the accessories.
    assert set(" ".join(GROUPS.values()).split()) <= set(CCP_NAMES)


def test_ccp_leaves_out_photos_without_pixel_labels(root: Path) -> None:
    ccp = make("ccp", root)
    assert all("1005" not in ccp.ids(split) for split in SPLITS)


def test_ccp_split_of_the_subset() -> None:
    ids = [f"{i:04}" for i in range(300)]
    split = carve(ids, (2 / 3, 0.1, 1 - 2 / 3 - 0.1))
    assert [len(split[s]) for s in SPLITS] == [200, 30, 70]


@pytest.mark.parametrize(("name", "folder"), [("wbc", "Dataset 1"), ("mtd", "MT_Fray/Imgs")])
def test_hidden_files_are_no_examples(name: str, folder: str, tmp_path: Path) -> None:
    base = WRITERS[name](tmp_path)
    before = make(name, tmp_path).ids("train")
    for suffix in (".bmp", ".jpg", ".png"):
        (base / folder / f"._001{suffix}").write_bytes(b"")
    assert make(name, tmp_path).ids("train") == before


def test_ids_do_not_depend_on_the_order_of_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {n: [make(n, root).ids(s) for s in SPLITS] for n in WRITERS}
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, p: iter(sorted(glob(self, p), reverse=True)))
    assert {n: [make(n, root).ids(s) for s in SPLITS] for n in WRITERS} == before


def test_palette_images(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2]], dtype=np.uint8)
    image = Image.fromarray(stored, mode="P")
    image.putpalette([10, 10, 10, 200, 0, 0, 255, 255, 255])
    path = tmp_path / "p.png"
    image.save(path)
    assert read_indexed(path, "origin").tolist() == [[0, 1, 2]]
    assert read_rgb(path, "origin").tolist() == [[[10, 10, 10], [200, 0, 0], [255, 255, 255]]]
    assert read_gray(path, "origin")[0, [0, 2]].tolist() == [10, 255]


def test_importing_the_package_is_light() -> None:
    code = "import sys, benchmark.data; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
