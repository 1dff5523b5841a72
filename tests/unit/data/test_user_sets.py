"""Sets that a YAML file describes: folders of images, and datasets of the hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.audit.audit import audit
from benchmark.data.base import BENCHMARKS, SPLITS, Benchmark
from benchmark.data.cache import open_split
from benchmark.data.fake.drawing import blocks, picture, save
from benchmark.data.palette import distinct_colours
from benchmark.planning import plugins
from tests.helpers import forked

pytestmark = pytest.mark.no_torch

# Before `datasets` is imported: nothing here may ask the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[3]
COLOURS = {"sky": "#0080FF", "road": "#804080", "tree": "#00FF00"}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a test has registered."""
    before = dict(available())
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    yield
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


def load(home: Path, **fields: Any) -> type[Benchmark]:
    """Writes a description, and loads it as `--plugin` does."""
    path = home / "set.yaml"
    content = {"name": "mine", "classes": list(COLOURS)} | fields
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    plugins.load_files([path])
    return available()[content["name"]]


def write(folder: Path, values: list[int], counts: dict[str, int], colours: bool = False) -> None:
    """Images with labels that store `values`, or their colours, in bars."""
    palette = np.array([[0, 128, 255], [128, 64, 128], [0, 255, 0], [9, 9, 9]], np.uint8)
    for split, count in counts.items():
        for i in range(count):
            label = blocks(values, seed=i)
            save(folder / "images" / split / f"{i:02}.png", picture(label, i))
            stored = palette[label] if colours else label
            save(folder / "labels" / split / f"{i:02}.png", stored)


def test_index_labels(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 255], {"train": 3, "val": 2, "test": 2})
    cls = load(tmp_path, title="My\n set", licence="mine alone")
    assert (cls.name, cls.title, cls.licence) == ("mine", "My set", "mine alone")
    assert cls.classes == ("sky", "road", "tree")
    assert cls.colours == distinct_colours(cls.classes)
    assert cls.origin == str(tmp_path) and cls.folder is None
    benchmark = cls()
    assert benchmark.ids("val") == ["val/00", "val/01"]
    for split in SPLITS:
        for i, example in enumerate(open_split(benchmark, split)):
            np.testing.assert_array_equal(example.label, blocks([0, 1, 2, 255], seed=i))
            np.testing.assert_array_equal(example.image, picture(example.label, i))
    assert benchmark.where("val/01") == str(tmp_path / "labels" / "val" / "01.png")
    assert benchmark.scale(100, 200) == 1


def test_offset_and_void(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3, 77], {"train": 2, "val": 1, "test": 1})
    benchmark = load(tmp_path, offset=1, void=[0, 77])()
    (example,) = open_split(benchmark, "test")
    np.testing.assert_array_equal(example.label, blocks([255, 0, 1, 2, 255], seed=0))


@pytest.mark.parametrize("kind", ["rgb", "palette", "alpha"])
def test_colour_labels(tmp_path: Path, kind: str) -> None:
    write(tmp_path, [0, 1, 2, 3], {"train": 2, "val": 1, "test": 1}, colours=True)
    path = tmp_path / "labels" / "test" / "00.png"
    if kind == "palette":
        Image.open(path).quantize(4).save(path)
    elif kind == "alpha":
        Image.open(path).convert("RGBA").save(path)
    cls = load(tmp_path, classes=COLOURS, labels="colour", void=["#090909"])
    assert cls.colours == tuple(COLOURS.values())
    (example,) = open_split(cls(), "test")
    np.testing.assert_array_equal(example.label, blocks([0, 1, 2, 255], seed=0))


def test_index_labels_may_have_colours_and_a_palette(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})
    path = tmp_path / "labels" / "test" / "00.png"
    paletted = Image.fromarray(np.asarray(Image.open(path)), mode="P")
    paletted.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    paletted.save(path)
    cls = load(tmp_path, classes=COLOURS)
    assert cls.colours == tuple(COLOURS.values())
    np.testing.assert_array_equal(cls().read("test/00")[1], blocks([0, 1, 2], seed=0))


def test_val_is_carved_from_train(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2], {"train": 20, "test": 3})
    cls = load(tmp_path)
    train, val, test = (cls().ids(split) for split in SPLITS)
    assert len(val) == 2 and test == ["test/00", "test/01", "test/02"]
    assert sorted(train + val) == [f"train/{i:02}" for i in range(20)]
    assert [cls().ids(split) for split in SPLITS] == [train, val, test]
    write(tmp_path, [0, 1, 2], {"val": 1})
    assert [len(cls().ids(split)) for split in SPLITS] == [20, 1, 3]


def test_two_images_are_enough_to_carve(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})
    assert [len(load(tmp_path)().ids(split)) for split in SPLITS] == [1, 1, 1]


def test_nested_folders_suffixes_and_hidden_files(tmp_path: Path) -> None:
    home = tmp_path / "below"
    write(home, [0, 1, 2], {"train": 2, "test": 1})
    label = blocks([0, 1, 2], seed=0)
    for name in ("a/x.JPG", "a.b/x.tiff", "y.bmp"):
        save(home / "images" / "test" / name, picture(label, 0))
        save((home / "labels" / "test" / name).with_suffix(".png"), label)
    for hidden in ("._00.png", ".thumbs/00.png"):
        save(home / "images" / "test" / hidden, label)
    (home / "images" / "test" / "notes.txt").write_text("no image")
    benchmark = load(tmp_path, folder="below")()
    assert benchmark.ids("test") == ["test/00", "test/a.b/x", "test/a/x", "test/y"]
    assert len(open_split(benchmark, "test")) == 4


def test_scales(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})
    assert load(tmp_path, scale=0.5)().scale(300, 400) == 0.5
    plugins._TYPED.clear()
    del BENCHMARKS["mine"]
    benchmark = load(tmp_path, shorter_side=150)()
    assert benchmark.scale(300, 400) == benchmark.scale(400, 300) == 0.5


def test_the_fingerprint_follows_what_decides_the_labels(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})
    prints = []
    for fields in ({}, {"title": "Other"}, {"void": [254]}, {"classes": ["road", "sky", "tree"]}):
        plugins._TYPED.clear()
        BENCHMARKS.pop("mine", None)
        prints.append(load(tmp_path, **fields)().fingerprint)
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_a_file_is_loaded_once_and_known_by_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})
    cls = load(tmp_path)
    monkeypatch.chdir(tmp_path)
    plugins.load_files([Path("set.yaml")])
    assert available()["mine"] is cls
    assert plugins.file_of(cls) == tmp_path / "set.yaml"
    assert plugins.file_of(available()["cells"]) is None


# --- datasets of the hub -------------------------------------------------------------------------


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


def rows(library: Any, count: int, **kinds: Any) -> Any:
    """A dataset of `count` rows; `image` and `mask` are PNG."""
    labels = [blocks([0, 1, 2, 255], seed=i) for i in range(count)]
    features = {"image": library.Image(), "mask": library.Image(), "note": library.Value("string")}
    return library.Dataset.from_dict(
        {
            "image": [Image.fromarray(picture(label, i)) for i, label in enumerate(labels)],
            "mask": [Image.fromarray(label) for label in labels],
            "note": ["n"] * count,
        },
        features=library.Features(features | kinds),
    )


def check(benchmark: Benchmark, counts: tuple[int, int, int]) -> None:
    assert tuple(len(benchmark.ids(split)) for split in SPLITS) == counts
    for split in SPLITS:
        for example in open_split(benchmark, split):
            i = int(example.id.split("/")[1])
            np.testing.assert_array_equal(example.label, blocks([0, 1, 2, 255], seed=i))
            np.testing.assert_array_equal(example.image, picture(example.label, i))


def test_a_saved_dataset_with_a_carved_val(tmp_path: Path, datasets: Any) -> None:
    parts = {"train": rows(datasets, 12), "held_out": rows(datasets, 2)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    hub = {"path": "saved", "label": "mask", "splits": {"train": "train", "test": "held_out"}}
    cls = load(tmp_path, hub=hub)
    benchmark = cls()
    check(benchmark, (11, 1, 2))
    assert benchmark.ids("test") == ["test/0000000", "test/0000001"]
    assert benchmark.files("test/0000000") == ()
    assert benchmark.where("test/0000001") == f"{tmp_path / 'saved'}, split held_out, row 1"
    assert benchmark.ids("val")[0].startswith("train/")
    assert cls().ids("val") == benchmark.ids("val")
    assert benchmark.fingerprint == cls().fingerprint != ""


@pytest.mark.parametrize("form", ["folder", "files"])
def test_parquet(tmp_path: Path, datasets: Any, form: str) -> None:
    for name, count in (("train", 4), ("validation", 2), ("test", 3)):
        (tmp_path / "data").mkdir(exist_ok=True)
        rows(datasets, count).to_parquet(tmp_path / "data" / f"{name}.parquet")
    splits = {"train": "train", "val": "validation", "test": "test"}
    hub: dict[str, Any] = {"path": "data", "label": "mask", "splits": splits}
    if form == "files":
        hub |= {"path": "parquet", "data_files": {s: f"data/{s}.parquet" for s in splits.values()}}
    benchmark = load(tmp_path, hub=hub)()
    check(benchmark, (4, 2, 3))
    before = benchmark.fingerprint
    # Other rows in the same file are other data.
    rows(datasets, 4).select([3, 2, 1, 0]).to_parquet(tmp_path / "data" / "train.parquet")
    assert available()["mine"]().fingerprint != before


def test_paths_as_images(tmp_path: Path, datasets: Any) -> None:
    parts = {}
    for name in ("train", "test"):
        data = rows(datasets, 2)
        for i, row in enumerate(data):
            save(tmp_path / "saved" / "photos" / f"{i}.png", np.asarray(row["image"]))
        names = [f"photos/{i}.png" for i in range(2)]
        parts[name] = data.remove_columns("image").add_column("image", names)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    hub = {"path": "saved", "label": "mask", "splits": {"train": "train", "test": "test"}}
    check(load(tmp_path, hub=hub)(), (1, 1, 2))


def test_files_in_rows_are_read_as_files_are(tmp_path: Path, datasets: Any) -> None:
    """Photos are turned as EXIF says, labels are not; depth and range are as in a folder."""
    tag = Image.Exif()
    tag[0x0112] = 6
    label = blocks([0, 1, 2, 255], seed=0)
    for name, pixels in (("image", np.rot90(picture(label, 0), 1)), ("mask", label)):
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}.png", exif=tag)
    Image.fromarray(picture(label, 0)[..., 0].astype(np.uint16) * 16).save(tmp_path / "deep.tif")

    def rows(image: str) -> Any:
        columns = {"image": [str(tmp_path / image)] * 2, "mask": [str(tmp_path / "mask.png")] * 2}
        features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
        return datasets.Dataset.from_dict(columns, features=features)

    parts = {"train": rows("image.png"), "test": rows("deep.tif")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    hub = {"path": "saved", "label": "mask", "splits": {"train": "train", "test": "test"}}
    benchmark = load(tmp_path, hub=hub, range=[0, 255])()
    image, found = benchmark.read("train/0000000")
    np.testing.assert_array_equal(image, picture(label, 0))
    np.testing.assert_array_equal(found, label)
    BENCHMARKS.pop("mine")
    plugins._TYPED.clear()
    benchmark = load(tmp_path, hub=hub, range=[0, 4080])()
    image, found = benchmark.read("test/0000000")
    np.testing.assert_array_equal(image, np.repeat(picture(label, 0)[..., :1], 3, axis=2))
    what = [finding.what for finding in audit(benchmark).findings]
    assert any(text.startswith("images that were turned upright") for text in what)
    assert any(text.startswith("labels with an EXIF orientation") for text in what)


def test_importing_the_modules_does_not_import_the_library() -> None:
    code = "import sys, benchmark.data.custom.hub; print({'datasets', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- through the command line --------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_says_how_to_repeat_it(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 255], {"train": 4, "test": 2})
    (tmp_path / "set.yaml").write_text("name: myset\nclasses: [sky, road, tree]\n")
    words = [
        "run", "--suite=demo", "--plugin", "set.yaml", "--benchmarks", "myset", "--accept-audit",
        "--backbones", "demo_vit", "--methods", "linear", "--set", "steps=2", "--set", "crop=36",
        "--set", "batch_size=2", "--results", "results",
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment["BENCHMARK_CACHE"] = str(tmp_path / "cache")
    done = forked.call(*words, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (tmp_path / "results").rglob("record.json")
    assert "--plugin set.yaml" in record.read_text()
    assert list(json.loads(record.read_text())["metrics"]["class_iou"]) == ["sky", "road", "tree"]


@pytest.mark.slow
@pytest.mark.parametrize("bands", [[0], [4, 3, 2, 1, 0]])
def test_a_run_on_other_bands_than_rgb(tmp_path: Path, bands: list[int]) -> None:
    import tifffile

    for split, count in {"train": 4, "test": 2}.items():
        for i in range(count):
            label = blocks([0, 1, 2, 255], seed=i)
            save(tmp_path / "labels" / split / f"{i}.png", label)
            pixels = np.dstack([picture(label, i), picture(label, i + 9)[..., :2]])
            path = tmp_path / "images" / split / f"{i}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            deep = pixels.astype(np.uint16) * 16
            tifffile.imwrite(path, deep, photometric="minisblack", planarconfig="contig")
    (tmp_path / "set.yaml").write_text(
        f"name: myset\nclasses: [sky, road, tree]\nbands: {bands}\nrange: [0, 4080]\n"
    )
    words = [
        "run", "--suite=demo", "--plugin", "set.yaml", "--benchmarks", "myset", "--accept-audit",
        "--backbones", "demo_vit", "--methods", "linear,lora,full,lst", "--set", "steps=2",
        "--set", "crop=36", "--set", "batch_size=2", "--results", "results",
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment["BENCHMARK_CACHE"] = str(tmp_path / "cache")
    done = forked.call(*words, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("record.json")]
    assert [record["status"] for record in records] == ["done"] * 4
    (tuned,) = (
        record["costs"]["params"]["tuned_backbone"]
        for record in records
        if record["method"] == "full"
    )
    # 1,650,048 parameters for RGB, of which the stem has 12 x 12 x 128 for each channel.
    assert tuned == 1_650_048 + (len(bands) - 3) * 12 * 12 * 128


def test_merge_keys_are_understood(tmp_path: Path) -> None:
    from benchmark.core.yaml_file import read_mapping

    path = tmp_path / "merged.yaml"
    path.write_text("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}")
    assert read_mapping(path, "it", "names", "a: 1")["b"] == {"p": 1, "q": 3}


def test_an_edited_description_is_another_run(tmp_path: Path) -> None:
    from benchmark.planning.plan import Selection, plan

    write(tmp_path, [0, 1, 2], {"train": 2, "val": 1, "test": 1})

    def run_id(**fields: Any) -> str:
        BENCHMARKS.pop("mine", None)
        plugins._TYPED.clear()
        load(tmp_path, **fields)
        (cell,) = plan(Selection(methods="linear", benchmarks="mine"))
        return cell.run_id

    usual = run_id()
    assert run_id(licence="CC0") == usual
    others = [
        run_id(classes=list(COLOURS)[::-1]),
        run_id(shorter_side=64),
        run_id(void=[255, 254]),
    ]
    assert len({usual, *others}) == 4


def test_images_by_path_are_files_and_stay_in_the_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path, [0, 1, 2], {"train": 2, "test": 1})

    def rows(*names: str) -> Any:
        labels = [Image.open(tmp_path / "labels/train/00.png") for _ in names]
        return datasets.Dataset.from_dict(
            {"image": list(names), "label": labels},
            features=datasets.Features(
                {"image": datasets.Value("string"), "label": datasets.Image()}
            ),
        )

    parts = {
        "train": rows("images/train/00.png", "images/train/01.png"),
        "test": rows("../images/test/00.png"),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "images" / "train").mkdir(parents=True)
    for name in ("00.png", "01.png"):
        (tmp_path / "images/train" / name).rename(tmp_path / "saved/images/train" / name)
    benchmark = load(tmp_path, hub={"path": "saved", "splits": {"train": "train", "test": "test"}})(
        None
    )
    (id,) = benchmark.ids("train")
    assert benchmark.files(id)[0].is_file()
    benchmark.read(id)
    with pytest.raises(DataError, match="leads out of the dataset's folder"):
        benchmark.read("test/0000000")


def test_what_the_field_reports_changes_no_image_and_so_no_version(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    dice = load(tmp_path, metric="dice")
    assert dice.metric == "dice"
    usual = load(tmp_path / "usual", name="usual")
    assert usual.metric == "iou" and usual.version == dice.version
