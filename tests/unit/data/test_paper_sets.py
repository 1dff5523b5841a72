"""The sets of the paper that SPM comes from: what is easily read wrong, and known scores."""

import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.core.spec import load_suites
from benchmark.data import available
from benchmark.data.acquire import manifest
from benchmark.data.acquire.prepare import prepare
from benchmark.data.base import SPLITS, Benchmark, read_example
from benchmark.data.fake.drawing import save
from benchmark.data.fake.standard import write_chase_db1, write_stare, write_vaihingen
from benchmark.engine.counts import class_counts
from benchmark.results.metrics import class_dice, class_iou
from tests.helpers.fileserver import serving

WRITERS = {"chase_db1": write_chase_db1, "stare": write_stare, "vaihingen": write_vaihingen}
RETINA = ("chase_db1", "stare")
SECOND = {"chase_db1": ("_1stHO", "_2ndHO"), "stare": (".ah.", ".vk.")}
"""Part of a mask's name, of the first and of the second observer."""


def make(name: str, root: Path) -> Benchmark:
    return available()[name](root)


def everything(benchmark: Benchmark) -> list[str]:
    return [id for split in SPLITS for id in benchmark.ids(split)]


@pytest.mark.parametrize("name", RETINA)
@pytest.mark.parametrize("values", [(False, True), (0, 1), (0, 255)])
def test_masks_of_any_depth(name: str, values: tuple[int, int], tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    benchmark = make(name, tmp_path)
    image, mask = benchmark.files(benchmark.ids("train")[0])
    save(image, np.zeros((1, 4, 3), np.uint8))
    stored = np.array([[values[0], values[1], values[1], values[0]]])
    save(mask, stored if stored.dtype == bool else stored.astype(np.uint8))
    assert benchmark.read(benchmark.ids("train")[0])[1].tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("name", RETINA)
def test_a_mask_with_greys_is_refused(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    benchmark = make(name, tmp_path)
    id = benchmark.ids("train")[0]
    save(benchmark.files(id)[1], np.full((40, 56), 7, np.uint8))
    with pytest.raises(DataError, match="label value 7 is out of range"):
        benchmark.read(id)


@pytest.mark.parametrize("name", RETINA)
def test_only_the_first_observer_is_read(name: str, tmp_path: Path) -> None:
    base = WRITERS[name](tmp_path)
    benchmark = make(name, tmp_path)
    before = {id: benchmark.read(id)[1] for id in everything(benchmark)}
    first, second = SECOND[name]
    for path in base.rglob(f"*{second}*"):
        path.unlink()
    after = make(name, tmp_path)
    assert everything(after) == list(before)
    for id, label in before.items():
        assert first in after.where(id)
        np.testing.assert_array_equal(after.read(id)[1], label)


def converted(base: Path) -> None:
    """Moves the flat files of CHASE_DB1 to where mmsegmentation's converter puts them."""
    for path in sorted(base.glob("Image_*")):
        folder = "training" if int(path.name[6:8]) <= 10 else "validation"
        with Image.open(path) as image:
            pixels = np.array(image)
        path.unlink()
        if path.suffix == ".jpg":
            save(base / "images" / folder / f"{path.stem}.png", pixels)
        else:
            save(base / "annotations" / folder / path.name, pixels.astype(np.uint8))


def test_chase_in_three_layouts(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("flat", "nested", "converted")]
    flat, nested, third = (write_chase_db1(root) for root in roots)
    nested.rename(tmp_path / "moved")
    nested.mkdir()
    (tmp_path / "moved").rename(nested / "CHASEDB1")
    converted(third)
    sets = [make("chase_db1", root) for root in roots]
    assert sets[1].files("Image_01L")[0].parent == nested / "CHASEDB1"
    assert sets[0].files("Image_01L")[0].parent == flat
    assert sets[2].files("Image_01L")[0].parent == third / "images" / "training"
    ids = everything(sets[0])
    assert everything(sets[1]) == everything(sets[2]) == ids
    for id in ids:
        image, label = sets[0].read(id)
        for other in sets[1:]:
            np.testing.assert_array_equal(other.read(id)[0], image)
            np.testing.assert_array_equal(other.read(id)[1], label)


@pytest.mark.parametrize("top", ["", "CHASEDB1/"])
def test_chase_is_prepared_from_a_flat_or_nested_archive(
    top: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    origin = write_chase_db1(tmp_path / "origin")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in origin.iterdir():
            archive.write(path, f"{top}{path.name}")
    chase = available()["chase_db1"]
    (source,) = chase.sources
    with serving() as server:
        server.files["/CHASEDB1.zip"] = packed.getvalue()
        url = server.url("/CHASEDB1.zip")
        monkeypatch.setattr(chase, "sources", (replace(source, url=url),))
        done = prepare(chase, tmp_path / "data")
    assert done.downloaded == 1 and done.counts == {"train": 6, "val": 2, "test": 8}


def test_chase_splits_by_child(tmp_path: Path) -> None:
    write_chase_db1(tmp_path)
    ids = {split: make("chase_db1", tmp_path).ids(split) for split in SPLITS}
    children = {split: {id[:-1] for id in members} for split, members in ids.items()}
    assert children["test"] == {f"Image_{k}" for k in (11, 12, 13, 14)}
    assert not children["train"] & children["val"]
    assert all(len(ids[split]) == 2 * len(children[split]) for split in SPLITS)


@pytest.mark.parametrize("suffix", [".ppm", ".ppm.gz"])
def test_stare_asks_to_convert_its_originals(suffix: str, tmp_path: Path) -> None:
    base = write_stare(tmp_path)
    for path in (base / "images/training").iterdir():
        path.rename(path.with_suffix(suffix))
    with pytest.raises(DataError, match="not converted yet") as info:
        make("stare", tmp_path).ids("train")
    assert "dataset_converters/stare.py" in str(info.value)
    assert "\n" not in str(info.value)


def test_vaihingen_is_shifted_exactly_once_and_keeps_its_channels(tmp_path: Path) -> None:
    write_vaihingen(tmp_path)
    benchmark = make("vaihingen", tmp_path)
    id = benchmark.ids("train")[0]
    image, label = benchmark.files(id)
    # Infrared is stored first, where a photograph has its red.
    save(image, np.tile(np.array([200, 100, 50], np.uint8), (1, 7, 1)))
    save(label, np.arange(7, dtype=np.uint8)[None])
    pixels, classes = benchmark.read(id)
    assert classes.tolist() == [[255, 0, 1, 2, 3, 4, 5]]
    assert (pixels == (200, 100, 50)).all()
    save(label, np.full((1, 7), 7, np.uint8))
    with pytest.raises(DataError, match="label value 7 is out of range"):
        benchmark.read(id)


def test_vaihingen_splits_by_tile(tmp_path: Path) -> None:
    write_vaihingen(tmp_path)
    ids = {split: make("vaihingen", tmp_path).ids(split) for split in SPLITS}
    tiles = {split: {id.split("_")[0] for id in members} for split, members in ids.items()}
    assert len(tiles["val"]) == 1 and len(ids["val"]) == 2
    assert not tiles["train"] & tiles["val"]
    assert all(id.startswith("val/") for id in ids["test"])


@pytest.mark.parametrize("name", ["stare", "vaihingen"])
def test_prepare_says_what_to_fetch_by_hand(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be downloaded") as info:
        prepare(available()[name], tmp_path)
    message = str(info.value)
    assert f"dataset_converters/{name}.py" in message and "\n" not in message


def test_verify_knows_both_layouts_of_chase() -> None:
    known = [manifest.read(path) for path in sorted(manifest.FOLDER.glob("chase_db1.*.tsv"))]
    assert [(it.edition, len(it.files)) for it in known] == [("converted", 0), ("official", 56)]


def test_suites() -> None:
    suites = load_suites()
    paper, standard = suites["paper"], suites["standard"]
    assert paper.benchmarks == ("ade20k", "vaihingen", "chase_db1", "stare")
    assert paper.protocol == standard.protocol and paper.title != standard.title
    small = suites["paper-small"]
    assert small.benchmarks == RETINA
    changed = {"eval_max_pixels": 25600, "eval_window": 160}
    assert small.protocol == suites["small"].protocol.model_copy(update=changed)
    assert {name: available()[name].metric for name in paper.benchmarks} == {
        "ade20k": "iou",
        "vaihingen": "iou",
        "chase_db1": "dice",
        "stare": "dice",
    }


def score(labels: list[np.ndarray], predicted: list[np.ndarray]) -> tuple[float, float, float]:
    """MIoU, mDice and Dice of vessels, in points, as a run would score these predictions."""
    counts = np.stack(
        [
            class_counts(torch.from_numpy(one.astype(np.int64)), torch.from_numpy(label), 2).numpy()
            for one, label in zip(predicted, labels, strict=True)
        ]
    )
    names = ("intersection", "prediction", "label")
    summed = dict(zip(names, np.moveaxis(counts, 1, 0), strict=True))
    dice = class_dice(summed)
    return 100 * class_iou(summed).mean(), 100 * dice.mean(), 100 * dice[1]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "background", "observer"),
    [
        ("chase_db1", (46.9, 48.4, 0.0), (81.7, 89.1, 79.7)),
        ("stare", (46.2, 48.0, 0.0), (78.2, 86.8, 76.1)),
    ],
)
def test_real_scores_of_predictions_that_need_no_network(
    name: str,
    background: tuple[float, ...],
    observer: tuple[float, ...],
    data_root: Path,
    tmp_path: Path,
) -> None:
    """All background, and the second observer as a prediction: known for whole images."""
    if not (data_root / name).is_dir():
        pytest.skip(f"no {name}")
    benchmark = make(name, data_root)
    labels = [np.array(read_example(benchmark, id).label) for id in benchmark.ids("test")]
    first, second = SECOND[name]
    # The other observer's masks under the first one's names, read as the set reads them.
    root = tmp_path / "data"
    shutil.copytree(data_root / str(available()[name].folder), root / str(benchmark.folder))
    for path in (root / str(benchmark.folder)).rglob(f"*{second}*"):
        path.replace(path.with_name(path.name.replace(second, first)))
    other = make(name, root)
    masks = [np.array(other.read(id)[1]) for id in other.ids("test")]
    nothing = [np.zeros_like(label) for label in labels]
    assert score(labels, nothing) == pytest.approx(background, abs=0.051)
    assert score(labels, masks) == pytest.approx(observer, abs=0.051)


@pytest.mark.realdata
def test_real_chase_labels_have_one_bit(data_root: Path) -> None:
    if not (data_root / "chase_db1").is_dir():
        pytest.skip("no chase_db1")
    chase = make("chase_db1", data_root)
    for id in everything(chase):
        with Image.open(chase.where(id)) as image:
            assert image.mode == "1"
        assert 0.02 < chase.read(id)[1].mean() < 0.2, "a retina shows some per cent of vessels"


@pytest.mark.realdata
def test_real_vaihingen_crop(data_root: Path) -> None:
    root = data_root / "official_samples"
    if not (root / "vaihingen").is_dir():
        pytest.skip("no official sample of vaihingen")
    benchmark = make("vaihingen", root)
    example = read_example(benchmark, "train/area1_0_0_512_512")
    assert example.image.shape == (512, 512, 3)
    with Image.open(benchmark.where(example.id)) as file:
        raw = np.array(file).astype(int)
    np.testing.assert_array_equal(example.label, np.where(raw == 0, 255, raw - 1))
    # Plants reflect infrared, the first channel, far more than red; streets do not.
    infrared, red = example.image[..., 0].astype(int), example.image[..., 1].astype(int)
    plants = np.isin(
        example.label, [benchmark.classes.index(k) for k in ("low vegetation", "tree")]
    )
    street = example.label == benchmark.classes.index("impervious surface")
    assert (infrared - red)[plants].mean() > 20 > 5 > (infrared - red)[street].mean()
