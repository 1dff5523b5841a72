"""Annotations of other tools end in the labels that were drawn, whatever format they went through.

Masks and axis-aligned rectangles exactly; other polygons up to how their boundary is rounded.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from benchmark.core.errors import UserError
from benchmark.data import available
from benchmark.data.base import BENCHMARKS, SPLITS
from benchmark.data.cache import open_split
from benchmark.data.importing import convert as converting
from benchmark.data.importing.convert import Imported, convert
from benchmark.data.importing.label_studio import unpacked
from benchmark.data.importing.raster import Canvas
from benchmark.planning import plugins
from tests.helpers import annotators
from tests.helpers.annotators import NAMES, Region, Scene

pytestmark = pytest.mark.no_torch

ALL = {"train": 4, "val": 2, "test": 2}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a test has registered."""
    before = dict(available())
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    yield
    BENCHMARKS.clear()
    BENCHMARKS.update(before)


def labels_of(made: Imported) -> dict[str, np.ndarray]:
    """The labels by the name of their image, as a run reads them, through the decoded cache."""
    plugins.load_files([made.description])
    benchmark = available()[made.description.stem](None)
    found = {}
    for split in SPLITS:
        for example in open_split(benchmark, split):
            found[example.id.split("/")[-1]] = example.label
    return found


def same(made: Imported, scenes: list[Scene], classes: list[str] | None = None) -> None:
    """Checks that a set holds the labels of scenes, pixel by pixel."""
    assert yaml.safe_load(made.description.read_text())["classes"] == (
        classes or ["background", *NAMES]
    )
    found = labels_of(made)
    assert found.keys() == {scene.name for scene in scenes}
    for scene in scenes:
        assert np.array_equal(found[scene.name], scene.label), scene.name


Write = Callable[[Path, list[Scene]], Path]

MASKS: dict[str, tuple[str, Write]] = {
    "coco_packed": ("coco", lambda f, s: annotators.coco(f, s, "packed")),
    "coco_runs": ("coco", lambda f, s: annotators.coco(f, s, "runs")),
    "labelme": ("labelme", lambda f, s: annotators.labelme(f, s, "mask")),
    "cvat": ("cvat", lambda f, s: annotators.cvat(f, s, "mask")),
    "label_studio": ("label_studio", lambda f, s: annotators.label_studio(f, s, "brushlabels")),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_exact(tmp_path: Path, name: str) -> None:
    form, write = MASKS[name]
    scenes = annotators.shapes()
    made = convert(write(tmp_path / "theirs", scenes), tmp_path / "ours.yaml")
    assert made.form == form
    assert made.counts == {"train": 5, "val": 1, "test": 2}
    assert any("fixed seed" in note for note in made.notes)
    same(made, scenes)


RECTANGLES: dict[str, tuple[str, Write]] = {
    "coco": ("coco", lambda f, s: annotators.coco(f, s, "polygon")),
    "labelme_polygon": ("labelme", lambda f, s: annotators.labelme(f, s, "polygon")),
    "labelme_rectangle": ("labelme", lambda f, s: annotators.labelme(f, s, "rectangle")),
    "cvat_polygon": ("cvat", lambda f, s: annotators.cvat(f, s, "polygon")),
    "cvat_box": ("cvat", lambda f, s: annotators.cvat(f, s, "box")),
    "yolo": ("yolo", lambda f, s: annotators.yolo(f, s, ALL)),
    "label_studio_polygon": (
        "label_studio",
        lambda f, s: annotators.label_studio(f, s, "polygonlabels"),
    ),
    "label_studio_rectangle": (
        "label_studio",
        lambda f, s: annotators.label_studio(f, s, "rectanglelabels"),
    ),
}


@pytest.mark.parametrize("name", RECTANGLES)
def test_rectangles_are_exact(tmp_path: Path, name: str) -> None:
    form, write = RECTANGLES[name]
    scenes = annotators.rectangles()
    made = convert(write(tmp_path / "theirs", scenes), tmp_path / "ours.yaml")
    assert made.form == form
    same(made, scenes)


@pytest.mark.parametrize("kind", ["packed", "runs"])
def test_crowds_are_void_and_lie_below(tmp_path: Path, kind: str) -> None:
    scenes = annotators.shapes(crowds=True)
    assert sum((scene.label == 255).sum() for scene in scenes) > 1000
    same(convert(annotators.coco(tmp_path / "coco", scenes, kind), tmp_path / "ours.yaml"), scenes)


@pytest.mark.parametrize("kind", ["palette", "colours", "mixed"])
def test_voc(tmp_path: Path, kind: str) -> None:
    scenes = annotators.shapes(9, crowds=True)
    path = annotators.voc(tmp_path / "voc", scenes, kind, ALL)
    made = convert(path, tmp_path / "ours.yaml")
    assert made.form == "voc" and made.counts == ALL
    assert made.notes == ("1 masks that no list names are left out",)
    same(made, scenes[:8], ["_background_", *NAMES])


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", (0, 1, 2, 3, 255)),
        ("int16", (10, 300, 7, -4, -9999)),
        ("float32", (0, 1, 2, 3, np.nan)),
    ],
)
def test_geotiff(tmp_path: Path, dtype: str, values: tuple[int, ...]) -> None:
    scenes = annotators.shapes(crowds=True)
    path = annotators.geotiff(tmp_path / "tiff", scenes, dtype, values)
    names = dict(zip(values, ("background", *NAMES), strict=False))
    made = convert(path, tmp_path / "ours.yaml", names=names)
    assert made.form == "geotiff"
    # Classes are in the order of their values.
    ordered = [names[value] for value in sorted(names)]
    table = np.full(256, 255)
    table[:4] = [ordered.index(name) for name in ("background", *NAMES)]
    found = labels_of(made)
    for scene in scenes:
        assert np.array_equal(found[scene.name], table[scene.label]), scene.name
