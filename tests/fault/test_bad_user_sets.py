"""What a user gets wrong in a set of their own is told on one line."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.data import available
from benchmark.data.base import BENCHMARKS, SPLITS
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import blocks, picture, save
from benchmark.planning import plugins
from tests.helpers.files import truncate

pytestmark = pytest.mark.no_torch

os.environ["HF_HUB_OFFLINE"] = "1"

GOOD = "name: mine\nclasses: [sky, road, tree]\n"
COLOURED = (
    "name: mine\nlabels: colour\nclasses: {sky: '#000000', road: '#010101', tree: '#020202'}\n"
)
HUB = GOOD + "hub: {path: saved, splits: {train: train, test: test}}\n"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(available())
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    yield
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


def refused(text: str | bytes, folder: Path) -> str:
    """The one line that loading the file ends with, without its beginning."""
    path = folder / "set.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as info:
        plugins.load_files([path])
    message = str(info.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"--plugin {path}: ")
    assert "mine" not in available()
    return message.removeprefix(f"--plugin {path}: ")


def fails(folder: Path, text: str = GOOD, kind: type[UserError] = DataError) -> str:
    """The one line that loading all splits ends with."""
    (folder / "set.yaml").write_text(text)
    plugins.load_files([folder / "set.yaml"])
    with pytest.raises(kind) as info:
        benchmark = available()["mine"](None)
        for split in SPLITS:
            open_split(benchmark, split)
    message = str(info.value)
    assert message and len(message.splitlines()) == 1
    assert "data root" not in message and "BENCHMARK_DATA" not in message
    return message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML (line 1: expected"),
        (b"name: \xff", "not a text file in UTF-8"),
        ("", "write fields and values, as in `name: my_set`"),
        ("- a", "write fields and values"),
        ("? [a]\n: b", "not YAML (line 1: found unhashable key"),
        (
            "name: !!python/object:os.system x",
            "not YAML (line 1: could not determine a constructor",
        ),
        (GOOD + "name: again", "not YAML ('name' is given twice"),
        ("name: mine\nclasses: {a: '#000000', a: '#111111'}", "not YAML ('a' is given twice"),
        ("name: mine", "classes: is missing"),
        ("classes: [a]", "name: is missing"),
        ("name: mine\nclases: [a]", "unknown field 'clases'; did you mean 'classes'?"),
        (GOOD + "licens: x", "unknown field 'licens'; did you mean 'licence'?"),
        (HUB.replace("splits", "split"), "unknown field 'hub.split'; did you mean 'splits'?"),
        (HUB.replace("test:", "tests:"), "unknown field 'hub.splits.tests'; did you mean 'test'?"),
        (HUB.replace(", test: test", ""), "hub.splits.test: is missing"),
        (HUB + "folder: .", "folder and hub contradict each other; keep one"),
        ("name: 7\nclasses: [a]", "name: 7 is no text; put quotes around the name"),
        ("name: a b\nclasses: [a]", "name: 'a b' may hold letters, digits, - and _ only"),
        ("name: ../x\nclasses: [a]", "name: '../x' may hold letters"),
        ("name: camvid\nclasses: [a]", "name: a benchmark 'camvid' exists already; choose another"),
        ("name: mine\nclasses: [a, b, a]", "classes: 'a' is listed twice"),
        ("name: mine\nclasses: [yes, b]", "classes: True is not a name; put quotes around it"),
        ("name: mine\nclasses: []", "classes: write a list of names"),
        ("name: mine\nclasses: road", "classes: write a list of names"),
        ("name: mine\nclasses: {a: #000000\n}", "classes: a has no value (an unquoted # begins a"),
        (
            "name: mine\nclasses: {a: #000000, b: #111111}",
            "not YAML (line 2: expected the node content",
        ),
        ("name: mine\nclasses: {a: #000000, b: #111111}", "comment: write colours in quotes, '#RR"),
        ("name: no\nclasses: [a]", "name: False is no text; put quotes around the name"),
        (GOOD + "void: #000000", "void is empty; write a value, or leave it out (an unquoted #"),
        (GOOD + "void:\n  - #000000", "void: a value is empty (an unquoted # begins a comment"),
        (GOOD + "void: none", "void: 'none' is no value; write [] where there is none"),
        (GOOD + "splits: {train: 0.6, test: 0.4}", "as in [0.6, 0.1, 0.3]; names of splits belong"),
        (GOOD + "splits: [0.7, 0.3]", "splits: [0.7, 0.3] are no shares of train, val and test"),
        (GOOD + "splits: [a, b, c]", "splits: ['a', 'b', 'c'] are no shares of train, val and"),
        (
            "name: mine\nclasses: {a: [255, 0, 0], b: [0, 255, 0]}",
            "classes: a: [255, 0, 0] looks like red, green and blue; write it as '#FF0000'",
        ),
        (GOOD + "ignore: [road]", "ignore: 'road' does not fit labels: index; use what labels"),
        (GOOD + "images: 'a{split}{split}'", "images: 'a{split}{split}': write {split} once"),
        (GOOD + "images: '{split}/a'\nsplits: [0.6, 0.1, 0.3]", "splits and {split} contradict"),
        ("name: mine\nclasses: {a: red}", "classes: a: 'red' is not a colour"),
        (GOOD + "labels: color", "labels: 'color' is neither index nor colour, nor a name"),
        (GOOD + "labels: '{stem}_mask.jpg'", "labels: '{stem}_mask.jpg': labels may be .png, .tif"),
        (GOOD + "labels: '{name}.png'", "labels: '{name}.png' must contain {stem} once"),
        (GOOD + "labels: 'a/{stem}.png'", "labels: 'a/{stem}.png' must contain {stem} once"),
        (GOOD + "labels: {file: x}", "unknown field 'labels.file'; did you mean 'files'?"),
        (GOOD + "labels: {0: sky, 256: road}", "labels: write values 0 to 255, or colours"),
        (GOOD + "labels: {0: sky, '#000000': road}", "labels: write values 0 to 255, or colours"),
        (GOOD + "labels: {}", "labels: write values 0 to 255, or colours"),
        (
            GOOD + "labels: {0: sky, 1: class_1, 2: tree}",
            "labels names 'class_1', which is not in classes; write one of sky, road, tree, or",
        ),
        (GOOD + "labels: {0: sky, 1: road}", "others have values, but 'tree' has none"),
        (
            GOOD + "labels: {0: sky, 1: road, 2: tree}\noffset: 1",
            "offset and values of the classes",
        ),
        (
            GOOD + "labels: {0: sky, 1: road, 2: tree}\nvoid: [2]",
            "void: 2 is what labels store for the class 'tree'; take it out of `void`",
        ),
        (GOOD + "ignore: [2]", "ignore: 2 is what labels store for the class 'tree'; take it out"),
        (GOOD + "ignore: [a]", "ignore: 'a' does not fit labels: index; use 0 to 255"),
        ("name: mine\nclasses: {a: 0, b: [1, 0]}", "'a' and 'b' are both stored as 0"),
        ("name: mine\nclasses: {a: 0, b: '#000000'}", "classes: '#000000' does not fit labels"),
        ("name: mine\nclasses: {a: [0, x]}", "classes: a: 'x' is not a colour; write '#RRGGBB'"),
        (HUB + "labels: '{stem}.tif'", "labels: names of files are for folders; a hub has columns"),
        (GOOD + "bands: []", "bands: write the numbers of the bands to take"),
        (GOOD + "bands: [-1]", "bands.0: must be at least 0 (got -1)"),
        (GOOD + "bands: rgb", "bands must be a list: ['rgb']"),
        (
            GOOD + "range: 4095",
            "range: 4095 is not a range; write the stored values of black and white",
        ),
        (GOOD + "range: [4095, 0]", "range: [4095, 0] is not a range"),
        (GOOD + "range: [0, .inf]", "range: [0, inf] is not a range"),
        (GOOD + "range: [[0, 1], 2]", "range: 2 is not a range"),
        (GOOD + "range: []", "range: [] is not a range"),
        (
            GOOD + "bands: [0, 1]\nrange: [[0, 1], [0, 1], [0, 1]]",
            "range: 3 pairs do not fit 2 bands",
        ),
        (GOOD + "labels: colour", "labels: colour needs classes with colours"),
        (COLOURED + "void: [255]", "void: 255 does not fit labels: colour; use '#RRGGBB'"),
        (COLOURED + "void: ['#010101']", "void: #010101 is what labels store for the class 'road'"),
        (COLOURED + "offset: 1", "offset is for labels: index; leave it out"),
        (COLOURED.replace("2'", "1'").replace("0202", "0101"), "'road' and 'tree' are both stored"),
        (GOOD + "void: ['#000000']", "void: '#000000' does not fit labels: index; use 0 to 255"),
        (GOOD + "void: [256]", "void: 256 does not fit labels: index; use 0 to 255"),
        (COLOURED + "void: '#000000'", "void must be a list: ['#000000']"),
        (GOOD + "void: 255", "void must be a list: [255]"),
        (GOOD + "void: [0]", "void: 0 is what labels store for the class 'sky'"),
        (GOOD + "offset: 254", "classes: 3 from offset 254 do not fit 8 bits"),
        (GOOD + "offset: -1", "offset: must be at least 0 (got -1)"),
        (GOOD + "scale: 0", "scale: must be greater than 0 (got 0)"),
        (GOOD + "scale: 2\nshorter_side: 99", "scale and shorter_side contradict each other"),
        (GOOD + "folder: ~nobody-at-all/x", "folder: '~nobody-at-all/x': there is no such user"),
        (HUB.replace("saved", "~nobody-at-all/x"), "hub.path: '~nobody-at-all/x': there is no"),
        (HUB.replace("test: test", "test: train"), "hub.splits: 'train' and 'train' share"),
        (
            HUB.replace("test: test", "test: 'train[:9%]'"),
            "'train' and 'train[:9%]' share examples",
        ),
        (GOOD + "title: 2024-13-45", "not YAML (month must be in 1..12"),
        (GOOD + "title: " + 2000 * "[", "not YAML ("),
        ("name: small\nclasses: [a]", "name: 'small' is the name of a suite"),
    ],
)
def test_descriptions(text: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(text, tmp_path)


def test_a_scale_beyond_all_memory_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "test": 2})
    (tmp_path / "set.yaml").write_text(GOOD + "shorter_side: 1000000")
    plugins.load_files([tmp_path / "set.yaml"])
    with pytest.raises(DataError, match="million pixels; write a smaller `scale`"):
        open_split(available()["mine"](None), "train", scaled=True)


def test_a_name_that_another_file_has_taken(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text(GOOD)
    plugins.load_files([tmp_path / "a.yaml"])
    with pytest.raises(UserError, match=r"b\.yml: name: a benchmark 'mine' exists already"):
        plugins.load_files([tmp_path / "b.yml"])


def write(folder: Path, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        for i in range(count):
            label = blocks([0, 1, 2, 255], seed=i)
            save(folder / "images" / split / f"{i}.png", picture(label, i))
            save(folder / "labels" / split / f"{i}.png", label)


def test_missing_folder(tmp_path: Path) -> None:
    message = fails(tmp_path, GOOD + "folder: nowhere")
    assert str(tmp_path / "nowhere") in message and "relative to the YAML file" in message


@pytest.mark.parametrize(("there", "missing"), [("train", "test"), ("test", "train")])
def test_missing_split(there: str, missing: str, tmp_path: Path) -> None:
    write(tmp_path, {there: 3})
    message = fails(tmp_path)
    assert f"create it with the {missing} images" in message
    assert str(tmp_path / "images" / missing) in message
    assert str(tmp_path / "labels" / missing) in message


def test_one_training_image(tmp_path: Path) -> None:
    write(tmp_path, {"train": 1, "test": 1})
    assert "too few to take a val split from" in fails(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("labels", "images without a label (1): {}; put it at"),
        ("images", "labels without an image (1): {}; put it at"),
    ],
)
@pytest.mark.parametrize("split", SPLITS)
def test_half_a_pair(kind: str, message: str, split: str, tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "val": 2, "test": 2})
    gone = tmp_path / kind / split / "1.png"
    gone.unlink()
    text = fails(tmp_path)
    other = "images" if kind == "labels" else "labels"
    assert text.startswith(f"mine: {message.format(tmp_path / other / split / '1.png')}")
    assert str(gone.with_suffix("")) in text


def test_two_images_of_one_name(tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "test": 2})
    save(tmp_path / "images" / "train" / "1.jpg", picture(blocks([0], 0), 0))
    assert "files of the same name (1): " in fails(tmp_path)


def _value(path: Path) -> None:
    save(path, blocks([0, 1, 7], 0))


def _rgb(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def _deep(path: Path) -> None:
    save(path, blocks([0, 1, 2], 0).astype(np.uint16) * 150)


def _lossy(path: Path) -> None:
    Image.fromarray(blocks([0, 1, 2], 0)).save(path, "JPEG")


def _small(path: Path) -> None:
    save(path, blocks([0, 1, 2], 0, (20, 30)))


def _void(path: Path) -> None:
    for label in path.parent.glob("*.png"):
        save(label, blocks([255], 0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_value, "label value 7 is out of range: mine has classes 0..2, and void [255]"),
        (_rgb, "stores 3 channels of uint8, not one class index per pixel; convert it, or"),
        (_deep, "label value 150 is out of range: mine has classes 0..2, and void [255]"),
        (_lossy, "is compressed as JPEG, which changes the values of a label; export it again"),
        (_small, "the label is 30x20 px but its image is 56x40"),
        (truncate, "is truncated or damaged"),
        (_void, "no pixel of the test split is labelled"),
    ],
)
def test_bad_labels(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "val": 1, "test": 2})
    path = tmp_path / "labels" / "test" / "0.png"
    damage(path)
    text = fails(tmp_path)
    assert str(path) in text and message in text


@pytest.mark.parametrize(
    ("values", "text", "written"),
    [
        ([0, 128, 255], GOOD, "{0: sky, 128: road, 255: tree}"),
        ([0, 64, 128, 255], GOOD, "{0: sky, 64: road, 128: tree}"),  # and void
        ([0, 1, 7], "name: mine\nclasses: [sky, road]\n", "{0: ..., 1: ..., 7: ...}"),
        (list(range(0, 90, 9)), GOOD, ""),
        ([0, 128, 255], GOOD + "void: []", "{0: sky, 128: road, 255: tree}"),
        ([255], GOOD + "void: []", "{255: ...}"),
        ([0, 128, 255], GOOD + "void: [255]", "{0: ..., 128: ...}"),
        ([0, 128, 255], GOOD + "offset: 1", ""),
    ],
)
def test_values_that_need_a_name(
    values: list[int], text: str, written: str, tmp_path: Path
) -> None:
    write(tmp_path, {"train": 3, "test": 2})
    for label in (tmp_path / "labels").rglob("*.png"):
        save(label, blocks(values, 0))
    found = fails(tmp_path, text)
    how = f"say which class each value is: `labels: {written}`" if written else "or `classes`,"
    assert "is out of range" in found and how in found


def test_offset_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "test": 2})
    assert "label value 0 is out of range: mine has classes 1..3" in fails(
        tmp_path, GOOD + "offset: 1"
    )


def test_unknown_colour(tmp_path: Path) -> None:
    write(tmp_path, {"train": 3, "test": 2})
    text = fails(tmp_path, COLOURED)
    assert "colour #FFFFFF belongs to no class of mine" in text
    assert re.search(r"\(unknown colours: [0-9.]+ % of its pixels\)", text)
    assert str(tmp_path / "labels" / "train") in text


# --- datasets of the hub -------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return found


def dataset(library: Any, count: int, values: tuple[int, ...] = (0, 1, 2)) -> Any:
    labels = [Image.fromarray(blocks(list(values), seed=i)) for i in range(count)]
    features = {"image": library.Image(), "label": library.Image(), "kind": library.Value("int64")}
    columns = {"image": labels, "label": labels, "kind": [0] * count}
    return library.Dataset.from_dict(columns, features=library.Features(features))


def test_the_extra_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'petseg-bench[hub]'" in fails(tmp_path, HUB, UserError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HUB.replace("test: test", "test: tets"), "has no split 'tets'; did you mean 'test'?"),
        (HUB.replace("path: saved", "path: saved, label: labl"), "has no column 'labl'; did you"),
        (HUB.replace("path: saved", "path: saved, label: kind"), "column 'kind' of"),
        (HUB.replace("path: saved", "path: ./nowhere"), "nowhere is missing; correct `hub.path`"),
        (
            HUB.replace("path: saved", "path: parquet, data_files: {train: no.parquet}"),
            "split 'train' of parquet files beside the YAML file cannot be loaded (",
        ),
    ],
)
def test_bad_hub_fields(text: str, message: str, tmp_path: Path, library: Any) -> None:
    parts = {"train": dataset(library, 3), "test": dataset(library, 2)}
    library.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert message in fails(tmp_path, text)


def test_the_hub_s_own_errors(tmp_path: Path, library: Any, monkeypatch: Any) -> None:
    def unreachable(*_: object, **options: object) -> None:
        assert options["trust_remote_code"] is False
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(library, "load_dataset", unreachable)
    text = fails(tmp_path, HUB.replace("saved", "somebody/roads, revision: v1"))
    assert "huggingface.co/datasets/somebody/roads @ v1 cannot be loaded" in text
    assert "ConnectionError: no route to the hub" in text


def test_one_dataset_without_splits(tmp_path: Path, library: Any) -> None:
    dataset(library, 3).save_to_disk(tmp_path / "saved")
    assert "holds one dataset without splits; save a DatasetDict" in fails(tmp_path, HUB)


def test_bad_rows(tmp_path: Path, library: Any) -> None:
    def save_as(test: Any) -> None:
        parts = library.DatasetDict({"train": dataset(library, 3), "test": test})
        parts.save_to_disk(tmp_path / "saved")

    def message(text: str) -> None:
        found = fails(tmp_path, HUB)
        assert found.startswith(f"{tmp_path / 'saved'}, split test, row 1") and text in found

    save_as(library.concatenate_datasets([dataset(library, 1), dataset(library, 1, (0, 9))]))
    message("label value 9 is out of range")
    image = dataset(library, 1)[0]["image"]
    broken = {"image": [image], "label": [{"bytes": b"no image", "path": None}], "kind": [0]}
    features = dataset(library, 1).features
    save_as(
        library.concatenate_datasets(
            [dataset(library, 1), library.Dataset.from_dict(broken, features=features)]
        )
    )
    message("is truncated or damaged; fetch it again")
    broken["label"] = [None]
    save_as(
        library.concatenate_datasets(
            [dataset(library, 1), library.Dataset.from_dict(broken, features=features)]
        )
    )
    message("has no image or no label; remove the row")
