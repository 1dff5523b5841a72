"""Which files are predicted, and what their results are called."""

import os
from pathlib import Path

import pytest

from benchmark.core.errors import UserError
from benchmark.inference.inputs import find_inputs

pytestmark = pytest.mark.no_torch


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.jpg", "a/1.PNG", "a/deep/0.tif", "a/notes.txt", "a/.hidden.png", "b/0.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(*given, but=()):
    return [one.name.as_posix() for one in find_inputs(given, but)]


def test_results_of_a_folder_are_named_as_its_files(photos):
    assert names("a") == ["0", "1", "deep/0"]
    assert names("a/") == names(photos / "a") == ["0", "1", "deep/0"]


def test_of_two_folders_the_results_are_below_their_names(photos):
    assert names("a", "b") == ["a/0", "a/1", "a/deep/0", "b/0"]


def test_files_and_globs(photos):
    assert names("a/0.jpg") == ["0"]
    assert names("a/0.jpg", "b/0.jpg") == ["a/0", "b/0"]
    assert names("a/*.jpg", "a/0.jpg") == ["0"]
    assert names("**/0.*") == ["a/0", "a/deep/0", "b/0"]
    assert names("a/notes.txt") == ["notes"]  # named, so tried


def test_a_name_with_brackets_is_no_glob_where_it_exists(photos):
    (photos / "b/[0].jpg").touch()
    assert names("b/[0].jpg") == ["[0]"]


def test_folders_of_results_are_left_out(photos):
    (photos / "a/out/masks").mkdir(parents=True)
    (photos / "a/out/masks/0.png").touch()
    assert names("a", but=[Path("a/out/masks")]) == ["0", "1", "deep/0"]


def test_a_link_in_a_circle_ends(photos):
    os.symlink(photos / "a", photos / "a/deep/again")
    assert names("a") == ["0", "1", "deep/0"]


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        (["a/none.jpg"], [], "a/none.jpg: no such file or folder"),
        (["a/*.webp"], [], "nothing matches; check the pattern"),
        (["c"], [], "c holds no images or videos"),
        (["a"], ["a/0.png"], "a/0.jpg and .*a/0.png would both be in 0; rename one"),
        (["a"], ["a/deep.mp4"], "a/deep.mp4 and .*a/deep/0.tif would both be in deep"),
        (["a\0b"], [], "no such file or folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(photos, given, more, message):
    (photos / "c").mkdir()
    for name in more:
        (photos / name).touch()
    with pytest.raises(UserError, match=message) as caught:
        find_inputs(given)
    assert "\n" not in str(caught.value)
