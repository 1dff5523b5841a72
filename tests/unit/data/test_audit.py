import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmark.core.errors import DataError
from benchmark.data.audit.audit import Audit, audit, render
from benchmark.data.audit.near_duplicates import COARSE, SIDE, Look, look, lookalikes
from benchmark.data.base import IGNORE, SPLITS, Benchmark, Finding, Split
from benchmark.data.fake.small import write_dubai
from benchmark.data.sets.camvid import CamVid
from benchmark.data.sets.dubai import Dubai
from benchmark.data.sets.mtd import MTD
from benchmark.data.sets.wbc import WBC

pytestmark = pytest.mark.no_torch

COUNTS: dict[Split, int] = {"train": 6, "val": 3, "test": 4}


def scene(seed: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """(H, W, 3) uint8 of random rectangles: unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), rng.integers(60, 200, 3), dtype=np.uint8)
    for _ in range(40):
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        h, w = rng.integers(4, 20, 2)
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image


class Memory(Benchmark):
    """Examples in memory, clean as they come; a test plants its fault in `data`."""

    name = "memory"
    title = "Memory: planted faults"
    domain = "test"
    classes = ("sky", "road", "car")
    origin = "memory"
    licence = "none"

    def __init__(self) -> None:
        super().__init__()
        self.lists = {s: [f"{s}{k}" for k in range(n)] for s, n in COUNTS.items()}
        self.data: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.odd: list[Finding] = []
        for k, id in enumerate(id for split in SPLITS for id in self.lists[split]):
            label = np.repeat(np.arange(4, dtype=np.uint8), 20)[None].repeat(60, axis=0)
            label[label == 3] = IGNORE
            label[0, 0] = k % 3
            self.data[id] = scene(k), label

    def ids(self, split: Split) -> list[str]:
        return self.lists[split]

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        if id not in self.data:
            raise DataError(f"{id}.png is missing; fetch it again from {self.origin}")
        return self.data[id]

    def oddities(self) -> Iterator[Finding]:
        yield from self.odd


def test_clean_set() -> None:
    found = audit(Memory())
    assert found.findings == ()
    assert not found.serious
    assert {split: s.images for split, s in found.splits.items()} == COUNTS


def test_summaries() -> None:
    memory = Memory()
    memory.data = {
        id: (image, np.full((60, 80), 1, np.uint8)) for id, (image, _) in memory.data.items()
    }
    label = memory.data["train0"][1]
    label[:30] = IGNORE
    label[30:45] = 0
    grey = scene(0)[..., :1].repeat(3, axis=2)
    memory.data["train0"] = grey[:, :40], label[:, :40]
    found = audit(memory)
    train = found.splits["train"]
    whole, half = 5 * 4800, 2400
    assert train.pixels.tolist() == [half // 4, whole + half // 4, 0]
    assert train.void == half // 2
    assert train.holding.tolist() == [1, 6, 0]
    np.testing.assert_allclose(train.shares.sum(), 1)
    assert train.void_share == pytest.approx(half / 2 / (whole + half))
    assert found.images.widths == (40, 80, 80)
    assert found.images.heights == (60, 60, 60)
    assert found.images.grey == 1
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in memory.data.values()])
    np.testing.assert_allclose(found.images.mean, pixels.mean(0))
    np.testing.assert_allclose(found.images.std, pixels.std(0))


def _value(m: Memory) -> None:
    m.data["val1"][1][3:5, 7] = (9, 200)


def _missing(m: Memory) -> None:
    del m.data["test2"]


def _size(m: Memory) -> None:
    m.data["test0"] = m.data["test0"][0][:50], m.data["test0"][1]


def _float(m: Memory) -> None:
    m.data["train1"] = m.data["train1"][0] / 255, m.data["train1"][1]


def _no_pixels(m: Memory) -> None:
    m.data["train1"] = m.data["train1"][0][:0], m.data["train1"][1][:0]


def _all_void(m: Memory) -> None:
    for id in m.lists["val"]:
        m.data[id][1][:] = IGNORE


def _absent(m: Memory, *splits: Split, but: str = "") -> None:
    for id in (id for split in splits for id in m.lists[split] if id != but):
        label = m.data[id][1]
        label[label == 2] = 1


def _paint(m: Memory, low: int, high: int) -> None:
    m.data["train3"][0][:] = np.random.default_rng(0).integers(low, high, (60, 80, 3))


def _grey(m: Memory) -> None:
    m.data["val0"][0][:] = m.data["val0"][0][..., :1]


def _copy(m: Memory, source: str, to: str) -> None:
    m.data[to] = tuple(values.copy() for values in m.data[source])  # type: ignore[assignment]


def _dispute(m: Memory) -> None:
    m.data["train1"] = m.data["train0"][0].copy(), np.flip(m.data["train0"][1]).copy()


def _shifted(m: Memory, source: str, to: str) -> None:
    image = np.roll(m.data[source][0], (2, 2), axis=(0, 1)).astype(float)
    image[:2], image[:, :2] = 90, 90
    m.data[to] = (0.6 * 255 * (image / 255) ** 1.4 + 10).astype(np.uint8), m.data[to][1]


FAULTS: dict[str, tuple[Callable[[Memory], None], str, list[str], str]] = {
    "value": (_value, "serious", ["not a class (1)", "memory/val1 (values 9, 200)"], "void (255)"),
    "empty": (lambda m: m.lists.__setitem__("val", []), "serious", ["empty splits (1): val"],
              "lists of the splits"),
    "missing": (_missing, "serious", ["cannot be read (1)", "test2.png is missing; fetch it"],
                "do what the message says"),
    "size": (_size, "serious",
             ["size differs", "memory/test0 (the label is 80x60 px but its image is 80x50)"],
             "original pair"),
    "twice": (lambda m: m.lists["test"].append("train0"), "serious",
              ["train0 (train and test)"], "one split"),
    "float": (_float, "serious", ["memory/train1", "float64 (60, 80, 3)"], "`read`"),
    "no pixels": (_no_pixels, "serious", ["memory/train1", "(0, 80, 3)"], "`read`"),
    "void": (lambda m: m.data["val0"][1].fill(IGNORE), "warning",
             ["without a labelled pixel (1): val val0"], "check the label"),
    "void split": (_all_void, "serious", ["no pixel of the val split"], "label values"),
    "absent": (lambda m: _absent(m, "train"), "serious", ["absent from the train split (1): car"],
               "cannot be learnt"),
    "absent test": (lambda m: _absent(m, "test"), "warning", ["from the test split (1): car"],
                    "change the split"),
    "once": (lambda m: _absent(m, *SPLITS, but="train0"), "warning",
             ["fewer than 2 images of the whole set (1): car"], "merge"),
    "constant": (lambda m: _paint(m, 80, 81), "warning", ["one colour (1): train train3"], "again"),
    "dark": (lambda m: _paint(m, 0, 9), "warning", ["nearly black images (1): train train3"],
             "look at"),
    "bright": (lambda m: _paint(m, 245, 256), "warning", ["white images (1): train train3"],
               "look at"),
    "grey": (_grey, "note", ["1 of 13 images are grey"], "download the originals"),
    "across": (lambda m: _copy(m, "train0", "test1"), "serious",
               ["in train and test (1): train train0 = test test1"], "in one split"),
    "across val": (lambda m: _copy(m, "train0", "val1"), "warning",
                   ["more than one split (1): train train0 = val val1"], "in one split"),
    "inside": (lambda m: _copy(m, "train0", "train2"), "warning",
               ["more than once in their split (1): train train0 = train train2"], "remove"),
    "dispute": (_dispute, "warning", ["labels differ (1): train train0 = train train1"],
                "which label is right"),
    "near": (lambda m: _shifted(m, "train0", "test1"), "warning",
             ["1 of 4 test images", "train train0 ~ test test1"], "keep each scene"),
    "near inside": (lambda m: _shifted(m, "train0", "train1"), "note",
                    ["inside a split (1): train train0 ~ train train1"], "independent"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_planted_fault(kind: str) -> None:
    plant, severity, words, fix = FAULTS[kind]
    memory = Memory()
    plant(memory)
    found = audit(memory)
    hits = [f for f in found.findings if all(word in f.what for word in words)]
    assert len(hits) == 1, found.findings
    assert hits[0].severity == severity
    assert fix in hits[0].fix
    assert "\n" not in hits[0].what + hits[0].fix
    # What follows from the fault may be told too, but nothing that is worse.
    rank = ["note", "warning", "serious"]
    if kind == "once":
        return  # a class in one image is absent from train or test, which is worse
    assert max(rank.index(f.severity) for f in found.findings) == rank.index(severity)
    assert found.serious == (severity == "serious")


def test_all_faults_at_once_are_all_found() -> None:
    memory = Memory()
    for plant in (_value, _missing, _size, _float):
        plant(memory)
    memory.odd = [Finding("note", "the list is odd", "do not use it")]
    found = audit(memory)
    assert [f.severity for f in found.findings] == ["serious"] * 4 + ["note"]
    assert found.findings[-1] == memory.odd[0]
    assert found.splits["train"].read == 5
    assert found.splits["test"].read == 3


def test_what_raises_is_told() -> None:
    class Broken(Memory):
        def ids(self, split: Split) -> list[str]:
            if split == "val":
                raise DataError("val.txt is missing; fetch it")
            return super().ids(split)

        def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
            if id == "train1":
                raise KeyError("groundtruth")
            return super().read(id)

        def oddities(self) -> Iterator[Finding]:
            raise DataError("classes.json is damaged; fetch it")

    told = {(f.severity, f.what) for f in audit(Broken()).findings}
    assert told == {
        ("serious", "splits that cannot be listed (1): val: val.txt is missing; fetch it"),
        ("serious", "examples that cannot be read (1): KeyError: 'groundtruth'"),
        ("warning", "the set's own checks could not be run: classes.json is damaged; fetch it"),
    }


def test_many_cases_make_one_finding() -> None:
    memory = Memory()
    memory.lists["train"] = [f"train{k}" for k in range(200)]
    found = audit(memory)
    assert len(found.findings) == 1
    assert "(194): train6.png" in found.findings[0].what
    assert found.findings[0].what.endswith("; and 191 more")


def test_each_example_is_read_once_and_progress_told() -> None:
    reads: list[str] = []
    memory = Memory()
    read = memory.read
    memory.read = lambda id: reads.append(id) or read(id)  # type: ignore[func-returns-value, method-assign]
    steps: list[tuple[int, int]] = []
    audit(memory, lambda done, total: steps.append((done, total)))
    assert sorted(reads) == sorted(memory.data)
    assert steps == [(k, 13) for k in range(1, 14)]


def _printed(found: Audit) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(found))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_render() -> None:
    memory = Memory()
    _value(memory)
    memory.odd = [Finding("note", "odd [bold]markup[/]", "mind it")]
    text = _printed(audit(memory))
    for part in ("sky", "car", "void", "80 to 80 px", "serious", "values 9, 200", "-> map the"):
        assert part in text
    assert "odd [bold]markup[/]" in text
    assert "nothing found" in _printed(audit(Memory()))


@pytest.mark.parametrize("shift", [0, 2, 4])
@pytest.mark.parametrize("exposure", [(0.5, 0.8), (1.3, 1.5)])
def test_lookalikes_of_shifted_crops(shift: int, exposure: tuple[float, float]) -> None:
    scenes = [scene(k, (100, 120)) for k in range(30)]
    crop = scenes[7][shift : 80 + shift, shift : 100 + shift] / 255
    other = (255 * exposure[0] * crop ** exposure[1]).clip(0, 255).astype(np.uint8)
    looks = [look(image[:80, :100]) for image in scenes]
    pairs = lookalikes([*looks, look(other)])
    assert [(p.first, p.second) for p in pairs] == [(7, 30)]
    assert lookalikes(looks) == []
    assert lookalikes(looks[:1]) == []


def test_a_frame_that_all_images_share_is_no_likeness() -> None:
    # A round field of view, as of a microscope: the thumbnails correlate, and still.
    y, x = np.mgrid[:96, :96] - 48
    images = []
    for k in range(40):
        view = scene(k, (96, 96)) // 2 + 90
        images.append(np.where((np.hypot(x, y) < 44)[..., None], view, 10).astype(np.uint8))
    looks = [look(image) for image in images]
    flat = np.stack([one.coarse.ravel() for one in looks]).astype(float)
    assert np.median(np.corrcoef(flat)) > 0.8
    assert lookalikes(looks) == []
    brighter = np.roll(images[3], 1, axis=1) // 2 + 100
    assert [(p.first, p.second) for p in lookalikes([*looks, look(brighter)])] == [(3, 40)]


def test_plain_images_are_no_lookalikes() -> None:
    ramp = np.linspace(0, 60, 96)
    plain = [np.broadcast_to((ramp + k)[:, None, None], (96, 96, 3)) for k in range(20)]
    scenes = [scene(k, (96, 96)) for k in range(40)]
    pairs = lookalikes([look(image.astype(np.uint8)) for image in [*scenes, *plain]])
    assert all(pair.second >= 40 for pair in pairs)
    assert not any(pair.first < 40 for pair in pairs)


@pytest.mark.slow
def test_lookalikes_of_thousands_are_quick() -> None:
    rng = np.random.default_rng(0)
    looks = [
        Look(
            rng.integers(0, 256, (COARSE, COARSE)).astype(np.uint8),
            rng.integers(-60, 60, (SIDE, SIDE)).astype(np.int8),
        )
        for _ in range(2000)
    ]
    looks[1234] = looks[17]
    start = time.perf_counter()
    assert [(p.first, p.second) for p in lookalikes(looks)] == [(17, 1234)]
    assert time.perf_counter() - start < 20


def _list_colours(base: Path, colours: list[str]) -> None:
    entries = ", ".join(f'{{"title": "Class {c}", "color": "#{c}"}}' for c in colours)
    (base / "classes.json").write_text(f'{{"classes": [{entries}]}}')


def test_dubai_colour_list(tmp_path: Path) -> None:
    base = write_dubai(tmp_path)
    dubai = Dubai(tmp_path)
    assert list(dubai.oddities()) == []
    right = ["3C1098", "8429F6", "6EC1E4", "FEDD3A", "E2A929", "9B9B9B"]
    _list_colours(base, right)
    assert list(dubai.oddities()) == []
    _list_colours(base, [*right[:4], "50E3C2", right[5]])
    (finding,) = dubai.oddities()
    assert finding.severity == "note"
    assert "Class 50E3C2 #50E3C2, but the masks show #E2A929" in finding.what
    assert "do not use" in finding.fix
    # Another colour in the masks is measured, not known beforehand.
    mask = base / "Tile 1" / "masks" / "image_part_001.png"
    pixels = np.array(Image.open(mask).convert("RGB"))
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(mask)
    assert "#010203, #E2A929" in next(dubai.oddities()).what
    (base / "classes.json").write_text("{")
    with pytest.raises(DataError, match="is truncated or damaged"):
        list(dubai.oddities())


@pytest.mark.realdata
def test_real_dubai(data_root: Path) -> None:
    (finding,) = Dubai(data_root).oddities()
    for part in ("Water #50E3C2", "Building #D0021B", "#E2A929", "#3C1098"):
        assert part in finding.what


def _pairs(benchmark: Benchmark, ids: list[str]) -> set[tuple[str, str]]:
    found = lookalikes([look(benchmark.read(id)[0]) for id in ids])
    return {(ids[p.first], ids[p.second]) for p in found}


@pytest.mark.realdata
def test_real_camvid(data_root: Path) -> None:
    camvid = CamVid(data_root)
    waits = [id for id in camvid.ids("test") if "Seq05VD" in id]
    # From frame 1920 to 2700 the car stands at a red light.
    still = [id for id in waits if 1920 <= int(id.split("_f")[1]) <= 2700]
    found = _pairs(camvid, waits)
    assert {id for pair in found for id in pair} >= set(still[:5])
    # Frames of a moving car, three seconds apart, are different images.
    driven = [id for id in waits if int(id.split("_f")[1]) <= 900]
    assert not any(one in driven and other in driven for one, other in found)


@pytest.mark.realdata
def test_real_wbc_and_mtd_across_splits(data_root: Path) -> None:
    wbc = WBC(data_root)
    cells = [f"Dataset 1/{k:03}" for k in (112, 139, 157, 158, 166, 171, 167, 169, 1, 2, 3, 4)]
    assert _pairs(wbc, cells) == {tuple(cells[k : k + 2]) for k in (0, 2, 4, 6)}
    mtd = MTD(data_root)
    tile = "MT_Uneven/exp{}_num_{}"
    assert _pairs(
        mtd, [tile.format(2, 139820), tile.format(4, 139856), tile.format(1, 352479)]
    ) == {(tile.format(2, 139820), tile.format(4, 139856))}
