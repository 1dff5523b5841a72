"""Images in any form that users have them in are read as files are."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.core.record import Task
from benchmark.data.given import image_of

pytestmark = pytest.mark.no_torch

TASK = Task(classes=("a", "b"))
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (7, 5, 3)).astype(np.uint8)
DEEP = RGB.astype(np.uint16) * 257
ALPHA = np.concatenate([RGB, RGB[..., :1]], axis=2)


def pictures():
    yield "rgb.png", Image.fromarray(RGB)
    yield "grey.png", Image.fromarray(RGB[..., 0])
    yield "alpha.png", Image.fromarray(ALPHA)
    yield "grey alpha.png", Image.fromarray(RGB[..., :2])
    yield "palette.png", Image.fromarray(RGB).quantize(8)
    yield "bits.png", Image.fromarray(RGB[..., 0] > 99)
    yield "deep.png", Image.fromarray(DEEP[..., 0])
    yield "print.tif", Image.fromarray(RGB).convert("CMYK")
    yield "photo.jpg", Image.fromarray(RGB)


@pytest.mark.parametrize(("name", "picture"), [*pictures()])
def test_a_pillow_image_is_read_as_its_file(tmp_path, name, picture):
    picture.save(tmp_path / name)
    expected = image_of(tmp_path / name, TASK)
    assert expected.shape == RGB.shape and expected.dtype == np.uint8
    with Image.open(tmp_path / name) as opened:
        assert np.array_equal(image_of(opened, TASK), expected)
    assert np.array_equal(image_of(io.BytesIO((tmp_path / name).read_bytes()), TASK), expected)


def test_a_picture_on_its_side_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "side.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "side.jpg") as opened:
        found = image_of(opened, TASK)
    assert found.shape == (5, 7, 3)
    assert np.array_equal(found, image_of(tmp_path / "side.jpg", TASK))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RGB, RGB),
        (RGB[..., 0], RGB[..., [0, 0, 0]]),
        (RGB[..., :1], RGB[..., [0, 0, 0]]),
        (RGB[..., :2], RGB[..., [0, 0, 0]]),
        (ALPHA, RGB),
        (DEEP, RGB),
        (DEEP[..., 0], RGB[..., [0, 0, 0]]),
        (RGB[..., 0] > 99, 255 * (RGB[..., [0, 0, 0]] > 99)),
        (RGB[:1, :1], RGB[:1, :1]),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
    ],
)
def test_arrays(values, expected):
    assert np.array_equal(image_of(values, TASK), expected)


def test_of_bands_an_array_holds_those_that_the_network_takes(tmp_path):
    task = Task(classes=("a",), channels=5, bands=(4, 3, 2, 1, 0), range=((0, 1000),))
    values = RANDOM.integers(0, 1001, (6, 4, 5)).astype(np.uint16)
    assert np.array_equal(image_of(values, task), np.rint(values * 0.255).astype(np.uint8))
    with pytest.raises(DataError, match="the image has 3 channels, not 5"):
        image_of(RGB, task)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "a value of type NoneType is no image"),
        (5, "a value of type int is no image"),
        (np.zeros((0, 3, 3), np.uint8), r"an array of shape \(0, 3, 3\) is no image"),
        (np.zeros(9, np.uint8), r"an array of shape \(9,\) is no image"),
        (np.zeros((2, 2, 5), np.uint8), "the image has 5 channels, not 3"),
        (np.zeros((2, 2, 3)), "does not say what is black and white"),
        (np.zeros((2, 2, 3), complex), "an array of complex128 is no image"),
        (Image.new("F", (3, 3)), "does not say what is black and white"),
        (Image.new("RGB", (0, 3)), "is no image"),
        (io.BytesIO(b"no image"), "the image is truncated or damaged"),
        ("missing.png", "missing.png is missing"),
        (".", "is not a regular file"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(given, message):
    with pytest.raises(DataError, match=message) as caught:
        image_of(given, TASK)
    assert "\n" not in str(caught.value)
