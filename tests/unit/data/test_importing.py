"""Annotations of other tools end in the labels that were drawn, whatever format they went through.

Masks and axis-aligned rectangles exactly; other polygons up to how their boundary is rounded.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from benchmark.core.errors import UserError
from benchmark.data import available
from benchmark.data.base import BENCHMARKS, IGNORE, SPLITS
from benchmark.data.cache import open_split
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


# Other shapes


def polygon_scenes() -> list[Scene]:
    """Scenes with polygons of many vertices, some of which cross themselves or leave the image."""
    random = np.random.default_rng(1)
    scenes = []
    for k in range(6):
        scene = Scene(f"scene_{k}", (50 + k, 70 - k))
        for _ in range(4):
            low, high = (0.0, 50.0) if k % 2 else (-20.0, 90.0)
            points = random.uniform(low, high, (int(random.integers(3, 9)), 2)).tolist()
            inside = np.zeros(scene.size, bool)
            outline = [(x, y) for x, y in points]
            scene.regions.append(Region(NAMES[len(scene.regions) % 3], inside, outline))
        scenes.append(scene)
    return scenes


def test_coco_polygons_are_drawn_as_pycocotools_draws_them(tmp_path: Path) -> None:
    scenes = polygon_scenes()
    path = annotators.coco(tmp_path / "coco", scenes, "polygon")
    content = json.loads(path.read_text())
    for one in content["annotations"][:3]:  # an annotation in two parts
        one["segmentation"].append([1, 1, 9, 1, 9, 9])
    path.write_text(json.dumps(content))
    made = convert(path, tmp_path / "ours.yaml")
    found = labels_of(made)
    reader = COCO(str(path))
    numbers = {3: 1, 10: 2, 17: 3}
    for image in reader.loadImgs(reader.getImgIds()):
        expected = np.zeros((image["height"], image["width"]), np.uint8)
        for one in reader.loadAnns(reader.getAnnIds(image["id"])):
            expected[reader.annToMask(one) > 0] = numbers[one["category_id"]]
        assert np.array_equal(found[Path(image["file_name"]).stem], expected)


FORMS: dict[str, Write] = {
    "coco": lambda f, s: annotators.coco(f, s, "polygon"),
    "labelme": lambda f, s: annotators.labelme(f, s, "polygon"),
    "cvat": lambda f, s: annotators.cvat(f, s, "polygon"),
    "yolo": lambda f, s: annotators.yolo(f, s, {"train": 4, "val": 1, "test": 1}),
    "label_studio": lambda f, s: annotators.label_studio(f, s, "polygonlabels"),
}


@pytest.mark.parametrize("name", FORMS)
def test_polygons_are_right_but_for_their_boundary(tmp_path: Path, name: str) -> None:
    """Only pixels that a boundary crosses may differ from the truth, taken at pixel centres."""
    scenes = polygon_scenes()[1::2]
    scenes += [Scene(f"{scene.name}_again", scene.size, scene.regions) for scene in scenes]
    found = labels_of(convert(FORMS[name](tmp_path / "theirs", scenes), tmp_path / "ours.yaml"))
    for scene in scenes:
        truth, near = np.zeros(scene.size, np.uint8), np.zeros(scene.size, bool)
        rows, columns = np.indices(scene.size) + 0.5
        for region in scene.regions:
            assert region.outline
            edges = list(zip(region.outline, [*region.outline[1:], region.outline[0]], strict=True))
            odd = np.zeros(scene.size, bool)
            for (x0, y0), (x1, y1) in edges:
                crosses = (y0 <= rows) != (y1 <= rows)
                odd ^= crosses & (columns < x0 + (rows - y0) / (y1 - y0) * (x1 - x0))
                along = np.hypot(x1 - x0, y1 - y0)
                share = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / along**2
                share = share.clip(0, 1)
                near |= (
                    np.hypot(x0 + share * (x1 - x0) - columns, y0 + share * (y1 - y0) - rows) < 1
                )
            truth[odd] = 1 + NAMES.index(region.name)
        wrong = found[scene.name] != truth
        assert not (wrong & ~near).any()
        assert wrong.sum() < 0.25 * near.sum()


def test_a_hole_cut_by_a_keyhole_is_a_hole() -> None:
    canvas = Canvas(20, 30)
    outer, inner = [2, 2, 12, 2, 12, 12, 2, 12, 2, 2], [5, 5, 5, 9, 9, 9, 9, 5, 5, 5]
    canvas.polygons([[*outer, *inner]], 4)
    expected = np.full((20, 30), -1)
    expected[2:12, 2:12] = 4
    expected[5:9, 5:9] = -1
    assert np.array_equal(canvas.label, expected)


def test_ellipses_circles_and_turned_boxes(tmp_path: Path) -> None:
    size, area = (100, 120), {"ellipse": np.pi * 30 * 20, "circle": np.pi * 25**2, "box": 40 * 20}
    annotators.images(tmp_path, [Scene(name, size) for name in area])
    shapes = {
        "ellipse": '<ellipse label="car" cx="60" cy="50" rx="30" ry="20" rotation="30"/>',
        "circle": '<ellipse label="car" cx="60" cy="50" rx="25" ry="25"/>',
        "box": '<box label="car" xtl="40" ytl="40" xbr="80" ybr="60" rotation="90"/>',
    }
    parts = [
        f'<image id="1" name="{name}.png" width="120" height="100">{shape}</image>'
        for name, shape in shapes.items()
    ]
    labels = "<meta><labels><label><name>car</name></label></labels></meta>"
    path = tmp_path / "a.xml"
    path.write_text(f"<annotations>{labels}{''.join(parts)}</annotations>")
    found = labels_of(convert(path, tmp_path / "ours.yaml"))
    for name in area:
        assert found[name].sum() == pytest.approx(area[name], rel=0.01)
    upright = np.zeros(size, np.uint8)
    upright[30:70, 50:70] = 1
    assert np.array_equal(found["box"], upright)
    rows, columns = np.nonzero(found["ellipse"])
    # Turned clockwise: its right end is lower than its left one.
    assert np.polyfit(columns, rows, 1)[0] > 0.2

    (tmp_path / "me").mkdir()
    for k in range(3):
        annotators.images(tmp_path / "me", [Scene(f"{k}", size)])
        disc = {"label": "car", "shape_type": "circle", "points": [[60, 50], [60, 75]]}
        content = {"shapes": [disc], "imagePath": f"{k}.png"}
        (tmp_path / "me" / f"{k}.json").write_text(json.dumps(content))
    found = labels_of(convert(tmp_path / "me", tmp_path / "circles.yaml"))
    rows, columns = np.indices(size) + 0.5
    distance = np.hypot(rows - 50, columns - 60)
    assert not ((found["0"] != (distance < 25)) & (np.abs(distance - 25) > 1)).any()
    assert found["0"].sum() == pytest.approx(area["circle"], rel=0.01)


def test_a_brush_mask_that_label_studio_has_packed() -> None:
    """Packed by `mask2rle` of label-studio-sdk 2.1.2."""
    packed = [0, 0, 5, 160, 57, 27, 252, 127, 241, 128, 71, 255, 24, 4, 127, 250, 92, 3, 67, 255]
    packed += [225, 112, 13, 15, 255, 133, 192, 48, 223, 254, 39, 0, 200, 127, 248, 92, 3, 13, 255]
    packed += [226, 112, 12, 135, 255, 133, 192, 52, 63, 254, 23, 0, 196, 127, 241, 128, 101, 255]
    packed += [252, 46, 1, 161, 255, 245, 56, 4, 127, 224]
    expected = np.zeros((9, 40), bool)
    expected[1:8, 3:37] = True
    expected[3:5, 10:20] = expected[6, 12] = False
    expected[8, 39] = expected[0, 0] = expected[0, 2] = expected[0, 4] = True
    assert np.array_equal(unpacked(packed, 9, 40), expected)


def test_of_several_annotations_the_ground_truth_counts(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.label_studio(tmp_path / "studio", scenes, "polygonlabels")
    content = json.loads(path.read_text())
    content[2]["annotations"][0]["ground_truth"] = True
    content[2]["annotations"].append({"id": 9, "result": []})
    content[3]["annotations"].insert(0, {"id": 8, "result": []})
    content.append({"id": 99, "data": {"image": "/data/upload/4/no.png"}, "annotations": []})
    path.write_text(json.dumps(content))
    made = convert(path, tmp_path / "ours.yaml")
    assert any("1 tasks without an annotation are left out" in note for note in made.notes)
    assert any("2 tasks have several annotations" in note for note in made.notes)
    same(made, scenes)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8080/data/local-files/?d=photos%2Fnew%2FNAME",
        "s3://bucket/some/folder/NAME",
        "/data/upload/7/0123abcd-NAME",
    ],
)
def test_addresses_of_a_server_are_found_by_their_end(tmp_path: Path, address: str) -> None:
    scenes = annotators.rectangles()
    path = annotators.label_studio(tmp_path / "studio", scenes, "polygonlabels")
    content = json.loads(path.read_text())
    for task, scene in zip(content, scenes, strict=True):
        task["data"] = {"photo": address.replace("NAME", f"{scene.name}.png")}
    path.write_text(json.dumps(content))
    same(convert(path, tmp_path / "ours.yaml"), scenes)


# Splits, images and classes


def test_splits_of_coco_are_those_of_its_files(tmp_path: Path) -> None:
    """The official layout: images in train2017 and val2017 have the same names."""
    scenes = annotators.rectangles(8)
    for split, some in (("train2017", scenes[:5]), ("val2017", scenes[2:])):
        path = annotators.coco(tmp_path / split, some, "polygon")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        path.rename(tmp_path / "annotations" / f"instances_{split}.json")
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    made = convert(tmp_path, tmp_path / "ours.yaml")
    assert made.counts == {"train": 5, "val": 0, "test": 6}
    assert made.notes == (
        "there is no test split: val is taken as test",
        "there is no val split: a tenth of train becomes val",
    )
    inside = tmp_path / "ours" / "images" / "test" / "street_03.png"
    assert inside.is_symlink()
    assert inside.resolve() == (tmp_path / "val2017" / "images" / "street_03.png").resolve()
    found = labels_of(made)
    assert all(np.array_equal(found[scene.name], scene.label) for scene in scenes)
    one = convert(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "one.yaml")
    assert sum(one.counts.values()) == 6


def test_splits_of_roboflow_cvat_yolo_and_labelme(tmp_path: Path) -> None:
    scenes = annotators.rectangles(8)
    parts = {"train": scenes[:4], "valid": scenes[4:6], "test": scenes[6:]}
    for split, some in parts.items():
        path = annotators.coco(tmp_path / "robo" / split, some, "packed")
        path.rename(path.with_name("_annotations.coco.json"))
        annotators.labelme(tmp_path / "me" / split, some, "polygon")
    path = annotators.cvat(tmp_path / "cvat", scenes, "mask")
    text = path.read_text()
    for split, some in parts.items():
        for scene in some:
            text = text.replace(f'name="{scene.name}', f'subset="{split}" name="{scene.name}')
    path.write_text(text)
    annotators.yolo(tmp_path / "yolo", scenes, ALL)
    for name in ("robo", "me", "cvat", "yolo"):
        made = convert(tmp_path / name, tmp_path / f"of_{name}.yaml")
        assert made.counts == ALL and not made.notes, name
        same(made, scenes)


@pytest.mark.parametrize(
    "prefix", ["C:\\data\\new\\", "/home/me/", "../x/", "a/../../b/", "z/" * 999]
)
def test_images_elsewhere_are_found_by_the_end_of_their_path(tmp_path: Path, prefix: str) -> None:
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path / "coco", scenes, "polygon")
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = prefix + image["file_name"]
    path.write_text(json.dumps(content))
    (tmp_path / "photos").mkdir()
    (tmp_path / "coco" / "images").rename(tmp_path / "photos" / "new")
    with pytest.raises(UserError, match="--images"):
        convert(path, tmp_path / "ours.yaml")
    same(convert(path, tmp_path / "ours.yaml", images=tmp_path / "photos"), scenes)


def test_a_set_that_was_imported_before_is_no_second_image(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path, scenes, "polygon")
    convert(path, tmp_path / "first.yaml")
    same(convert(path, tmp_path / "second.yaml"), scenes)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path / "coco", scenes, "polygon")
    (tmp_path / "coco" / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "coco" / "photos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "coco" / "loop").symlink_to(tmp_path / "coco")
    same(convert(path, tmp_path / "ours.yaml"), scenes)


def test_without_links_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no links here")

    scenes = annotators.rectangles()
    monkeypatch.setattr("os.symlink", fails)
    made = convert(annotators.coco(tmp_path, scenes, "polygon"), tmp_path / "ours.yaml")
    assert "8 images were copied, since links cannot be made here" in made.notes
    same(made, scenes)
    assert not any(path.is_symlink() for path in (tmp_path / "ours").rglob("*"))


def test_a_photo_is_as_large_as_it_is_shown(tmp_path: Path) -> None:
    """Tools show photos upright, and annotate them so."""
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path, scenes, "polygon")
    for scene in scenes:
        image = tmp_path / "images" / f"{scene.name}.png"
        tag = Image.Exif()
        tag[0x0112] = 6
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(scene.image, 1)))
        turned.save(image.with_suffix(".jpg"), exif=tag)
        image.unlink()
    path.write_text(path.read_text().replace(".png", ".jpg"))
    convert(path, tmp_path / "ours.yaml")
    for scene in scenes:
        (label,) = (tmp_path / "ours" / "labels").rglob(f"{scene.name}.png")
        assert np.array_equal(np.asarray(Image.open(label)), scene.label)


def test_what_is_not_annotated_may_be_void(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path, scenes, "polygon")
    made = convert(path, tmp_path / "ours.yaml", unlabelled="void")
    assert yaml.safe_load(made.description.read_text())["classes"] == list(NAMES)
    for scene in scenes:
        (label,) = (tmp_path / "ours" / "labels").rglob(f"{scene.name}.png")
        # Void is 255, and the classes begin at 0.
        assert np.array_equal(np.asarray(Image.open(label)), scene.label - np.uint8(1))


def test_a_category_background_is_the_background(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.coco(tmp_path, scenes, "polygon")
    content = json.loads(path.read_text())
    content["categories"].append({"id": 999, "name": "Background"})
    path.write_text(json.dumps(content))
    made = convert(path, tmp_path / "ours.yaml")
    assert yaml.safe_load(made.description.read_text())["classes"] == [*NAMES, "Background"]
    found = labels_of(made)
    for scene in scenes:
        expected = np.where(scene.label == 0, 3, scene.label - np.uint8(1))
        assert np.array_equal(found[scene.name], expected)


def test_labels_without_a_gap_say_how_to_leave_out_the_background(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    for scene in scenes:
        filled = annotators.rectangle(scene.size, "road", 0, 0, scene.size[1], scene.size[0])
        scene.regions.insert(0, filled)
    made = convert(annotators.coco(tmp_path, scenes, "polygon"), tmp_path / "ours.yaml")
    assert any("--unlabelled void" in note for note in made.notes)


def test_labelme_ignores_what_is_called_so(tmp_path: Path) -> None:
    scenes = annotators.rectangles()
    path = annotators.labelme(tmp_path, scenes, "polygon")
    for file in path.rglob("*.json"):
        file.write_text(file.read_text().replace('"tree"', '"__ignore__"'))
    found = labels_of(convert(path, tmp_path / "ours.yaml"))
    for scene in scenes:
        expected = np.where(scene.label == 3, 255, scene.label)
        assert np.array_equal(found[scene.name], expected)


def test_values_of_one_name_are_one_class(tmp_path: Path) -> None:
    scenes = annotators.shapes()
    path = annotators.geotiff(tmp_path / "tiff", scenes, "uint8", (0, 1, 2, 3, 255))
    names = {0: "ground", 1: "thing", 2: "thing", 3: "thing"}
    made = convert(path, tmp_path / "ours.yaml", names=names)
    found = labels_of(made)
    assert all(np.array_equal(found[s.name], np.minimum(s.label, 1)) for s in scenes)


@pytest.mark.parametrize("module", ["pycocotools.mask", "rasterio", "defusedxml"])
def test_without_the_extra_a_line_says_how_to_install_it(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = annotators.rectangles()
    annotators.coco(tmp_path / "pycocotools.mask", scenes, "polygon")
    annotators.cvat(tmp_path / "defusedxml", scenes, "polygon")
    annotators.geotiff(tmp_path / "rasterio", scenes, "uint8", (0, 1, 2, 3, 255))
    monkeypatch.setitem(sys.modules, module, None)
    names = dict(enumerate("abcd")) if module == "rasterio" else None
    with pytest.raises(UserError) as info:
        convert(tmp_path / module, tmp_path / "ours.yaml", names=names)
    assert str(info.value).endswith("pip install 'petseg-bench[import]'")
    assert module.partition(".")[0] in str(info.value)


# Real sets


def real_scenes(name: str, data_root: Path, count: int) -> list[Scene]:
    """Images of a real set as scenes, whose objects are the pixels of each class."""
    benchmark = available()[name](data_root)
    names = tuple(benchmark.classes)
    scenes = []
    for id in [id for split in SPLITS for id in benchmark.ids(split)[:count]]:
        image, label = benchmark.read(id)
        values = np.unique(label[label != IGNORE]).tolist()
        regions = [Region(names[value], label == value) for value in values]
        if (label == IGNORE).any():
            regions.append(Region(names[0], label == IGNORE, crowd=True))
        number = len(scenes)
        scenes.append(Scene(f"{name}_{number:03}", label.shape, regions, names, image))
    return scenes


REAL: dict[str, Write] = {
    "coco": lambda f, s: annotators.coco(f, s, "packed"),
    "label_studio": lambda f, s: annotators.label_studio(f, s, "brushlabels"),
    "voc": lambda f, s: annotators.voc(f, s, "palette", {}),
    "geotiff": lambda f, s: annotators.geotiff(f, s, "uint8", (*range(len(s[0].names) + 1), 255)),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["camvid", "wbc"])
@pytest.mark.parametrize("form", REAL)
def test_a_real_set_keeps_its_counts(tmp_path: Path, data_root: Path, name: str, form: str) -> None:
    scenes = real_scenes(name, data_root, 3)
    names = ("background", *scenes[0].names)
    given = dict(enumerate(names)) if form == "geotiff" else None
    written = scenes
    if form == "label_studio":  # knows no void: what is void is not annotated
        written = [
            Scene(s.name, s.size, [r for r in s.regions if not r.crowd], s.names, s.image)
            for s in scenes
        ]
    path = REAL[form](tmp_path / "theirs", written)
    made = convert(path, tmp_path / "ours.yaml", names=given, unlabelled="void")
    assert made.form == form
    classes = yaml.safe_load(made.description.read_text())["classes"]
    found = labels_of(made)
    for scene in scenes:
        for k, category in enumerate(scene.names, 1):
            expected = scene.label == k
            if expected.any():
                drawn = found[scene.name] == classes.index(category)
                assert np.array_equal(drawn, expected), (scene.name, category)
        assert np.array_equal(found[scene.name] == IGNORE, scene.label == IGNORE)


def test_the_libraries_are_loaded_when_a_format_takes_them() -> None:
    code = (
        "import sys; from benchmark.data import available; available(); "
        "import benchmark.data.importing.convert; "
        "print({'pycocotools', 'rasterio', 'defusedxml', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_description_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    path = annotators.coco(tmp_path, annotators.rectangles(), "polygon")
    before = set(tmp_path.rglob("*"))
    monkeypatch.setattr("benchmark.data.importing.convert.write_atomic", fails)
    with pytest.raises(OSError, match="full"):
        convert(path, tmp_path / "ours.yaml")
    assert set(tmp_path.rglob("*")) == before
