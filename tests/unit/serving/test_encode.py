"""Masks as answers, read back by other libraries."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmark.data.palette import voc_colours
from benchmark.serving import encode

pytestmark = pytest.mark.no_torch

MASKS = [
    np.array([[0, 1], [2, 1], [0, 0]], np.uint8),
    np.array([[3]], np.uint8),
    np.random.default_rng(0).integers(0, 4, (13, 7), np.uint8),
]
NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("mask", MASKS)
def test_a_png_holds_class_indices_and_shows_colours(mask):
    image = Image.open(io.BytesIO(encode.png(mask, voc_colours())))
    assert image.mode == "P" and np.array_equal(np.asarray(image), mask)
    assert np.array_equal(np.asarray(image.convert("RGB")), voc_colours()[mask])


@pytest.mark.parametrize("mask", MASKS)
def test_run_lengths_are_those_of_coco(mask):
    coco = pytest.importorskip("pycocotools.mask")
    found = encode.classes(mask, NAMES)
    assert [one["id"] for one in found] == np.unique(mask).tolist()
    for one in found:
        assert one["name"] == NAMES[one["id"]]
        packed = coco.frPyObjects(one["rle"], *one["rle"]["size"])
        assert np.array_equal(coco.decode(packed), mask == one["id"])
        assert coco.area(packed) == one["pixels"] == (mask == one["id"]).sum()


def test_run_lengths_begin_with_zeros():
    assert encode.run_lengths(np.array([[True], [False], [True]])) == [0, 1, 1, 1]
    assert encode.run_lengths(np.array([[False, True]])) == [1, 1]
    assert encode.run_lengths(np.array([[True]])) == [0, 1]
