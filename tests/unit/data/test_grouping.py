"""Images that belong together stay on one side of every drawn split."""

import csv
import json
import os
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data.audit import twins
from benchmark.data.audit.audit import audit, write_pairs
from benchmark.data.audit.near_duplicates import alike, look
from benchmark.data.base import SPLITS, carve
from benchmark.data.custom.describe import describe
from benchmark.data.custom.description import Description
from benchmark.data.custom.folder import ImageFolder
from benchmark.data.custom.grouping import draw, together

pytestmark = pytest.mark.no_torch

SHARES = (0.6, 0.1, 0.3)


def scene(seed, shift=0):
    """Random rectangles, moved by some pixels."""
    rng = np.random.default_rng(seed)
    image = np.full((72, 96, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(40):
        y, x = rng.integers(0, 64), rng.integers(0, 88)
        h, w = rng.integers(4, 20, 2)
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return np.roll(image, shift, axis=1)


def write(folder, scenes=12, shots=3, name="s{}_{}", inside=""):
    """A few shots of each scene, which differ by a shift."""
    label = np.zeros((72, 96), np.uint8)
    label[20:50, 30:60] = 1
    for number in range(scenes):
        for shot in range(shots):
            stem = name.format(f"{number:02}", shot, number=number * shots + shot)
            for kind, pixels in (("images", scene(number, shot)), ("labels", label)):
                path = folder / kind / inside / f"{stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)


def opened(folder, **fields):
    said = {"name": "own", "classes": ["a", "b"], "splits": list(SHARES)} | fields
    said = {name: value for name, value in said.items() if value is not None}
    attributes = ImageFolder.attributes(Description.model_validate(said), folder)
    return type("Own", (ImageFolder,), attributes | {"name": "own"})()


def scenes_across(own, scene_of=lambda id: id.split("/")[-1].split("_")[0]):
    """Scenes that are in several splits."""
    splits = {}
    for split in SPLITS:
        for id in own.ids(split):
            splits.setdefault(scene_of(id), set()).add(split)
    return [name for name, found in splits.items() if len(found) > 1]


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_drawn_whole_and_sizes_are_close(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, rng.integers(5, 30))
    groups = [[f"{k:02}-{n}" for n in range(size)] for k, size in enumerate(sizes)]
    parts = draw(groups, SHARES)
    assert parts == draw(groups, SHARES)
    for group in groups:
        assert sum(set(group) <= set(members) for members in parts.values()) == 1
    count = sum(sizes)
    for split, share in zip(SPLITS, SHARES, strict=True):
        assert parts[split]
        assert abs(len(parts[split]) - share * count) <= max(sizes)
    assert sorted(id for members in parts.values() for id in members) == sorted(
        id for group in groups for id in group
    )


def test_large_groups_leave_no_split_empty():
    parts = draw([list("abcdefgh"), list("ijklmnop"), list("qrstuvwx")], SHARES)
    assert [len(parts[split]) for split in SPLITS] == [8, 8, 8]


def test_single_images_are_drawn_as_without_groups():
    ids = [f"{k:03}" for k in range(57)]
    assert draw([[id] for id in ids], SHARES) == carve(ids, SHARES)


def test_links_are_followed():
    assert together("fedcba", [("a", "c"), ("c", "e"), ("f", "gone"), ("b", "gone")]) == [
        ["a", "c", "e"], ["b", "f"], ["d"]
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [{"groups": "^(s[0-9]+)_"}, {"near_duplicates": "together"}])
def test_scenes_stay_in_one_drawn_split(tmp_path, fields):
    write(tmp_path)
    assert scenes_across(opened(tmp_path))
    own = opened(tmp_path, **fields)
    assert not scenes_across(own)
    assert [len(own.ids(split)) for split in SPLITS] == [24, 3, 9]
    assert [own.ids(split) for split in SPLITS] == [
        opened(tmp_path, **fields).ids(split) for split in SPLITS
    ]
    assert own.version != opened(tmp_path).version


@pytest.mark.parametrize("fields", [{"groups": "^(s[0-9]+)_"}, {"near_duplicates": "together"}])
def test_scenes_stay_in_one_of_train_and_the_val_taken_from_it(tmp_path, fields):
    write(tmp_path, inside="train")
    write(tmp_path, scenes=2, inside="test", name="t{}_{}")
    assert scenes_across(opened(tmp_path, splits=None))
    own = opened(tmp_path, splits=None, **fields)
    assert not scenes_across(own) and 0 < len(own.ids("val")) <= 4
    write(tmp_path, scenes=2, inside="val", name="v{}_{}")
    (name,) = fields
    with pytest.raises(DataError, match=f"{name} would have no effect, because .* leave it out"):
        opened(tmp_path, splits=None, **fields)


def test_equal_images_stay_together_too(tmp_path):
    write(tmp_path, scenes=20, shots=1)
    for kind in ("images", "labels"):
        for k in range(6):
            pixels = (tmp_path / kind / "s03_0.png").read_bytes()
            (tmp_path / kind / f"s03_{k}.png").write_bytes(pixels)
    assert scenes_across(opened(tmp_path)) == ["s03"]
    assert not scenes_across(opened(tmp_path, near_duplicates="together"))


def test_groups_of_a_file(tmp_path):
    write(tmp_path, name="{number:03}")
    rows = [(f"{k:03}", f"s{k // 3}") for k in range(36)]
    lines = "".join(f"{stem},{group}\n" for stem, group in rows)
    (tmp_path / "g.csv").write_text(f"\ufeffstem,group\n{lines}", encoding="utf-8")
    own = opened(tmp_path, groups="g.csv")
    assert not scenes_across(own, lambda id: dict(rows)[id])
    for text, words in (
        ("stem,group\nscene/0,s1\n", r"g\.csv names scene/0, which is no image; write the path"),
        (f"stem,group\n{lines}000,s5\n", "puts 000 into two groups"),
        ("000,s1\n", "is no table of groups; write the line `stem,group`"),
        ("stem,group\n000\n", "is no table of groups"),
    ):
        (tmp_path / "g.csv").write_text(text)
        with pytest.raises(DataError, match=words):
            opened(tmp_path, groups="g.csv")
    (tmp_path / "g.csv").write_text("stem,group\n000,s1\n001,s1\n")
    sides = [{"000", "001"} & set(opened(tmp_path, groups="g.csv").ids(split)) for split in SPLITS]
    assert sorted(map(len, sides)) == [0, 0, 2]  # the others are each on their own
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        opened(tmp_path, groups="gone.csv")


def test_names_without_a_group_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match="6 of 36 images, such as s10_0, s10_1, s10_2, do not"):
        opened(tmp_path, groups="^(s0[0-9])_")
    with pytest.raises(DataError, match="36 images in 2 groups are too few for a val split"):
        opened(tmp_path, groups="^s([01])")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"groups": "^(a"}, "is no regular expression"),
        ({"groups": "^scene"}, "has 0 groups in parentheses; put one"),
        ({"groups": "(a)(b)"}, "has 2 groups in parentheses"),
        ({"near_duplicates": "apart"}, "together"),
        ({"groups": "(a)", "splits": None, "hub": {"path": "a/b", "splits": {"train": "a",
          "test": "b"}}}, "groups and near_duplicates are for folders"),
    ],
)  # fmt: skip
def test_wrong_fields_are_refused(tmp_path, fields, words):
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, **fields)


@pytest.mark.parametrize("cache", ["on", "none"])
def test_images_are_compared_once(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("BENCHMARK_CACHE", "none" if cache == "none" else str(tmp_path / "cache"))
    monkeypatch.setattr(twins, "_FOUND", {})
    looked = []
    monkeypatch.setattr(twins, "look", lambda image: looked.append(1) or look(image))
    write(tmp_path / "set")
    first = opened(tmp_path / "set", near_duplicates="together")
    assert len(looked) == 36
    twins._FOUND.clear()  # as in another process
    again = opened(tmp_path / "set", near_duplicates="together")
    assert len(looked) == (72 if cache == "none" else 36)
    assert first._ids == again._ids
    changed = tmp_path / "set" / "images" / "s00_0.png"
    Image.fromarray(scene(99)).save(changed)
    os.utime(changed, ns=(1, 1))
    looked.clear()
    assert "s00_0" not in sum(opened(tmp_path / "set").twins().links, ())
    assert len(looked) == 36


def test_a_damaged_cache_or_image_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "set", scenes=4)
    (tmp_path / "set" / "images" / "s00_0.png").write_bytes(b"no image")
    own = opened(tmp_path / "set")
    found = own.twins()
    assert "s00_0" not in sum(found.links, ()) and ("s01_0", "s01_1") in found.links
    (kept,) = (tmp_path / "cache").glob("twins-*.json")
    kept.write_text("[]")
    twins._FOUND.clear()
    assert own.twins() == found


def test_the_order_of_images_makes_no_difference():
    examples = [(f"{k}", bytes([k]), look(scene(k // 3, k % 3))) for k in range(36)]
    found = alike(examples)
    assert found == alike(examples[::-1])
    assert found.having_twin({"0", "1", "5"}, {"2", "8"}) == {"0", "1"}


def test_an_audit_names_the_field_and_lists_all_pairs(tmp_path):
    write(tmp_path)
    found = audit(opened(tmp_path))
    (across,) = [finding for finding in found.findings if "across splits" in finding.what]
    assert "write `near_duplicates: together` in the YAML file" in across.fix
    assert "`data audit --pairs FILE` lists all" in across.fix
    assert write_pairs(tmp_path / "pairs.csv", [found]) == len(found.pairs) >= 24
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["benchmark"] for row in rows} == {"own"}
    assert all(row["first"][:3] == row["second"][:3] for row in rows)
    assert all(0.6 < float(row["likeness"]) <= 1 for row in rows)
    mended = audit(opened(tmp_path, near_duplicates="together"))
    assert not [one for one in mended.findings if "across" in one.what and one.severity != "note"]


def test_describe_keeps_near_duplicates_together_by_name_or_by_look(tmp_path):
    def guessed(folder, **how):
        write(tmp_path / folder, **how)
        guess = describe(tmp_path / folder, tmp_path)
        return guess.fields, " ".join(guess.notes)

    fields, notes = guessed("named")
    assert fields["groups"] == "^(.+)[ _.-]" and "near_duplicates" not in fields
    assert "36 of 36 images are nearly the same as another one, such as s" in notes
    assert "guessed from the names" in notes
    fields, notes = guessed("numbered", name="{number:03}")
    assert fields["near_duplicates"] == "together" and "groups" not in fields
    assert "groups: " not in notes
    fields, notes = guessed("apart", shots=1)
    assert not {"groups", "near_duplicates"} & fields.keys()
    assert "No two images look nearly the same" in notes
    fields, notes = guessed("one", scenes=1, shots=20)
    assert not {"groups", "near_duplicates"} & fields.keys()
    assert "20 of them are linked, as frames of one video are" in notes


@pytest.mark.parametrize(
    ("name", "group", "scenes"),
    [
        ("seq{}_{:04}", "seq00", 8),
        ("patient-{}_left{}", "patient-00", 8),
        ("p{}/{}", "p00", 8),
        ("s{}_{}", "s00", 3),
    ],
)
def test_describe_says_that_names_tell_groups_and_writes_the_line(tmp_path, name, group, scenes):
    random = np.random.default_rng(0)
    for number in range(scenes):
        for shot in range(3):
            for kind in ("images", "labels"):
                path = tmp_path / "set" / kind / f"{name.format(f'{number:02}', shot)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 256 if kind == "images" else 2, (72, 96, 3))
                pixels = pixels if kind == "images" else pixels[..., 0]
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    guess = describe(tmp_path / "set", tmp_path)
    assert "groups" not in guess.fields  # it may be by accident
    told = f"The names seem to tell {scenes} groups of 3 images, such as {group}."
    assert told in " ".join(guess.notes)
    text = re.sub("^# (?=groups: )", "", guess.text, flags=re.MULTILINE)
    own = opened(tmp_path / "set", groups=yaml.safe_load(text)["groups"])
    assert not scenes_across(own, lambda id: own.stems[id][: len(group)])
    told = f"names seem to tell {scenes} groups, such as {group}, and splits are drawn across them"
    assert not [one for one in own.oddities() if told in one.what]
    (note,) = [one for one in opened(tmp_path / "set").oddities() if told in one.what]
    assert note.fix.endswith(f"groups: {json.dumps(yaml.safe_load(text)['groups'])}")


@pytest.mark.parametrize("how", ["IMG_{number:04}", "{}{}", "a{number:03}"])
def test_names_that_tell_no_groups_are_not_proposed(tmp_path, how):
    write(tmp_path, shots=1, name=how)
    assert "groups: ^" not in describe(tmp_path, tmp_path).text


def test_a_test_split_of_one_group_is_told(tmp_path):
    write(tmp_path, scenes=3)
    own = opened(tmp_path, groups="^(s[0-9]+)_")
    (lone,) = [one for one in audit(own).findings if "of one group" in one.what]
    assert lone.severity == "warning" and lone.what == own.lone_group()
    assert re.match(r"all 3 test images are of one group \(s0[012]\), so the scores", lone.what)
    assert opened(tmp_path).lone_group() == ""
    write(tmp_path / "more", scenes=12)
    assert opened(tmp_path / "more", groups="^(s[0-9]+)_").lone_group() == ""


def test_an_audit_tells_a_class_that_is_small_and_splits_that_hold_other_shares_of_it(tmp_path):
    write(tmp_path)
    own = opened(tmp_path)
    label = np.zeros((72, 96), np.uint8)
    label[:40] = 1
    for path in (tmp_path / "labels").iterdir():
        Image.fromarray(label).save(path)
    assert not [f for f in audit(own).findings if "share" in f.what or "%" in f.what]
    label[:] = 0
    for split, size in (("train", 4), ("val", 4), ("test", 20)):
        label[:size, :size] = 1
        for id in own.ids(split):
            Image.fromarray(label).save(own.files(id)[1])
    told = {f.what.partition(" (")[0]: f for f in audit(opened(tmp_path)).findings}
    small, unlike = (
        next(f for what, f in told.items() if what.startswith(words))
        for words in ("a has 98.2 % of the pixels", "classes with another share of the test split")
    )
    assert "class_weights=balanced" in small.fix and small.severity == unlike.severity == "note"
    assert "b (0.2 % of train, 5.8 % of test)" in unlike.what
    assert not [what for what in told if "share of the val split" in what]
