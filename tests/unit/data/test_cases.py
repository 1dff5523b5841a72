"""Sets as people have them: what is read has the right values, or one line says what to do.

In every picture the ground is grey, class a is a red square in the upper left and class b a green
one in the lower right, so that a turned, mirrored or clipped picture shows at once.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.audit.audit import audit
from benchmark.data.audit.presence import serious
from benchmark.data.base import BENCHMARKS, SPLITS, Benchmark, Finding, Split
from benchmark.data.cache import open_split
from benchmark.planning import plugins

pytestmark = pytest.mark.no_torch

COLOURS = np.array([[60, 60, 60], [200, 40, 40], [40, 200, 40]], np.uint8)
GREY = np.array([60, 88, 134], np.uint8)
"""Brightness of the colours, rounded: 0.299 R + 0.587 G + 0.114 B."""

COUNTS = {"train": 6, "val": 2, "test": 3}
THREE = {"classes": ["ground", "a", "b"]}
TWO = {"classes": ["ground", "thing"]}

Save = Callable[[Path, np.ndarray], None]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(available())
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    yield
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


def scene(number: int) -> np.ndarray:
    """Classes (64, 96) of a picture."""
    label = np.zeros((64, 96), np.uint8)
    a, b = 10 + number % 5, 14 + number % 7
    label[6 : 6 + a, 8 : 14 + a] = 1
    label[56 - b : 56, 86 - b : 86] = 2
    return label


def rgb_png(path: Path, label: np.ndarray) -> None:
    Image.fromarray(COLOURS[label]).save(f"{path}.png")


def index_png(path: Path, label: np.ndarray) -> None:
    Image.fromarray(label).save(f"{path}.png")


def binary_png(path: Path, label: np.ndarray) -> None:
    Image.fromarray(np.where(label > 0, 255, 0).astype(np.uint8)).save(f"{path}.png")


def load(folder: Path, images: Save, labels: Save, said: dict[str, Any]) -> Benchmark:
    """Writes the set and its description, and opens it as `--plugin` does."""
    numbers = iter(range(sum(COUNTS.values())))
    for split, count in COUNTS.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            label = scene(next(numbers))
            images(folder / "images" / split / f"p{i}", label)
            labels(folder / "labels" / split / f"p{i}", label)
    return described(folder, said)


def described(folder: Path, said: dict[str, Any]) -> Benchmark:
    path = folder / "case.yaml"
    path.write_text(yaml.safe_dump({"name": "case"} | said, sort_keys=False))
    BENCHMARKS.pop("case", None)
    plugins._TYPED.clear()
    plugins.load_files([path])
    return available()["case"](None)


def colours(benchmark: Benchmark) -> dict[str, list[float]]:
    """Mean colour of the pixels of each class, over all splits."""
    found: dict[str, list[np.ndarray]] = {}
    assert {split: len(benchmark.ids(split)) for split in SPLITS} == COUNTS
    for split in SPLITS:
        for example in open_split(benchmark, split):
            for k, name in enumerate(benchmark.classes):
                found.setdefault(name, []).append(example.image[example.label == k])
    return {name: np.concatenate(parts).mean(0).tolist() for name, parts in found.items()}


def right(benchmark: Benchmark, expected: np.ndarray, within: float = 0) -> None:
    found = np.array(list(colours(benchmark).values()))
    np.testing.assert_allclose(found, expected, atol=within)


def serious_in(benchmark: Benchmark, split: Split) -> list[Finding]:
    return list(serious(benchmark, split, open_split(benchmark, split)))


def findings(benchmark: Benchmark) -> str:
    return "\n".join(f"{f.severity}: {f.what} -> {f.fix}" for f in audit(benchmark).findings)


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    6: lambda x: np.rot90(x, 1),
    8: lambda x: np.rot90(x, -1),
}


@pytest.mark.parametrize("turn", TURNS)
def test_photos_of_a_turned_camera(tmp_path: Path, turn: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = turn

    def photo(path: Path, label: np.ndarray) -> None:
        stored = np.ascontiguousarray(TURNS[turn](COLOURS[label]))
        Image.fromarray(stored).save(f"{path}.jpg", quality=98, subsampling=0, exif=tag)

    benchmark = load(tmp_path, photo, index_png, THREE)
    right(benchmark, COLOURS, within=2)
    text = findings(benchmark)
    assert "note: images that were turned upright, as their EXIF orientation says (11)" in text
    assert f"train train/p0 (orientation {turn})" in text and "labels with an EXIF" not in text


def test_a_label_with_an_orientation_is_not_turned_and_is_told(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 3

    def label_png(path: Path, label: np.ndarray) -> None:
        Image.fromarray(label).save(f"{path}.png", exif=tag)

    benchmark = load(tmp_path, rgb_png, label_png, THREE)
    right(benchmark, COLOURS)
    assert "warning: labels with an EXIF orientation, which is not applied (11)" in findings(
        benchmark
    )


def deep(factor: int, suffix: str) -> Save:
    def save(path: Path, label: np.ndarray) -> None:
        Image.fromarray(GREY[label].astype(np.uint16) * factor).save(f"{path}{suffix}")

    return save


def test_grey_of_16_bits(tmp_path: Path) -> None:
    benchmark = load(tmp_path, deep(257, ".png"), index_png, THREE)
    right(benchmark, np.repeat(GREY[:, None], 3, axis=1))
    assert "range" not in findings(benchmark)


def test_a_sensor_of_12_bits(tmp_path: Path) -> None:
    benchmark = load(tmp_path, deep(16, ".tif"), index_png, THREE)
    said = "use 1.6% of the range of their values (4 to 8 of 255)"
    assert f"serious: the images of the set {said}" in (text := findings(benchmark))
    assert "`range: [0, 4095]`" in text
    (found,) = serious_in(benchmark, "train")
    assert found.what == f"the images of the train split {said}"
    declared = described(tmp_path, THREE | {"range": [0, 4080]})
    right(declared, np.repeat(GREY[:, None], 3, axis=1))
    assert serious_in(declared, "train") == [] and "range" not in findings(declared)


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    benchmark = load(tmp_path, rgb_png, binary_png, TWO)
    for split in ("train", "test"):
        (found,) = serious_in(benchmark, split)
        assert found.what.startswith(f"classes absent from the {split} split")
        assert "labels store 255" in found.fix
        assert "write `labels: {0: ground, 255: thing}`" in found.fix
    assert "write `labels: {0: ground, 255: thing}`" in findings(benchmark)
    thing = np.mean([(label > 0).mean() for label in map(scene, range(11))])
    for said in (
        TWO | {"labels": {0: "ground", 255: "thing"}},
        {"classes": {"ground": 0, "thing": 255}},
        {"classes": {"ground": 0, "thing": [255]}},
    ):
        declared = described(tmp_path, said)
        labels = [e.label for split in SPLITS for e in open_split(declared, split)]
        assert np.mean([(label == 1).mean() for label in labels]) == pytest.approx(thing)
        assert all((label < 2).all() for label in labels)
        assert all(serious_in(declared, split) == [] for split in SPLITS)


@pytest.mark.parametrize("said", [TWO, {"classes": {"ground": 0, "thing": 255}}])
def test_masks_of_one_bit(tmp_path: Path, said: dict[str, Any]) -> None:
    def one_bit(path: Path, label: np.ndarray) -> None:
        Image.fromarray(label > 0).save(f"{path}.png")

    benchmark = load(tmp_path, rgb_png, one_bit, said)
    for k, example in enumerate(open_split(benchmark, "train")):
        np.testing.assert_array_equal(example.label, scene(k) > 0)


def test_labels_that_nearly_fit_are_named(tmp_path: Path) -> None:
    def fails(name: str, options: dict[str, Any]) -> str:
        def save(path: Path, label: np.ndarray) -> None:
            Image.fromarray(label * 100).save(
                path.with_name(name.replace("*", path.name)), **options
            )

        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(DataError) as info:
            load(folder, rgb_png, save, THREE)
        message = str(info.value)
        image, label = (folder / kind / "train" / "p0" for kind in ("images", "labels"))
        near = label.with_name(name.replace("*", "p0"))
        assert message.startswith(f"case: images without a label (6): {image}.png; ")
        assert f"; and 3 more; {near} exists" in message
        return message

    assert "if it is the label, write `labels: '{stem}_mask.png'`" in fails("*_mask.png", {})
    assert "write `labels: 'gt_{stem}.png'`" in fails("gt_*.png", {})
    assert "write `labels: '{stem}.tif'`" in fails("*.tif", {})
    assert "its compression changes the values of labels" in fails("*.jpg", {"quality": 80})
    assert "labels may be .png, .tif, .tiff, .bmp: convert it to PNG" in fails("*.gif", {})


@pytest.mark.parametrize("name", ["{stem}_mask.png", "gt_{stem}.tif", "{stem}.bmp"])
def test_labels_of_another_name(tmp_path: Path, name: str) -> None:
    def save(path: Path, label: np.ndarray) -> None:
        Image.fromarray(label).save(path.with_name(name.replace("{stem}", path.name)))

    right(load(tmp_path, rgb_png, save, THREE | {"labels": name}), COLOURS)


def test_a_suffix_is_found_although_another_name_contains_the_image_s(tmp_path: Path) -> None:
    for name in ("p1", "p10"):
        for split in ("train", "test"):
            for kind in ("images", "labels"):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
            rgb_png(tmp_path / "images" / split / name, scene(0))
            index_png(tmp_path / "labels" / split / f"{name}_lab", scene(0))
    with pytest.raises(DataError, match=r"p1_lab\.png exists.*`labels: '{stem}_lab\.png'`"):
        described(tmp_path, THREE)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    load(tmp_path / "set", rgb_png, index_png, THREE)
    for kind in ("images", "labels"):
        train, there = tmp_path / "set" / kind / "train", tmp_path / "elsewhere" / kind
        there.mkdir(parents=True)
        for path in sorted(train.glob("p[345].*")):
            path.rename(there / path.name)
        os.symlink(os.path.relpath(there, train), train / "more")
        os.symlink("..", train / "loop")
        os.symlink("more", train / "again")
        os.symlink(train, there / "back")
    benchmark = described(tmp_path / "set", THREE)
    right(benchmark, COLOURS)
    assert "not used" not in findings(benchmark)
    names = ["again/p3", "again/p4", "again/p5", "p0", "p1", "p2"]
    assert benchmark.ids("train") == [f"train/{name}" for name in names]


def test_files_that_are_not_used_are_counted(tmp_path: Path) -> None:
    benchmark = load(tmp_path, rgb_png, index_png, THREE)
    assert "not used" not in findings(benchmark)
    (tmp_path / "images" / "train" / "notes.txt").write_text("")
    (tmp_path / "images" / "train" / ".hidden.png").write_text("")
    assert f"note: 1 file in {tmp_path} is not used (1 .txt), such as images/train" in findings(
        benchmark
    )
    (tmp_path / "images" / "Train").mkdir()
    for name in ("a.webp", "b.png"):
        (tmp_path / "images" / "Train" / name).write_text("")
    text = findings(benchmark)
    assert f"warning: 3 files in {tmp_path} are not used (" in text
    assert "such as images/Train/a.webp" in text


def test_merged_and_ignored_classes(tmp_path: Path) -> None:
    said = {"classes": {"ground": 0, "thing": [1, 2]}}
    benchmark = load(tmp_path, rgb_png, index_png, said)
    (first, *_) = open_split(benchmark, "train")
    np.testing.assert_array_equal(first.label, scene(0) > 0)
    said = {"classes": {"b": 2, "ground": [0]}, "ignore": [1]}
    (first, *_) = open_split(described(tmp_path, said), "train")
    np.testing.assert_array_equal(first.label, np.array([1, 255, 0])[scene(0)])
    with pytest.raises(DataError, match=r"value 1 belongs to no class.*`ignore: \[1\]`"):
        open_split(described(tmp_path, {"classes": {"ground": 0, "b": 2}}), "train")


@pytest.mark.parametrize("bands", [[0], [2, 0], [2, 1, 0], [0, 1, 2, 2, 1]])
def test_other_bands_than_rgb(tmp_path: Path, bands: list[int]) -> None:
    benchmark = load(tmp_path, rgb_png, index_png, THREE | {"bands": bands})
    assert benchmark.channels == len(bands)
    right(benchmark, COLOURS[:, bands])
    # Mapped from the cache: written a moment ago, and now by another object.
    right(described(tmp_path, THREE | {"bands": bands}), COLOURS[:, bands])
    assert audit(benchmark).images.mean[0] == pytest.approx(
        np.mean([COLOURS[scene(k)][..., bands[0]].mean() for k in range(11)])
    )


def shared_cases() -> list[str]:
    """Names of the cases that lie beside this checkout, if they do."""
    path = Path(__file__).resolve().parents[4] / "shared" / "cases" / "make_cases.py"
    return [str(path)] if path.is_file() else []


@pytest.mark.parametrize("maker", shared_cases())
def test_shared_cases(tmp_path: Path, maker: str) -> None:
    spec = importlib.util.spec_from_file_location("make_cases", maker)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    for case, expected in json.loads((tmp_path / "expected.json").read_text()).items():
        plugins.load_files([tmp_path / f"{case}.yaml"])
        try:
            benchmark = available()[case](None)
            found = [f for split in SPLITS for f in serious_in(benchmark, split)]
            said = "\n".join(f"{f.what} -> {f.fix}" for f in found)
        except DataError as error:
            assert expected.get("refused", "-") in str(error), case
            continue
        if words := expected.get("refused") or expected.get("audit"):
            assert words in said, case
            continue
        assert not found, case
        assert {s: len(benchmark.ids(s)) for s in SPLITS} == expected["images"], case
        means = colours(benchmark)
        for name, colour in expected.get("colours", {}).items():
            np.testing.assert_allclose(means[name], colour, atol=3, err_msg=f"{case} {name}")
        for name in expected.get("classes_present", ()):
            assert np.isfinite(means[name]).all(), case
