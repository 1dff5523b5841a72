"""Legends as sets and tools of annotation write them."""

import pytest

from benchmark.data.custom.legend import find_legend

pytestmark = pytest.mark.no_torch

COLOURS = {0x000000: "background", 0xFFC896: "skin", 0x408040: "wild animal"}


@pytest.mark.parametrize(
    "text",
    [
        "background: R0 G0 B0\nskin: R255 G200 B150\nwild animal: R64 G128 B64\n",
        "0 0 0\tbackground\n255 200 150\tskin\n64 128 64\t\twild animal\n",
        "name,r,g,b\nbackground,0,0,0\nskin,255,200,150\nwild animal,64,128,64\nunused,1,2,3\n",
        "\ufeffbackground #000000\r\nskin = #ffc896\r\nwild animal; #408040\r\n",
        "# colours\nbackground (0, 0, 0)\nskin (255, 200, 150)\nwild animal (64, 128, 64)\n",
    ],
)
def test_colours(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    found = find_legend(tmp_path, dict.fromkeys(COLOURS, 9), colours=True)
    assert found is not None and (found.path.name, found.names) == ("classes.txt", COLOURS)
    assert find_legend(tmp_path, {0: 9, 1: 9, 2: 9}, colours=False) is None


@pytest.mark.parametrize("text", ["0: sky\n1: sea\n", "sky,0\nsea,1\n", "0 sky\n1 sea\n7 none\n"])
def test_indices(tmp_path, text):
    (tmp_path / "names.csv").write_text(text)
    assert find_legend(tmp_path, {0: 9, 1: 9}, colours=False).names == {0: "sky", 1: "sea"}


@pytest.mark.parametrize(
    "text",
    [
        "a: 0 0 0\nb: 255 200 150\n",  # one is missing
        "a: 0 0 0\nb: 255 200 150\nc: 64 128 64\nd: 64 128 64\n",  # two names for one
        "a: 0 0 0\nb: 255 200 150\nc: 64 128 640\n",
    ],
)
def test_one_that_names_most_classes_names_these(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    found = find_legend(tmp_path, dict.fromkeys(COLOURS, 9), colours=True)
    assert found is not None and found.names == {0: "a", 0xFFC896: "b"}
    (tmp_path / "whole.txt").write_text("x: 0 0 0\ny: 255 200 150\nz: 64 128 64\n")
    found = find_legend(tmp_path, dict.fromkeys(COLOURS, 9), colours=True)
    assert found is not None and list(found.names.values()) == ["x", "y", "z"]


@pytest.mark.parametrize(
    "text",
    [
        "background: 0 0 0\nskin: 255 200 150\nskin: 64 128 64\n",  # one name for two
        "background: 0 0 0\n",
        "",
        "x" * 70_000,
    ],
)
def test_what_names_few_classes_or_two_alike_is_no_legend(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    assert find_legend(tmp_path, dict.fromkeys(COLOURS, 9), colours=True) is None


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "b.txt").mkdir()
    (tmp_path / "c.txt").write_text("0: sky\n1: sea\n")
    assert find_legend(tmp_path, {0: 9, 1: 9}, colours=False).path.name == "c.txt"
