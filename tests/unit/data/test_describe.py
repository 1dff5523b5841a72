"""The description that is written from a look at a folder reads the folder as it is."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.data.audit.audit import audit
from benchmark.data.base import SPLITS
from benchmark.data.custom.describe import describe
from benchmark.data.custom.description import Description
from benchmark.data.custom.folder import ImageFolder
from benchmark.data.palette import colour_table, voc_colours

pytestmark = pytest.mark.no_torch


def classes_of(number):
    label = np.zeros((20, 30), np.uint8)
    label[2 : 8 + number % 3, 3:9] = 1
    label[12:18, 15 : 20 + number % 4] = 2
    return label


def photograph(number):
    return np.random.default_rng(number).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def write(folder, label_of, images="images/{}.png", labels="labels/{}.png", count=10):
    for number in range(count):
        for name, pixels in (
            (images, photograph(number)),
            (labels, label_of(classes_of(number))),
        ):
            path = folder / name.format(f"p{number:02}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def opened(folder):
    """The set, through the text of the YAML file, and what was guessed."""
    guess = describe(folder, folder.parent)
    said = Description.model_validate(yaml.safe_load(guess.text))
    home = folder.parent
    attributes = ImageFolder.attributes(said, home) | {"name": said.name}
    return type("Own", (ImageFolder,), attributes)(), guess


def check(folder, expected):
    own, guess = opened(folder)
    ids = [id for split in SPLITS for id in own.ids(split)]
    assert len(ids) == len(set(ids)) == 10
    for id in ids:
        number = int(id[-2:])
        image, label = own.read(id)
        np.testing.assert_array_equal(image, photograph(number))
        np.testing.assert_array_equal(label, expected(classes_of(number)))
    return own, guess


def test_a_flat_folder_gets_splits_by_a_fixed_seed(tmp_path):
    write(tmp_path / "my set!", lambda label: label)
    own, guess = check(tmp_path / "my set!", lambda label: label)
    assert own.name == "my_set" and own.classes == ("class_0", "class_1", "class_2")
    assert [len(own.ids(split)) for split in SPLITS] == [6, 1, 3]
    assert {own.ids(split)[0] for split in SPLITS} == {
        opened(tmp_path / "my set!")[0].ids(split)[0] for split in SPLITS
    }
    assert any("Splits are drawn" in note for note in guess.notes)


def test_a_rare_colour_may_be_pixels_that_nobody_labelled(tmp_path):
    folder = tmp_path / "tiles"
    paint = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [0, 0, 0]], np.uint8)

    def coloured(number):
        label = classes_of(number)
        label[0, :2] = 3 if number < 2 else 0
        return paint[label]

    write(folder, lambda label: label, count=30)
    for number in range(30):
        Image.fromarray(coloured(number)).save(folder / f"labels/p{number:02}.png")
    own, guess = opened(folder)
    (told,) = [note for note in guess.notes if "If nobody labelled these" in note]
    assert "class_3 (#000000) has 0.022 % of the pixels, in 2 of 30 labels, " in told
    assert 'write `void: ["#000000"]`' in told
    found = [one for one in audit(own).findings if "few pixels in few images" in one.what]
    assert [one.severity for one in found] == ["note"]
    assert "(1): class_3 (<0.1 % of pixels, 2 images)" in found[0].what
    # With what the note says.
    said = yaml.safe_load(guess.text)
    del said["classes"]["class_3"]
    attributes = ImageFolder.attributes(
        Description.model_validate(said | {"void": ["#000000"]}), tmp_path
    )
    void = type("Own", (ImageFolder,), attributes | {"name": "tiles"})()
    assert void.read("p00")[1][0, 0] == 255


def test_classes_without_colours_get_some_that_are_easy_to_tell_apart():
    def colours(*classes):
        said = Description.model_validate({"name": "own", "classes": list(classes)})
        return colour_table(ImageFolder.attributes(said, Path())["colours"], len(classes), "own")

    table = colours("background", *(f"class_{k}" for k in range(10))).astype(int)
    assert tuple(table[0]) == (0, 0, 0) and tuple(table[1]) == (0xE6, 0x19, 0x4B)
    shown = [*table[:11], table[255]]
    apart = [np.abs(a - b).sum() for k, a in enumerate(shown) for b in shown[:k]]
    voc = [*voc_colours().astype(int)[:11], table[255]]
    assert min(apart) > min(np.abs(a - b).sum() for k, a in enumerate(voc) for b in voc[:k])
    # More classes than such colours: those of PASCAL VOC.
    many = colours(*(f"class_{k}" for k in range(30)))
    np.testing.assert_array_equal(many[:30], voc_colours()[:30])
    assert colours("a", "b")[0].tolist() == [0xE6, 0x19, 0x4B]


def test_no_set_gets_the_name_of_one_that_comes_with_the_package(tmp_path):
    write(tmp_path / "streets", lambda label: label)
    assert opened(tmp_path / "streets")[0].name == "my_streets"


def test_names_of_folders_and_files_are_found(tmp_path):
    write(tmp_path / "a", lambda x: x, images="photos/{}.png", labels="gt/{}_mask.png")
    _, guess = check(tmp_path / "a", lambda x: x)
    assert (guess.fields["images"], guess.fields["masks"]) == ("photos", "gt")
    assert guess.fields["labels"] == "{stem}_mask.png"


def test_labels_beside_their_images(tmp_path):
    write(tmp_path / "a", lambda x: x, images="{}.png", labels="{}_label.png")
    check(tmp_path / "a", lambda x: x)


@pytest.mark.parametrize("white", [1, 255])
def test_two_values_are_background_and_foreground(tmp_path, white):
    write(tmp_path / "a", lambda x: ((x > 0) * white).astype(np.uint8))
    own, _ = check(tmp_path / "a", lambda x: (x > 0).astype(np.uint8))
    assert own.classes == ("background", "foreground")


def test_masks_of_one_bit(tmp_path):
    write(tmp_path / "a", lambda x: x > 0)
    check(tmp_path / "a", lambda x: (x > 0).astype(np.uint8))


def test_values_with_gaps_and_void(tmp_path):
    table = np.array([7, 21, 255], np.uint8)
    write(tmp_path / "a", lambda x: table[x])
    own, guess = check(tmp_path / "a", lambda x: np.array([0, 1, 255], np.uint8)[x])
    assert own.classes == ("class_7", "class_21")
    assert any("255 is taken as void" in note for note in guess.notes)


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 127, 255), (64, 160, 255)])
def test_evenly_spaced_grey_values_are_classes_white_too(tmp_path, values):
    table = np.array(values, np.uint8)
    write(tmp_path / "a", lambda x: table[x])
    own, guess = check(tmp_path / "a", lambda x: x)
    assert guess.fields["labels"] == {value: f"class_{value}" for value in values}
    assert own.classes == tuple(f"class_{value}" for value in values)
    assert any("255 is taken as a class" in note for note in guess.notes)


@pytest.mark.parametrize("colours", [False, True])
def test_names_of_classes_come_from_a_legend_beside_the_images(tmp_path, colours):
    table = np.array([[9, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    write(tmp_path / "a", lambda label: table[label] if colours else label)
    texts = ["9 0 0", "0 200 0", "0 0 200"] if colours else ["0", "1", "2"]
    lines = [f"{name}: {text}\n" for name, text in zip(("sky", "sea", "sun"), texts, strict=True)]
    (tmp_path / "a/legend.txt").write_text("".join(lines))
    own, guess = opened(tmp_path / "a")
    assert set(own.classes) == {"sky", "sea", "sun"}
    assert "Names of classes are from legend.txt." in guess.notes
    said = own.description.stored
    stored = ["#090000", "#00C800", "#0000C8"] if colours else [0, 1, 2]
    assert [own.classes[said[value]] for value in stored] == ["sky", "sea", "sun"]


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("place", [0, 2])
def test_what_the_legend_calls_unlabelled_is_void(tmp_path, colours, place):
    table = np.array([[9, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    write(tmp_path / "a", lambda label: table[label] if colours else label)
    texts = ["9 0 0", "0 200 0", "0 0 200"] if colours else ["0", "1", "2"]
    names = ["sky", "sea"]
    names.insert(place, "Unlabelled")
    lines = [f"{text}: {name}\n" for name, text in zip(names, texts, strict=True)]
    (tmp_path / "a/legend.txt").write_text("".join(lines))
    own, guess = opened(tmp_path / "a")
    assert set(own.classes) == {"sky", "sea"}
    stored = ["#090000", "#00C800", "#0000C8"] if colours else [0, 1, 2]
    assert guess.fields["void"] == [stored[place]]
    assert own.description.stored[stored[place]] == 255
    assert any(note.startswith("By its name, Unlabelled is taken as void") for note in guess.notes)
    assert "legend.txt" not in str(list(own.oddities()))


@pytest.mark.parametrize("colours", [False, True])
def test_what_a_legend_does_not_name_is_told(tmp_path, colours):
    table = np.array([[9, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    write(tmp_path / "a", lambda label: table[label] if colours else label)
    text = "9 0 0: sky\n0 200 0: sea\n" if colours else "0: sky\n1: sea\n"
    (tmp_path / "a/legend.txt").write_text(text)
    own, guess = opened(tmp_path / "a")
    assert {"sky", "sea"} < set(own.classes) and len(own.classes) == 3
    (note,) = (note for note in guess.notes if note.startswith("Not named there: "))
    says = (
        r"class_\d \(#0000C8\) has [\d.]+ % of the pixels, in \d+ of \d+ labels, most in labels/p\d"
    )
    assert re.search(says if colours else "label value 2", note), note
    assert "legend.txt" not in str(list(own.oddities()))


def test_strays_that_a_legend_does_not_name_are_ignored_however_many_values_they_have(tmp_path):
    table = np.array([0, 128, 255], np.uint8)
    write(tmp_path / "a", lambda label: table[label], count=140)
    path = tmp_path / "a/labels/p03.png"
    label = np.array(Image.open(path))
    label[0, :8] = [2, 3, 7, 9, 25, 42, 44, 45]
    Image.fromarray(label).save(path)
    with pytest.raises(DataError, match=r"few pixels, such as 2 \(1 pixel of p03.png\): edges"):
        opened(tmp_path / "a")
    (tmp_path / "a/key.txt").write_text("0 = background\n128 = cytoplasm\n255 = nucleus\n")
    own, guess = opened(tmp_path / "a")
    assert own.classes == ("background", "cytoplasm", "nucleus")
    assert guess.fields["ignore"] == [2, 3, 7, 9, 25, 42, 44, 45]


def test_of_two_classes_none_is_taken_as_void_by_its_name(tmp_path):
    write(tmp_path / "a", lambda label: label % 2)
    (tmp_path / "a/legend.txt").write_text("0: void\n1: crack\n")
    own, guess = opened(tmp_path / "a")
    assert own.classes == ("void", "crack") and "void" not in guess.fields


def test_stray_values_are_left_out_and_told(tmp_path):
    table = np.array([0, 128, 255], np.uint8)
    write(tmp_path / "a", lambda x: table[x], count=20)
    path = tmp_path / "a/labels/p03.png"
    label = np.array(Image.open(path))
    label[0, :2] = 37, 50
    Image.fromarray(label).save(path)
    own, guess = opened(tmp_path / "a")
    assert guess.fields["ignore"] == [37, 50]
    assert any("37 (1 pixel), 50 (1 pixel) look stray" in note for note in guess.notes)
    assert guess.fields["labels"] == {0: "class_0", 128: "class_128", 255: "class_255"}
    _, read = own.read(next(id for split in SPLITS for id in own.ids(split) if id.endswith("03")))
    assert read[0, :3].tolist() == [255, 255, 0]
    # Without the field, one line names both.
    own = opened(tmp_path / "a")[0]
    said = own.description.model_copy(update={"ignore": ()})
    attributes = ImageFolder.attributes(said, tmp_path) | {"name": said.name}
    text = str(audit(type("Own", (ImageFolder,), attributes)()).findings)
    assert "label values 37, 50 belong to no class" in text and "`ignore: [37, 50]`" in text


def test_four_evenly_spaced_grey_values(tmp_path):
    def with_edge(label):
        return np.where(np.arange(30) > 25, 3, label).astype(np.uint8)

    write(tmp_path / "a", lambda x: (85 * with_edge(x)).astype(np.uint8))
    check(tmp_path / "a", with_edge)


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 100, 255), (0, 127, 254)])
def test_other_values_leave_255_void(tmp_path, values):
    table = np.array(values, np.uint8)
    write(tmp_path / "a", lambda x: table[x])
    _, guess = opened(tmp_path / "a")
    assert "class_255" not in guess.fields["classes"]
    assert not any("taken as a class" in note for note in guess.notes)


def test_colours(tmp_path):
    table = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
    write(tmp_path / "a", lambda x: table[x])
    own, _ = opened(tmp_path / "a")
    order = [tuple(int(c[k : k + 2], 16) for k in (1, 3, 5)) for c in own.colours]
    ranks = [order.index(tuple(colour)) for colour in table.tolist()]
    check(tmp_path / "a", lambda x: np.array(ranks, np.uint8)[x])


def test_split_folders_are_kept(tmp_path):
    for split, first in (("train", "a"), ("test", "b")):
        write(
            tmp_path / "s",
            lambda x: x,
            images=f"images/{split}/{first}{{}}.png",
            labels=f"labels/{split}/{first}{{}}.png",
        )
    own, guess = opened(tmp_path / "s")
    assert "splits" not in guess.fields
    assert [len(own.ids(split)) for split in SPLITS] == [9, 1, 10]


def test_what_is_no_set_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere is missing"):
        describe(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        describe(tmp_path / "empty", tmp_path)
    write(tmp_path / "bare", lambda x: x, labels="elsewhere/{}.png")
    for path in (tmp_path / "bare" / "elsewhere").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no image has a label of its name \(10 in images\)"):
        describe(tmp_path / "bare", tmp_path)
    write(tmp_path / "lossy", lambda x: x * 90, labels="labels/{}.jpg")
    with pytest.raises(UserError, match="JPEG is lossy and changes the values of labels"):
        describe(tmp_path / "lossy", tmp_path)
    write(tmp_path / "deep", lambda x: x.astype(np.uint16) * 300)
    with pytest.raises(DataError, match="values up to 600, which are no classes"):
        describe(tmp_path / "deep", tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ("images/{}.png", "labels/{}.jpg", "as images/p00.png and labels/p00.jpg; JPEG is lossy"),
        (
            "images/{}.jpg",
            "masks/x{}.gif",
            r"\(10 in images\); labels may be .*: convert the 10 .gif",
        ),
        ("images/i{}.jpg", "masks/m{}.png", "as images/ip00.jpg and masks/mp00.png; the name of a"),
        (
            "images/a/c/{}.jpg",
            "masks/b/{}.png",
            "images/a/c/p00.jpg and masks/b/p00.png; folders inside",
        ),
        (
            "images/{}.jpg",
            "masks/P{}.png",
            "as images/pp00.jpg and masks/Pp00.png; upper and lower",
        ),
        ("a/{}_rgb.jpg", "b/{}_seg.png", "as a/p00_rgb.jpg and b/p00_seg.png; here names end in"),
    ],
)
def test_names_that_make_no_pair_are_told_by_example(tmp_path, images, labels, words):
    images = images.replace("/{}", "/p{}") if "P{}" in labels else images
    write(tmp_path / "s", lambda x: x * 90, images, labels)
    with pytest.raises(UserError, match=f"no image has a label of its name .*{words}") as raised:
        describe(tmp_path / "s", tmp_path)
    assert "\n" not in str(raised.value)


def test_photographs_in_place_of_labels_are_told(tmp_path):
    write(tmp_path / "s", lambda x: photograph(5)[..., 0])
    with pytest.raises(UserError, match=r"labels/p00.png; the second looks like a photograph \(2"):
        describe(tmp_path / "s", tmp_path)


def test_few_images_and_bad_shares_are_one_line(tmp_path):
    write(tmp_path / "few", lambda x: x, count=2)
    with pytest.raises(DataError, match="2 images are too few for a val split"):
        opened(tmp_path / "few")
    with pytest.raises(ValueError, match="not shares of train, val and test"):
        Description.model_validate({"name": "a", "classes": ["b"], "splits": [0.5, 0.5, 0.5]})
    with pytest.raises(ValueError, match="not a folder below"):
        Description.model_validate({"name": "a", "classes": ["b"], "images": "../x"})


def smooth(label, largest=255):
    mask = Image.fromarray(((label > 0) * largest).astype(np.uint8))
    return np.asarray(mask.rotate(7, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("channels", [1, 3])
def test_two_classes_with_smoothed_edges_get_a_threshold(tmp_path, channels):
    def saved(label):
        mask = smooth(label)
        return mask if channels == 1 else np.stack([mask] * 3, axis=-1)

    write(tmp_path / "a", saved)
    own, guess = check(tmp_path / "a", lambda x: (smooth(x) >= 128).astype(np.uint8))
    assert guess.fields["threshold"] == 128 and own.classes == ("background", "foreground")
    assert any("from 128 on they are foreground" in note for note in guess.notes)


def test_other_smoothed_labels_are_refused(tmp_path):
    # Values of few pixels, but none near white: nothing says that they are edges.
    def specks(label):
        label = (label > 0).astype(np.uint8)
        label[0, :15] = np.arange(2, 17)
        return label

    write(tmp_path / "a", specks)
    with pytest.raises(DataError, match="edges look smoothed; export labels without"):
        describe(tmp_path / "a", tmp_path)


def test_of_several_folders_that_named_as_images_is_taken_else_none(tmp_path):
    write(tmp_path / "a", lambda x: x)
    write(tmp_path / "a", lambda x: x, images="depth/{}.png")
    guess = describe(tmp_path / "a", tmp_path)
    assert "images" not in guess.fields and "masks" not in guess.fields
    assert any("Images are in images, labels in labels" in note for note in guess.notes)
    write(tmp_path / "a", lambda x: x, labels="masks/{}.png")
    with pytest.raises(UserError, match="several folders fit each other"):
        describe(tmp_path / "a", tmp_path)


def test_folders_of_sites_are_no_images_and_labels_of_each_other(tmp_path):
    for site in ("a", "b"):
        write(tmp_path / "s", lambda x: x, f"{site}/images/{{}}.jpg", f"{site}/labels/{{}}.png")
    with pytest.raises(UserError, match="several folders fit each other"):
        describe(tmp_path / "s", tmp_path)


def test_splits_of_other_names_are_not_mixed(tmp_path):
    for split in ("training", "testing"):
        write(tmp_path / "s", lambda x: x, f"images/{split}/{{}}.png", f"labels/{split}/{{}}.png")
    with pytest.raises(UserError, match=r"divided into training, testing; name the folders"):
        describe(tmp_path / "s", tmp_path)
    said = {"name": "s", "folder": "s", "classes": ["a", "b", "c"], "splits": [0.6, 0.1, 0.3]}
    description = Description.model_validate(said)
    attributes = ImageFolder.attributes(description, tmp_path) | {"name": "s"}
    with pytest.raises(DataError, match="which `splits` would mix"):
        type("Own", (ImageFolder,), attributes)()


def test_a_pipe_is_refused_and_waited_for_by_nobody(tmp_path):
    write(tmp_path / "a", lambda x: x)
    path = tmp_path / "a" / "labels" / "p03.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"p03\.png is not a regular file"):
        describe(tmp_path / "a", tmp_path)


def test_split_folders_outside(tmp_path):
    for split, first in (("train", "a"), ("val", "b"), ("test", "c")):
        write(tmp_path / "s", lambda x: x, f"{split}/images/{first}{{}}.png",
              f"{split}/masks/{first}{{}}.png")  # fmt: skip
    own, guess = opened(tmp_path / "s")
    assert (guess.fields["images"], guess.fields["masks"]) == ("{split}/images", "{split}/masks")
    assert [len(own.ids(split)) for split in SPLITS] == [10, 10, 10]
    assert own.ids("test")[0] == "test/cp00"
    image, label = own.read("test/cp03")
    np.testing.assert_array_equal(image, photograph(3))
    np.testing.assert_array_equal(label, classes_of(3))


def test_labels_in_an_inner_folder(tmp_path):
    write(tmp_path / "pets", lambda x: x, labels="annotations/trimaps/{}.png")
    (tmp_path / "pets" / "annotations" / "xmls").mkdir()
    _, guess = check(tmp_path / "pets", lambda x: x)
    assert guess.fields["masks"] == "annotations/trimaps"
    write(tmp_path / "deep", lambda x: x, "data/images/{}.png", "data/masks/{}.png")
    _, guess = check(tmp_path / "deep", lambda x: x)
    assert (guess.fields["images"], guess.fields["masks"]) == ("data/images", "data/masks")


def test_names_that_no_label_holds_are_told_by_their_ends(tmp_path):
    write(tmp_path / "city", lambda x: x, "leftImg8bit/{}_leftImg8bit.png",
          "gtFine/{}_gtFine_labelIds.png")  # fmt: skip
    with pytest.raises(UserError, match="end in _leftImg8bit or _gtFine_labelIds: remove these"):
        describe(tmp_path / "city", tmp_path)


def test_predictions_beside_the_labels_are_not_taken(tmp_path):
    write(tmp_path / "a", lambda x: x, labels="labels/{}_gt.png")
    write(tmp_path / "a", lambda x: 2 - x, labels="labels/{}_pred.png")
    _, guess = check(tmp_path / "a", lambda x: x)
    assert guess.fields["labels"] == "{stem}_gt.png"
    write(tmp_path / "b", lambda x: x, labels="labels/{}_one.png")
    write(tmp_path / "b", lambda x: x, labels="labels/{}_two.png")
    with pytest.raises(UserError, match=r"labels may be \{stem\}_one\.png or \{stem\}_two\.png"):
        describe(tmp_path / "b", tmp_path)


def test_labels_of_mixed_suffixes_are_refused(tmp_path):
    write(tmp_path / "a", lambda x: x)
    for number in (1, 2, 3):
        path = tmp_path / "a" / "labels" / f"p{number:02}.png"
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    with pytest.raises(UserError, match=r"most labels are \.png, but there are 3 \.tif"):
        describe(tmp_path / "a", tmp_path)


def test_palettes_and_colours_are_read_as_colours(tmp_path):
    table = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
    write(tmp_path / "a", lambda x: table[x])
    for number in (2, 5):
        path = tmp_path / "a" / "labels" / f"p{number:02}.png"
        indexed = Image.fromarray(2 - classes_of(number))
        indexed.putpalette(table[::-1].ravel().tolist())
        indexed.save(path)
    own, _ = opened(tmp_path / "a")
    order = [tuple(int(c[k : k + 2], 16) for k in (1, 3, 5)) for c in own.colours]
    ranks = np.array([order.index(tuple(colour)) for colour in table.tolist()], np.uint8)
    check(tmp_path / "a", lambda x: ranks[x])
    Image.fromarray(classes_of(2)).save(tmp_path / "a" / "labels" / "p02.png")
    with pytest.raises(DataError, match=r"1 labels have one channel, such as .*p02\.png, and 8"):
        describe(tmp_path / "a", tmp_path)


def test_a_few_blended_labels_decide_no_classes(tmp_path):
    def colours(label):
        return np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)[label]

    write(tmp_path / "a", colours)
    path = tmp_path / "a" / "labels" / "p04.png"
    Image.fromarray(colours(classes_of(4))).rotate(7, Image.Resampling.BICUBIC).save(path)
    guess = describe(tmp_path / "a", tmp_path)
    assert len(guess.fields["classes"]) == 3
    (fault,) = guess.faults
    assert fault.startswith(f"labels with blended edges (1): {path}; export them again")


@pytest.mark.parametrize("suffix", ["bmp", "jpg"])
def test_labels_of_the_same_name_beside_their_images(tmp_path, suffix):
    write(tmp_path / "a", lambda x: x, "{}." + suffix, "{}.png")
    own, guess = opened(tmp_path / "a")
    assert (guess.fields["images"], guess.fields["masks"]) == (".", ".")
    ids = [id for split in SPLITS for id in own.ids(split)]
    assert len(ids) == 10
    for id in ids:
        np.testing.assert_array_equal(own.read(id)[1], classes_of(int(id[-2:])))


def test_labels_beside_their_images_in_many_folders(tmp_path):
    for site in "abc":
        write(tmp_path / "s", lambda x: x, f"{site}/im/{{}}.jpg", f"{site}/im/{{}}.png")
    own, _ = opened(tmp_path / "s")
    assert sum(len(own.ids(split)) for split in SPLITS) == 30


def test_hundreds_of_folders_are_one_line_unless_labels_are_beside_their_images(tmp_path):
    for k in range(120):
        write(tmp_path / "s", lambda x: x, f"p{k}/{{}}.jpg", f"p{k}/{{}}.png", count=1)
        write(tmp_path / "t", lambda x: x, f"p{k}/{{}}.jpg", f"q{k}/{{}}.png", count=1)
    own, _ = opened(tmp_path / "s")
    assert sum(len(own.ids(split)) for split in SPLITS) == 120
    with pytest.raises(UserError, match="no image has a label of its name"):
        describe(tmp_path / "t", tmp_path)


@pytest.mark.parametrize(("side", "seen"), [(1024, None), (1500, 512)])
def test_large_photographs_are_seen_smaller(tmp_path, side, seen):
    write(tmp_path / "set", lambda label: np.kron(label, np.ones((2, 2), np.uint8)), count=12)
    for number in range(8):  # some are small: the size of most photographs counts
        label = np.zeros((side, side + 8), np.uint8)
        label[: side // 2] = 1
        for kind in ("images", "labels"):
            Image.fromarray(label).save(tmp_path / "set" / kind / f"p{number:02}.png")
    guess = describe(tmp_path / "set", tmp_path)
    assert guess.fields.get("shorter_side") == seen
    assert any(f"{side} px; the network sees it as 512 px" in note for note in guess.notes) == (
        seen is not None
    )


def test_numbers_of_different_lengths_are_no_additions(tmp_path):
    for number in range(1, 23):
        for kind, pixels in (("images", photograph(number)), ("labels", classes_of(number))):
            (tmp_path / "s" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "s" / kind / f"p{number}.png")
    own, guess = opened(tmp_path / "s")
    assert "labels" not in guess.fields and sum(len(own.ids(split)) for split in SPLITS) == 22
