"""Damaged annotations of every format: labels or one line, never a traceback, and nothing left."""

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmark.data.importing.convert import convert
from tests.helpers import annotators
from tests.helpers.annotators import Scene
from tests.helpers.fuzz import NASTY, TREE, cases, mutated, told

pytestmark = pytest.mark.no_torch

SPLITS = {"train": 2, "val": 1, "test": 1}


def scenes() -> list[Scene]:
    made = []
    for k in range(4):
        scene = Scene(f"s{k}", (8, 9 + k))
        scene.regions = [
            annotators.rectangle(scene.size, "road", 1, 2, 6, 7),
            annotators.rectangle(scene.size, "car", 3, 1, 8, 4),
        ]
        made.append(scene)
    return made


FORMATS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "coco_polygon": (lambda f: annotators.coco(f, scenes(), "polygon"), "annotations.json"),
    "coco_packed": (lambda f: annotators.coco(f, scenes(), "packed"), "annotations.json"),
    "coco_runs": (lambda f: annotators.coco(f, scenes(), "runs"), "annotations.json"),
    "labelme_polygon": (lambda f: annotators.labelme(f, scenes(), "polygon"), "json/s1.json"),
    "labelme_mask": (lambda f: annotators.labelme(f, scenes(), "mask"), "json/s1.json"),
    "studio_brush": (
        lambda f: annotators.label_studio(f, scenes(), "brushlabels"),
        "project-1.json",
    ),
    "studio_boxes": (
        lambda f: annotators.label_studio(f, scenes(), "rectanglelabels"),
        "project-1.json",
    ),
    "cvat_polygon": (lambda f: annotators.cvat(f, scenes(), "polygon"), "annotations.xml"),
    "cvat_box": (lambda f: annotators.cvat(f, scenes(), "box"), "annotations.xml"),
    "cvat_mask": (lambda f: annotators.cvat(f, scenes(), "mask"), "annotations.xml"),
    "yolo": (lambda f: annotators.yolo(f, scenes(), SPLITS), "data.yaml"),
    "yolo_label": (lambda f: annotators.yolo(f, scenes(), SPLITS), "train/labels/s1.txt"),
    "voc_mask": (
        lambda f: annotators.voc(f, scenes(), "palette", SPLITS),
        "SegmentationClass/s1.png",
    ),
    "voc_map": (lambda f: annotators.voc(f, scenes(), "colours", SPLITS), "labelmap.txt"),
    "voc_names": (lambda f: annotators.voc(f, scenes(), "palette", SPLITS), "class_names.txt"),
    "voc_list": (
        lambda f: annotators.voc(f, scenes(), "palette", SPLITS),
        "ImageSets/Segmentation/train.txt",
    ),
    "geotiff_mask": (
        lambda f: annotators.geotiff(f, scenes(), "uint8", (0, 1, 2, 3, 255)),
        "labels/s1.tif",
    ),
    "geotiff_image": (
        lambda f: annotators.geotiff(f, scenes(), "uint8", (0, 1, 2, 3, 255)),
        "images/s1.tif",
    ),
}
"""By name: what writes a small set, and the file of it that is damaged."""

NUMBERS = st.sampled_from(
    ["-1", "0", "1e9", "1e400", "nan", "inf", "9" * 5000, "", "1;2", "../..", "\x00"]
)


def containers(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict | list):
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(value)


@st.composite
def damaged_tree(draw: st.DrawFn, whole: Any) -> bytes:
    """A tree of dicts and lists, of which a few values are others, twice there, or gone."""
    tree = copy.deepcopy(whole)
    # What is put in is the strategies' own, and stays as it is.
    own = {id(one) for one in containers(tree)}
    for _ in range(draw(st.integers(1, 3))):
        here = tree
        while inner := [
            value
            for value in (here.values() if isinstance(here, dict) else here)
            if id(value) in own and value
        ]:
            if not draw(st.integers(0, 4)):
                break
            here = draw(st.sampled_from(inner))
        if not here:
            continue
        key = draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del here[key]
        elif kind == 1 and isinstance(here, list):
            here.insert(0, here[key])
        else:
            here[key] = draw(NASTY | st.integers(-5, 50) | TREE)
    return json.dumps(tree).encode()


@st.composite
def damaged_words(draw: st.DrawFn, whole: bytes) -> bytes:
    """A text of which a few numbers or attributes are others."""
    text = whole.decode()
    for _ in range(draw(st.integers(1, 3))):
        found = list(re.finditer(r'(?<=")[^"<>]*(?=")|-?\d+(\.\d+)?', text))
        if found:
            one = draw(st.sampled_from(found))
            text = text[: one.start()] + draw(NUMBERS) + text[one.end() :]
    return text.encode()


def damaged(path: Path) -> st.SearchStrategy[bytes]:
    content = path.read_bytes()
    some = st.binary(max_size=64) | mutated(content)
    if path.suffix == ".json":
        return some | damaged_tree(json.loads(content))
    return some if path.suffix in (".png", ".tif") else some | damaged_words(content)


def fuzzed(name: str, folder: Path, count: int) -> None:
    write, inside = FORMATS[name]
    shutil.rmtree(folder, ignore_errors=True)
    theirs = folder / "theirs"
    write(theirs)
    path, form = theirs / inside, re.sub(r"_.*", "", name).replace("studio", "label_studio")
    good = path.read_bytes()
    names = dict(enumerate("abcd")) if form == "geotiff" else None

    @given(damaged(path))
    @cases(count)
    def run(content: bytes) -> None:
        path.write_bytes(content)
        made = told(lambda: convert(theirs, folder / "ours.yaml", form, names=names))
        if made is None:
            assert [one.name for one in folder.iterdir()] == ["theirs"]
            return
        classes = yaml.safe_load(made.description.read_text())["classes"]
        labels = list((folder / "ours" / "labels").rglob("*.png"))
        assert labels and all(isinstance(one, str) and one.strip() for one in classes)
        for label in labels:
            values = np.unique(np.asarray(Image.open(label)))
            assert ((values < len(classes)) | (values == 255)).all()
        shutil.rmtree(folder / "ours")
        made.description.unlink()

    run()
    path.write_bytes(good)
    assert convert(theirs, folder / "ours.yaml", form, names=names)


@pytest.mark.parametrize("name", FORMATS)
def test_a_few_damages(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path / "few", 25)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_damages(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path / "many", 400)
