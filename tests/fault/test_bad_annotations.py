"""Faults in annotations are reported on one line, and no files are left."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UserError
from benchmark.data.importing.convert import convert
from tests.helpers import annotators

pytestmark = pytest.mark.no_torch

SPLITS = {"train": 4, "val": 2, "test": 2}


def refused(path: Path, folder: Path, **options: Any) -> str:
    """The one line that an import ends with."""
    before = {p for p in folder.rglob("*")}
    with pytest.raises(UserError) as info:
        convert(path, folder / "ours.yaml", **options)
    text = str(info.value)
    assert text and len(text.splitlines()) == 1 and len(text) < 1000 and ";" in text, text
    assert {p for p in folder.rglob("*")} == before
    return text


def changed(path: Path, change: Callable[[Any], Any]) -> Path:
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return annotators.coco(tmp_path / "coco", annotators.rectangles(), "polygon")


def first(**fields: Any) -> Callable[[Any], None]:
    """Changes the third annotation, which is of image 98."""
    return lambda content: content["annotations"][2].update(fields)


def image(**fields: Any) -> Callable[[Any], None]:
    return lambda content: content["images"][2].update(fields)


def rle(counts: Any, size: tuple[int, int] = (42, 54)) -> Callable[[Any], None]:
    return first(segmentation={"size": size, "counts": counts})


def add_twin(content: Any) -> None:
    content["categories"].append({"id": 50, "name": " car "})


def add_many(content: Any) -> None:
    content["categories"] += [{"id": 100 + k, "name": f"c{k}"} for k in range(252)]


def no_areas(content: Any) -> None:
    for one in content["annotations"]:
        one["segmentation"] = []


def shares(content: Any) -> None:
    for one in content["annotations"]:
        one["segmentation"] = [[0.1, 0.1, 0.9, 0.1, 0.9, 0.8]]


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (image(file_name="gone.png"), ("image 98", "'gone.png'", "--images")),
        (image(file_name="../../../etc/passwd"), ("image 98", "leads out of", "--images")),
        (image(file_name="/etc/passwd"), ("leads out of",)),
        (image(file_name="a\0b"), ("image 98", "is not in")),
        (image(file_name="a" * 500 + ".png"), ("is not in",)),
        (image(file_name=""), ("is not in",)),
        (image(file_name="street_01.png"), ("street_01.png", "listed twice")),
        (image(width=10**9, height=1), ("image 98", "54x42", "1000000000x1")),
        (image(width=0), ("images.2.width", "greater than 0")),
        (image(width=1e400), ("images.2.width",)),
        (image(id=99), ("two images have the same id",)),
        (first(image_id=7), ("annotation 3", "image 7", "not listed")),
        (first(category_id=7), ("annotation 3", "category 7", "not listed")),
        (first(category_id=None), ("annotations.2.category_id",)),
        (first(segmentation=[[1, 2, NAN, 4, 5, 6]]), ("annotation 3", "finite")),
        (first(segmentation=[[1, 2, INFINITY, 4, 5, 6]]), ("annotation 3", "finite")),
        (first(segmentation=[[1, 2, 10**400, 4, 5, 6]]), ("annotation 3", "segmentation.0.2")),
        (first(segmentation=[[1, 2, 1e9, 4, 5, 6]]), ("annotation 3", "far outside", "54x42")),
        (first(segmentation=[[1, 2, 3, 4, 5]]), ("annotation 3", "5 coordinates")),
        (first(segmentation=[1, 2, 3, 4, 5, 6]), ("annotation 3", "segmentation.0")),
        (first(segmentation="all"), ("annotation 3", "segmentation")),
        (first(segmentation=[[0, 0, 54, 42] * 50_000]), ("annotation 3", "longer than")),
        (shares, ("all coordinates are between 0 and 1", "in pixels")),
        (rle([2268], (21, 54)), ("annotation 3", "54x21", "54x42")),
        (rle([2268], (10**9, 1)), ("annotation 3", "1x1000000000")),
        (rle([10, 10]), ("annotation 3", "20 pixels", "54x42")),
        (rle([-5, 2273]), ("annotation 3", "54x42")),
        (rle([2**70]), ("annotation 3",)),
        (rle("\x7f~"), ("annotation 3", "damaged")),
        (rle("ooooo"), ("annotation 3", "cut off")),
        (rle("o" * 100), ("annotation 3", "damaged")),
        (rle("1"), ("annotation 3", "1 pixels")),
        (add_twin, ("two categories", "'car'")),
        (add_many, ("255 categories", "255 classes")),
        (no_areas, ("no annotation has a segmentation",)),
        (lambda content: content.update(images=[]), ("image",)),
        (lambda content: content["categories"][0].update(id=10), ("two categories have the id",)),
        (lambda content: content["categories"][0].update(name=" "), ("categories.0.name",)),
        (lambda content: content["categories"][0].update(name="\ud800"), ("categories.0.name",)),
        (lambda content: content["categories"][0].update(name="a\x1b[1m"), ("categories.0.name",)),
        (lambda _: [1, 2], ("no known format", "--format")),
        (lambda _: {"images": 1, "annotations": 1, "categories": 1}, ("images", "must be a list")),
    ],
)  # fmt: skip
def test_coco(coco: Path, tmp_path: Path, change: Callable[[Any], Any], parts: tuple[str]) -> None:
    text = refused(changed(coco, change), tmp_path)
    assert "annotations.json" in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ("not JSON",)),
        (b"{", ("not JSON",)),
        (b"\xff\xfe", ("UTF-8",)),
        (b"[" * 100_000, ("not JSON",)),
        (b'{"images": ' + b"9" * 5000 + b"}", ("not JSON",)),
        (b"{}", ("no known format",)),
    ],
)
def test_files_that_are_no_json(tmp_path: Path, content: bytes, parts: tuple[str]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    text = refused(path, tmp_path)
    assert all(part in text for part in ("a.json", *parts)), text


def test_shapes_without_an_area_are_left_out_and_counted(coco: Path, tmp_path: Path) -> None:
    def change(content: Any) -> None:
        for one, ring in zip(
            content["annotations"][1:5],
            ([1, 1], [1, 1, 9, 9], [1, 1, 5, 5, 9, 9], [60, 1, 70, 1, 70, 9]),
            strict=True,
        ):
            one["segmentation"] = [ring]

    made = convert(changed(coco, change), tmp_path / "ours.yaml")
    assert "4 shapes cover no pixel" in made.notes


def header(width: int, height: int) -> bytes:
    """A PNG that claims a size."""
    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", start), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    )


@pytest.mark.parametrize(
    "content", [b"", b"no image", header(1, 10**9), header(2**31 - 1, 2**31 - 1)]
)
def test_images_that_are_none_or_huge(coco: Path, tmp_path: Path, content: bytes) -> None:
    (coco.parent / "images" / "street_02.png").write_bytes(content)
    assert "street_02.png" in refused(coco, tmp_path)


def test_images_of_a_kind_that_is_not_read(coco: Path, tmp_path: Path) -> None:
    path = coco.parent / "images" / "street_02.png"
    path.rename(path.with_suffix(".gif"))
    text = refused(changed(coco, image(file_name="street_02.gif")), tmp_path)
    assert "street_02.gif" in text and "convert" in text


def test_images_that_differ_in_their_suffix(coco: Path, tmp_path: Path) -> None:
    folder = coco.parent / "images"
    for path in list(folder.glob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))

    def twins(content: Any) -> None:
        content["images"] += [
            one | {"id": -one["id"], "file_name": one["file_name"].replace(".png", ".jpg")}
            for one in content["images"]
        ]

    assert "differ in their suffix only" in refused(changed(coco, twins), tmp_path)


def test_folders_with_images_of_the_same_names(coco: Path, tmp_path: Path) -> None:
    annotators.images(coco.parent / "other", annotators.shapes())
    (coco.parent / "images").rename(coco.parent / "some")
    text = refused(coco, tmp_path)
    assert str(coco.parent / "some") in text and "--images" in text


@pytest.mark.parametrize("form", ["coco", "cvat", "label_studio", "labelme"])
def test_a_missing_image_is_not_taken_from_elsewhere(form: str, tmp_path: Path) -> None:
    """A mask, or an image of another split, may have its name and size."""
    scenes, folder = annotators.rectangles(), tmp_path / form
    if form == "coco":
        path = annotators.coco(folder, scenes, "polygon")
    elif form == "cvat":
        path = annotators.cvat(folder, scenes, "polygon")
    elif form == "labelme":
        path = annotators.labelme(folder, scenes, "polygon")
    else:
        path = annotators.label_studio(folder, scenes, "polygonlabels")
    (gone,) = folder.rglob("street_03.png")
    annotators.images(folder / "masks", scenes)
    annotators.images(folder / "other" / "images", scenes[3:4])
    gone.unlink()
    for options in ({}, {"images": folder}):
        text = refused(path, tmp_path, **options)
        told = "street_03.png" in text and "is not in" in text
        assert told or "images of the same names" in text


def test_upright_photos_are_asked_for(coco: Path, tmp_path: Path) -> None:
    """Annotated before the orientation was applied: nothing can be said about its label."""
    tag = Image.Exif()
    tag[0x0112] = 6
    path = coco.parent / "images" / "street_02.png"
    Image.open(path).save(path, exif=tag)
    text = refused(coco, tmp_path)
    assert "42x54 px (upright)" in text and "54x42" in text


# Splits and the request


def test_two_files_of_one_split_and_of_none(tmp_path: Path) -> None:
    for name in ("a_train", "b_train"):
        path = annotators.coco(tmp_path / "sets", annotators.rectangles(), "polygon")
        path.rename(path.with_name(f"{name}.json"))
    text = refused(tmp_path / "sets", tmp_path)
    assert "a_train.json" in text and "b_train.json" in text
    (tmp_path / "sets" / "b_train.json").rename(tmp_path / "sets" / "more.json")
    assert "more.json" in refused(tmp_path / "sets", tmp_path)


def test_an_image_in_two_splits(tmp_path: Path) -> None:
    path = annotators.yolo(tmp_path / "yolo", annotators.rectangles(), SPLITS)
    path.write_text(path.read_text().replace("../val", "../train"))
    assert "train and val are the same images" in refused(path, tmp_path)


def test_too_few_images(tmp_path: Path) -> None:
    path = annotators.coco(tmp_path / "coco", annotators.rectangles(2), "polygon")
    assert "2 images, too few" in refused(path, tmp_path)


def test_requests(coco: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "gone.json", tmp_path)
    assert "no such folder" in refused(coco, tmp_path, images=tmp_path / "gone")
    assert "did you mean 'coco'" in refused(coco, tmp_path, form="cocoo")
    assert "Labelme" in refused(tmp_path, tmp_path, form="labelme")
    assert "names its classes itself" in refused(coco, tmp_path, names={0: "a"})
    annotators.cvat(coco.parent, annotators.rectangles(), "box")
    assert "coco and cvat" in refused(coco.parent, tmp_path)
    for name in ("ours.txt", "a b.yaml", "a;b.yaml"):
        with pytest.raises(UserError, match="--to"):
            convert(coco, tmp_path / name)
    (tmp_path / "ours").mkdir()
    assert "exists already" in refused(coco, tmp_path)


# Other formats


def test_labelme(tmp_path: Path) -> None:
    folder = annotators.labelme(tmp_path / "me", annotators.rectangles(), "mask")
    path = folder / "json" / "street_02.json"
    good = path.read_text()

    def of(**fields: Any) -> str:
        path.write_text(good)
        changed(path, lambda content: content["shapes"][0].update(fields))
        text = refused(folder, tmp_path)
        assert "street_02.json" in text
        return text

    assert "shape 1 ('road')" in of(shape_type="blob") and "'blob'" in of(shape_type="blob")
    assert (
        "not a PNG" in of(mask="!!")
        and "not a PNG" in of(mask="AAAA")
        and "not a PNG" in of(mask=None)
    )
    assert "corners say" in of(points=[[0, 0], [1, 1]])
    assert "3 points, not 2" in of(points=[[0, 0]] * 3)
    assert "points.0.0" in of(points=[[NAN, 0], [1, 1]])
    assert "label" in of(label=None)
    path.write_text(good.replace("..\\\\photos", "..\\\\..\\\\.."))
    assert "leads out of" in refused(folder, tmp_path)
    path.write_text(good.replace("street_02.png", "street_99.png"))
    assert "street_99.png" in refused(folder, tmp_path)
    path.write_text(good.replace("..\\\\photos", "C:\\\\photos"))
    assert "is of another machine; name the folder" in refused(folder, tmp_path)
    path.write_text(good.replace('"imageHeight": 42', '"imageHeight": 43'))
    assert "54x43" in refused(folder, tmp_path)


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><annotations>&i;</annotations>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'


def test_cvat(tmp_path: Path) -> None:
    path = annotators.cvat(tmp_path / "cvat", annotators.rectangles(), "mask")
    good = path.read_text()

    def of(old: str, new: str) -> str:
        assert old in good
        path.write_text(good.replace(old, new, 1))
        text = refused(path, tmp_path)
        assert "annotations.xml" in text
        return text

    assert "'bus'" in of('mask label="car"', 'mask label="bus"')
    assert "two categories" in of("<name>car</name>", "<name>road</name>")
    assert "name" in of("<name>car</name>", "")
    assert "does not lie within" in of('left="', 'left="9')
    assert "pixels, not" in of('rle="0, ', 'rle="1, ')
    assert "rle" in of('rle="0, ', 'rle="x, ')
    assert "z_order" in of('z_order="2"', 'z_order="x"')
    assert "width" in of('width="56"', 'width="0"')
    assert "56x40" in of('width="56"', 'width="1000000000"')
    assert "leads out of" in of("street_02.png", "../../../x.png")
    assert "video" in of("<image", "<track/><image")
    for content in (BOMB, OUTSIDE, "", "<annotations>", "<a/>", "<annotations/>"):
        path.write_text(content)
        assert "annotations.xml" in refused(path, tmp_path, form="cvat")
    path.write_text("<a>" * 200_000)
    assert "annotations.xml" in refused(path, tmp_path)


def test_yolo(tmp_path: Path) -> None:
    path = annotators.yolo(tmp_path / "yolo", annotators.rectangles(), SPLITS)
    label = path.parent / "train" / "labels" / "street_02.txt"
    good, described = label.read_text(), path.read_text()

    def of(line: str) -> str:
        label.write_text(f"{good}{line}\n")
        text = refused(path, tmp_path)
        assert "street_02.txt: line 5" in text
        return text

    assert "class '3'" in of("3 0 0 1 0 1 1")
    assert "class '-1'" in of("-1 0 0 1 0 1 1") and "class 'nan'" in of("nan 0 0 1 0 1 1")
    assert "a box, not a polygon" in of("0 0.5 0.5 0.2 0.2")
    assert "no polygon" in of("0 0 0 1 0 1 1 1") and "no polygon" in of("0 0 0 1")
    assert "not between 0 and 1" in of("0 10 10 20 10 20 20") and "not between 0 and 1" in of(
        "0 0 0 nan 0 1 1"
    )
    assert "more than numbers" in of("0 a b c d e f")
    label.write_text(good)

    (label.parent / "street_99.txt").write_text(good)
    assert "street_99.txt has no image" in refused(path, tmp_path)
    (label.parent / "street_99.txt").unlink()

    def described_as(old: str, new: str) -> str:
        assert old in described
        path.write_text(described.replace(old, new))
        text = refused(path, tmp_path)
        assert "data.yaml" in text
        return text

    assert "leads out of" in described_as("../val/images", "../../val/images")
    assert "leads out of" in described_as("../val/images", "/etc")
    assert "missing" in described_as("../val/images", "nowhere")
    assert "two categories" in described_as("- car", "- road")
    assert "names" in described_as("- car", "- [car]")
    assert "twice" in described_as("nc: 3", "names: []")
    assert "nc says 4 classes, but names lists 3" in described_as("nc: 3", "nc: 4")
    path.write_text(
        "nc: 3\n"
        + "".join(
            f"{line}\n"
            for line in described.splitlines()
            if line.startswith(("train", "val", "test"))
        )
    )
    assert "names is missing; write the classes" in refused(path, tmp_path)
    path.write_text(described)
    for split in SPLITS:
        (path.parent / split / "labels").rename(path.parent / split / "annotations")
    assert "no image has a label, such as" in refused(path, tmp_path)
    for split in SPLITS:
        (path.parent / split / "annotations").rename(path.parent / split / "labels")
    (path.parent / "empty").mkdir()
    path.write_text(described.replace("../val/images", "empty"))
    assert "no images in" in refused(path, tmp_path)
    (path.parent / "list.txt").write_text("../../../etc/passwd\n")
    path.write_text(described.replace("../val/images", "list.txt"))
    assert "list.txt" in refused(path, tmp_path)


def test_label_studio(tmp_path: Path) -> None:
    path = annotators.label_studio(tmp_path / "studio", annotators.rectangles(), "brushlabels")
    good = json.loads(path.read_text())

    def of(change: Callable[[Any], Any]) -> str:
        path.write_text(json.dumps(good))
        text = refused(changed(path, lambda tasks: change(tasks[2])), tmp_path)
        assert "project-1.json: task 3" in text, text
        return text

    def region(**fields: Any) -> str:
        return of(lambda task: task["annotations"][0]["result"][0].update(fields))

    def value(**fields: Any) -> str:
        return of(lambda task: task["annotations"][0]["result"][0]["value"].update(fields))

    packed = good[2]["annotations"][0]["result"][0]["value"]["rle"]
    assert "region 1" in value(rle=packed[:10]) and "cut off" in value(rle=packed[:10])
    assert "pixels, not 54x42" in value(rle=[255] * 40)
    assert "cut off" in value(rle=[])
    assert "damaged" in value(rle=[*packed[:6], *[255] * 100])
    assert "rle.0" in value(rle=[256]) and "rle.0" in value(rle=["a"])
    assert "exactly one label" in value(brushlabels=["car", "road"])
    assert "exactly one label" in value(brushlabels="car")
    assert "90 degrees" in region(image_rotation=90)
    assert "no area" in region(value={"brushlabels": ["car"]})
    assert "different sizes" in region(original_width=10**9)
    assert "original_width" in region(original_width=0)
    assert "street_77.png" in of(lambda task: task.update(data={"image": "/a/street_77.png"}))
    assert "`image`" in of(lambda task: task.update(data={}))
    assert "not the address" in of(lambda task: task.update(data={"image": "http://[x/a.png"}))
    path.write_text(json.dumps([{"image": "a.png", "id": 1}]))
    assert "JSON-MIN" in refused(path, tmp_path, form="label_studio")


def test_voc(tmp_path: Path) -> None:
    path = annotators.voc(tmp_path / "voc", annotators.rectangles(), "palette", SPLITS)
    mask, names = path / "SegmentationClass" / "street_02.png", path / "class_names.txt"
    good, content = mask.read_bytes(), names.read_text()

    def of(pixels: np.ndarray) -> str:
        Image.fromarray(pixels).save(mask)
        text = refused(path, tmp_path)
        assert "street_02.png" in text
        return text

    assert "value 9" in of(np.full((42, 54), 9, np.uint8))
    assert "54x41" in of(np.zeros((41, 54), np.uint8))
    assert "colours" in of(np.zeros((42, 54, 3), np.uint8))
    assert "mode I;16" in of(np.zeros((42, 54), np.uint16))
    for damaged in (b"", good[:40], good[:-30], header(1, 10**9)):
        mask.write_bytes(damaged)
        assert "street_02.png" in refused(path, tmp_path)
    mask.unlink()
    assert "'street_02' is missing" in refused(path, tmp_path)
    mask.write_bytes(good)
    names.unlink()
    assert "--classes" in refused(path, tmp_path)
    for line in (
        "road",
        "road:1,2::",
        "road:256,0,0::",
        "a:0,0,0::\nb:0,0,0::",
        "road:" + "9" * 5000,
    ):
        (path / "labelmap.txt").write_text(line)
        assert "labelmap.txt" in refused(path, tmp_path)
    (path / "labelmap.txt").unlink()
    names.write_text(content)
    listed = path / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_text("../../../etc/passwd\n")
    assert "passwd" in refused(path, tmp_path)
    listed.unlink()
    assert "no train split" in refused(path, tmp_path)
    (path / "JPEGImages" / "street_05.png").unlink()
    assert "has no image" in refused(path, tmp_path)


def test_geotiff(tmp_path: Path) -> None:
    path = annotators.geotiff(
        tmp_path / "tiff", annotators.rectangles(), "uint8", (0, 1, 2, 3, 255)
    )
    mask, names = path / "labels" / "street_02.tif", dict(enumerate("abcd"))
    good = mask.read_bytes()
    assert "values" in refused(path, tmp_path) and "0, 1, 2, 3" in refused(path, tmp_path)
    assert "value 3" in refused(path, tmp_path, names=dict(enumerate("abc")))

    def of(bands: np.ndarray, **options: Any) -> str:
        annotators.raster(mask, bands, **options)
        text = refused(path, tmp_path, names=names)
        assert "street_02.tif" in text
        return text

    assert "3 bands" in of(np.zeros((3, 42, 54), np.uint8))
    assert "54x41" in of(np.zeros((1, 41, 54), np.uint8))
    assert "fractions" in of(np.full((1, 42, 54), 0.5, np.float32))
    assert "complex64" in of(np.zeros((1, 42, 54), np.complex64))
    assert "a different area" in of(np.zeros((1, 42, 54), np.uint8), left=500_001)
    for damaged in (b"", b"II*\0", good[:60], good[:-1000]):
        mask.write_bytes(damaged)
        assert "street_02.tif" in refused(path, tmp_path, names=names)
    mask.unlink()
    assert "has no mask" in refused(path, tmp_path, names=names)
    mask.write_bytes(good)
    (path / "images" / "street_02.tif").unlink()
    assert "has no image" in refused(path, tmp_path, names=names)
