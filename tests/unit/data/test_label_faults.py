"""What an audit says of labels of a user's own that do not fit: each for what it is."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from rich.console import Console

from benchmark.core.errors import DataError
from benchmark.data.audit.audit import audit, render
from benchmark.data.base import LabelFault, read_example
from benchmark.data.cache import open_split
from benchmark.data.custom.description import Description
from benchmark.data.custom.folder import ImageFolder
from benchmark.data.pixels import blended

pytestmark = pytest.mark.no_torch

COLOURS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)


def classes_of(number):
    label = np.zeros((60, 90), np.uint8)
    label[6 : 24 + number, 9:27] = 1
    label[36:54, 45 : 60 + number] = 2
    return label


def saved(folder, number, image=None, label=None, **options):
    pixels = np.random.default_rng(number).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    label = label or Image.fromarray(COLOURS[classes_of(number)])
    for kind, own in (("images", image or Image.fromarray(pixels)), ("labels", label)):
        (folder / kind).mkdir(exist_ok=True)
        own.save(folder / kind / f"p{number}.png", **(options if kind == "images" else {}))


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        saved(tmp_path, number)
    return tmp_path


def opened(folder, **fields):
    classes = {f"c{k}": "#{:02X}{:02X}{:02X}".format(*colour) for k, colour in enumerate(COLOURS)}
    said = {"name": "own", "labels": "colour", "classes": classes, "splits": [0.5, 0.25, 0.25]}
    attributes = ImageFolder.attributes(Description.model_validate(said | fields), folder)
    return type("Own", (ImageFolder,), attributes | {"name": "own"})()


def label_of(folder, number):
    return Image.open(folder / "labels" / f"p{number}.png")


def told(folder, **fields):
    return told_of(opened(folder, **fields))


def told_of(own):
    found = [finding for finding in audit(own).findings if finding.severity == "serious"]
    assert all("\n" not in finding.what + finding.fix for finding in found)
    return found


def test_every_kind_of_fault_is_listed_at_once_with_its_first_names(folder):
    for number in range(4):
        (folder / "labels" / f"p{number}.png").unlink()
    (folder / "images" / "p4.png").unlink()
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(folder / "images" / "p5.jpg")
    (folder / "labels" / "p6.png").write_bytes(b"no image")
    (folder / "labels" / "p7.png").write_bytes(b"no image")
    label_of(folder, 8).save(folder / "labels" / "p8.png", "JPEG")
    label_of(folder, 9).resize((45, 30), Image.Resampling.NEAREST).save(folder / "labels/p9.png")
    found = [finding.what for finding in told(folder)]
    images, labels = folder / "images", folder / "labels"
    assert found == [
        f"files of the same name (1): {images / 'p5.jpg'} and {images / 'p5.png'}",
        f"images without a label (4): {images / 'p0.png'}; {images / 'p1.png'}; "
        f"{images / 'p2.png'}; and 1 more",
        f"labels without an image (1): {labels / 'p4.png'}",
        "labels whose size differs from their image's (1): "
        f"{labels / 'p9.png'} (the label is 45x30 px but its image is 90x60)",
        *(
            what
            for what in found[4:]
            if what.startswith("examples that cannot be read: a file is truncated or damaged (2)")
            or what.startswith("examples that cannot be read: a file is compressed as JPEG")
        ),
    ]
    assert len(found) == 6
    with pytest.raises(DataError) as info:
        open_split(opened(folder), "train")
    assert all(what in str(info.value) for what in found[:3]) and "\n" not in str(info.value)


def test_a_shrunk_and_blended_label_is_told_as_that(folder):
    small = label_of(folder, 3).resize((47, 31), Image.Resampling.BICUBIC)
    small.save(folder / "labels" / "p3.png")
    (finding,) = told(folder)
    assert "47x31 px but its image is 90x60, and its edges are blended" in finding.what
    assert "colour" not in finding.what and "nearest-neighbour" in finding.fix


def test_a_blended_label_of_the_right_size(folder):
    label_of(folder, 3).rotate(8, Image.Resampling.BICUBIC).save(folder / "labels" / "p3.png")
    (finding,) = told(folder)
    assert finding.what.startswith("labels with blended edges") and "p3.png" in finding.what


def test_an_unknown_colour_is_no_blend(folder):
    changed = COLOURS[classes_of(3)].copy()
    changed[0, :20] = (1, 2, 3)
    Image.fromarray(changed).save(folder / "labels" / "p3.png")
    (finding,) = told(folder)
    assert finding.what.startswith("labels with values or colours that are no class (1)")
    assert "#010203" in finding.what


def test_a_label_on_the_picture_as_it_was_stored(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    saved(folder, 3, exif=exif)
    (finding,) = told(folder)
    assert (
        "90x60 px but its image is 60x90, which its EXIF orientation 6 has turned" in finding.what
    )
    assert "turn the label, or remove the orientation" in finding.fix
    # Drawn on the upright picture it fits.
    turned = label_of(folder, 3).transpose(Image.Transpose.ROTATE_270)
    saved(folder, 3, label=turned, exif=exif)
    assert not told(folder)


def test_depths_that_differ_are_told(folder):
    deep = (np.asarray(Image.open(folder / "images" / "p3.png"))[..., 0].astype(np.uint16)) * 257
    Image.fromarray(deep).save(folder / "images" / "p3.png")
    found = [f.what for f in audit(opened(folder)).findings if f.severity == "warning"]
    assert f"images of different depths: 11 of 8 bits, 1 of 16 bits, such as {folder}" in found[0]


def test_many_classes_are_no_blend():
    random = np.random.default_rng(0)
    label = np.kron(random.integers(0, 150, (6, 9)), np.ones((10, 10))).astype(np.uint8)
    assert not blended(label, np.zeros(label.shape, bool))
    photograph = random.integers(0, 256, (60, 90, 3)).astype(np.uint8)
    assert not blended(photograph, np.ones((60, 90), bool))


def test_a_label_fault_travels_between_processes():
    import pickle

    fault = LabelFault("size", "a.png", "it is small", "restore it")
    again = pickle.loads(pickle.dumps(fault))
    assert (again.kind, str(again)) == ("size", "a.png: it is small; restore it")


def test_reading_says_the_same(folder):
    label_of(folder, 3).resize((45, 30), Image.Resampling.NEAREST).save(folder / "labels/p3.png")
    own = opened(folder)
    (id,) = (id for split in ("train", "val", "test") for id in own.ids(split) if id.endswith("p3"))
    with pytest.raises(DataError, match="the label is 45x30 px but its image is 90x60; restore"):
        read_example(own, id)


def smoothed(number):
    """Masks of 0 and 255 with grey edges."""
    mask = Image.fromarray((classes_of(number) > 0).astype(np.uint8) * 255)
    return mask.filter(ImageFilter.GaussianBlur(1))


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_threshold_reads_masks_with_smoothed_edges(folder, mode):
    for number in range(12):
        saved(folder, number, label=smoothed(number).convert(mode))
    two = {"classes": ["ground", "thing"], "labels": "index"}
    own = opened(folder, **two, threshold=128)
    for number in range(12):
        read = own.read(f"p{number}")[1]
        expected = np.asarray(smoothed(number).convert(mode)) * (255 if mode == "1" else 1)
        expected = expected if expected.ndim == 2 else expected[..., 0]
        np.testing.assert_array_equal(read, expected >= 128)
    assert not told(folder, **two, threshold=128)
    assert own.version != opened(folder, **two, threshold=100).version


def test_smoothed_masks_are_told_of_the_threshold(folder):
    for number in range(12):
        saved(folder, number, label=smoothed(number))
    classes = ["ground", "thing"]
    said = "or write `threshold: 128` in the YAML file: pixels from 128 on are then 'thing'"
    assert any(said in finding.fix for finding in told(folder, classes=classes, labels="index"))
    own = opened(folder, classes={"ground": 0, "thing": 255}, labels="index")
    with pytest.raises(LabelFault, match=r"`threshold: 128` in .* in place of the values of the"):
        own.read("p0")
    saved(folder, 2, label=Image.fromarray(classes_of(2)))  # a third class, and no smooth edge
    with pytest.raises(LabelFault) as raised:
        opened(folder, classes=classes, labels="index").read("p2")
    assert "label value 2 is out of range" in str(raised.value)
    assert "threshold" not in str(raised.value)
    three = opened(folder, classes=["a", "b", "c"], labels="index")
    with pytest.raises(LabelFault) as raised:
        three.read("p0")
    assert "threshold" not in str(raised.value)
    with pytest.raises(DataError, match="has colours, and `threshold` is for grey values"):
        saved(folder, 1)
        opened(folder, classes=classes, labels="index", threshold=128).read("p1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": ["a", "b", "c"]}, "there are 3 classes; it is for two"),
        ({"void": [255]}, "threshold and void contradict"),
        ({"offset": 1}, "threshold and offset contradict"),
        ({"classes": {"a": 0, "b": 255}}, "threshold and values of `classes` contradict"),
        ({"labels": {0: "a", 255: "b"}}, "threshold and values of `labels` contradict"),
        ({"threshold": 0}, "threshold"),
    ],
)
def test_a_threshold_beside_other_values_is_refused(fields, words):
    said = {"name": "own", "classes": ["a", "b"], "threshold": 128} | fields
    with pytest.raises(ValueError, match=words):
        Description.model_validate(said)


def grey(folder, *values, **fields):
    """The set with grey values in place of its colours."""
    for path in (folder / "labels").iterdir():
        number = int(path.stem.removeprefix("p"))
        Image.fromarray(np.array(values, np.uint8)[classes_of(number)]).save(path)
    return opened(folder, **{"labels": "index"} | fields)


def doubts(own):
    found = [f for f in audit(own).findings if f.what.startswith("255 counts as void")]
    assert all(f.severity == "warning" for f in found)
    return found


@pytest.mark.parametrize(
    ("values", "labels"), [((0, 1, 255), "index"), ((0, 128, 255), {0: "a", 128: "b"})]
)
def test_much_void_that_nobody_named_is_doubted(folder, values, labels):
    own = grey(folder, *values, classes=["a", "b"], labels=labels)
    (finding,) = doubts(own)
    pixels = [classes_of(number) == 2 for number in range(12)]
    share = f"{100 * np.mean(pixels):.1f} %"
    assert finding.what == f"255 counts as void: {share} of the pixels, in 12 of 12 images"
    assert f"`labels: {{0: a, {values[1]}: b, 255: NAME}}`" in finding.fix


def test_255_in_place_of_an_absent_class_is_told_once(folder):
    own = grey(folder, 0, 1, 255, classes=["a", "b", "c"])
    assert "if it is 'c', write `labels: {0: a, 1: b, 255: c}`" in told_of(own)[0].fix
    assert not doubts(own)


def test_void_that_is_named_or_rare_is_not_doubted(folder):
    two = {"classes": ["a", "b"]}
    assert not doubts(grey(folder, 0, 1, 255, void=[255], **two))
    assert not doubts(grey(folder, 0, 1, 255, ignore=[255], **two))
    assert not doubts(grey(folder, 0, 1, 2, classes=["a", "b", "c"]))
    own = grey(folder, 0, 1, 255, **two)
    for number in range(6):  # then half of the images hold it
        label = np.minimum(classes_of(number), 1)
        Image.fromarray(label).save(folder / "labels" / f"p{number}.png")
    assert not doubts(own)
    own = grey(folder, 0, 1, 1, **two)
    for number in range(12):  # in every image, but little
        label = np.minimum(classes_of(number), 1)
        label[0, :50] = 255
        Image.fromarray(label).save(folder / "labels" / f"p{number}.png")
    assert not doubts(own)


def test_the_names_of_label_files_are_kept_in_what_is_to_be_written(folder):
    grey(folder, 0, 128, 255, classes=["a", "b"], labels={0: "a", 128: "b"})
    for path in (folder / "labels").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    values = {"files": "{stem}_mask.png", "values": {0: "a", 128: "b"}}
    own = opened(folder, classes=["a", "b"], labels=values)
    (finding,) = doubts(own)
    assert "`labels: {files: '{stem}_mask.png', values: {0: a, 128: b, 255: NAME}}`" in finding.fix


def printed(own):
    console = Console(file=io.StringIO(), width=120)
    console.print(render(audit(own)))
    return console.file.getvalue()


def test_shares_are_of_labelled_pixels_and_void_is_of_all(folder):
    text = printed(grey(folder, 0, 1, 255, classes=["a", "b"]))
    assert "share of the labelled pixels" in text and "void (of all)" in text


def test_without_a_readable_label_there_is_no_table_of_zeros(folder):
    text = printed(grey(folder, 0, 128, 255, classes=["a", "b", "c"]))
    assert "labels with values or colours that are no class (12)" in text
    assert "`labels: {0: a, 128: b, 255: c}`" in text.replace("\n", " ")
    assert "share of" not in text and "width" not in text
