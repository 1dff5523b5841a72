"""What image and label files of every depth, number of bands and orientation are read as."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.pixels import (
    Unfit,
    image_bytes,
    label_colours,
    label_values,
    orientation,
)
from tests.helpers.files import png_file

RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
GREY = RGB[..., 0]
BANDS = np.arange(4 * 5 * 5, dtype=np.uint16).reshape(4, 5, 5) * 600


def pillow(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    file.seek(0)
    return file


def tiff(pixels: np.ndarray, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    file.seek(0)
    return file


def deep_png(pixels: np.ndarray) -> io.BytesIO:
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return io.BytesIO(png_file(width, height, 16, colour, rows))


def refused(act: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Unfit) as info:
        act(*arguments, **options)
    assert len(str(info.value).splitlines()) == 1
    return str(info.value)


# What makes a picture be stored turned, so that its tag makes it upright again.
STORED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, 1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "deep"])
@pytest.mark.parametrize("turn", STORED)
def test_orientation_turns_images_and_no_labels(turn: int, kind: str) -> None:
    tag = Image.Exif()
    tag[0x0112] = turn
    stored = np.ascontiguousarray(STORED[turn])
    if kind == "deep":
        file = tiff(stored.astype(np.uint16) * 257, extratags=[(274, "H", 1, turn, True)])
    else:
        file = pillow(stored, kind, exif=tag)
    np.testing.assert_array_equal(image_bytes(file), RGB)
    file.seek(0)
    assert orientation(file) == turn
    if kind == "deep":
        return
    file.seek(0)
    np.testing.assert_array_equal(label_colours(file), stored)
    file = pillow(np.ascontiguousarray(stored[..., 0]), kind, exif=tag)
    np.testing.assert_array_equal(label_values(file)[0], stored[..., 0])


def test_a_photo_with_an_orientation_that_means_nothing_is_upright() -> None:
    tag = Image.Exif()
    tag[0x0112] = 77
    np.testing.assert_array_equal(image_bytes(pillow(RGB, exif=tag)), RGB)
    assert orientation(pillow(RGB, exif=tag)) == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", ["png", "tiff"])
def test_16_bits_are_scaled_by_their_full_range(container: str, channels: int) -> None:
    pixels = np.dstack([RGB, GREY])[..., :channels].astype(np.uint16) * 257
    pixels[0, 0, 0] = 128  # half of a level, and half goes to the even one
    pixels[0, 1, 0] = 129
    if container == "png":
        file = deep_png(pixels)
    else:
        extra = ["unassalpha"] if channels in (2, 4) else []
        photometric = "rgb" if channels > 2 else "minisblack"
        planes = pixels[..., 0] if channels == 1 else pixels
        planar = None if channels == 1 else "contig"
        file = tiff(planes, photometric=photometric, extrasamples=extra, planarconfig=planar)
    found = image_bytes(file)
    expected = pixels[..., :3] if channels > 2 else np.repeat(pixels[..., :1], 3, axis=2)
    np.testing.assert_array_equal(found, np.rint(expected / 257))
    assert found[0, 0, 0] == 0 and found[0, 1, 0] == 1


def test_a_declared_range_scales_and_clips() -> None:
    grey = np.array([[0, 100, 1100, 2100, 4000]], np.uint16)
    for file in (pillow(grey), tiff(grey)):
        found = image_bytes(file, spans=[(100, 2100)])
        assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255] and found.shape == (1, 5, 3)
    reflectance = np.array([[-0.5, 0, 0.25, 1, 2]], np.float32)
    for values in (reflectance, reflectance.astype(np.float64)):
        found = image_bytes(tiff(values), spans=[(0, 1)])
        assert found[0, :, 1].tolist() == [0, 0, 64, 255, 255]
    assert image_bytes(tiff(grey.astype(np.int32)), spans=[(0, 4000)])[0, 4].tolist() == [255] * 3
    assert image_bytes(pillow(GREY), spans=[(0, 510)]).max() == round(GREY.max() / 2)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (np.float32, "stores float32, 0 to 1, and does not say what is black"),
        (np.int16, "stores int16, 0 to 1, and does not say"),
        (np.uint32, "stores uint32, 0 to 1, and does not say"),
    ],
)
def test_a_type_without_a_usual_range_needs_one(dtype: type, words: str) -> None:
    message = refused(image_bytes, tiff(np.eye(4, dtype=dtype)))
    assert message.startswith(words) and "`range: [0, 1]`" in message


def test_values_that_are_no_numbers() -> None:
    pixels = np.array([[0, np.nan, 1]], np.float32)
    message = refused(image_bytes, tiff(pixels), spans=[(0, 1)])
    assert message == "holds values that are not finite numbers; replace them"
    complex_ = np.ones((2, 2), np.complex64)
    assert "stores complex64" in refused(image_bytes, tiff(complex_), spans=[(0, 1)])


LAYOUTS = {
    "pixel by pixel": (BANDS, {"planarconfig": "contig"}),
    "band by band": (BANDS.transpose(2, 0, 1), {"planarconfig": "separate"}),
    "compressed": (BANDS, {"planarconfig": "contig", "compression": "deflate", "predictor": True}),
    "pages": (BANDS.transpose(2, 0, 1), {}),
    "rows as pages": (np.pad(BANDS, ((0, 5), (0, 0), (0, 0))), {}),
    "tiles": (BANDS, {"planarconfig": "contig", "tile": (16, 16)}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bands(layout: str) -> None:
    pixels, options = LAYOUTS[layout]
    file = tiff(pixels, photometric="minisblack", **options)
    message = refused(image_bytes, file)
    assert ("5 bands" in message or "5 images" in message) and "`bands: [0, 1, 2]`" in message
    file.seek(0)
    found = image_bytes(file, bands=[3, 0], spans=[(0, 60000)])[:4]
    np.testing.assert_array_equal(found, np.rint(BANDS[..., [3, 0]] * (255 / 60000)))
    file.seek(0)
    found = image_bytes(file, bands=[4, 3], spans=[(0, 60000), (0, 30000)])[:4]
    clipped = BANDS[..., 3].clip(max=30000)
    np.testing.assert_array_equal(found[..., 1], np.rint(clipped * (255 / 30000)))
    file.seek(0)
    assert "has 5 bands, 0 to 4, and no band 5" in refused(image_bytes, file, bands=[5])
    file.seek(0)
    message = refused(image_bytes, file, bands=[0], spans=[(0, 1), (0, 1)])
    assert message.startswith("gives 1 band, but `range` in the YAML file has 2")


def test_bands_of_photographs() -> None:
    np.testing.assert_array_equal(image_bytes(pillow(RGB), bands=[2, 0]), RGB[..., [2, 0]])
    np.testing.assert_array_equal(image_bytes(pillow(GREY), bands=[0, 0]), np.dstack([GREY, GREY]))
    np.testing.assert_array_equal(image_bytes(tiff(RGB), bands=[1]), RGB[..., 1:2])


def test_four_bands_are_rgb_only_if_the_fourth_is_said_to_be_alpha() -> None:
    four = np.dstack([RGB, GREY])
    options = {"photometric": "rgb", "planarconfig": "contig"}
    np.testing.assert_array_equal(
        image_bytes(tiff(four, extrasamples=["unassalpha"], **options)), RGB
    )
    message = refused(image_bytes, tiff(four, extrasamples=["unspecified"], **options))
    assert message.startswith("has 4 bands and does not say what they are")


def test_white_stored_as_0() -> None:
    deep = GREY.astype(np.uint16) * 257
    for pixels, white in ((GREY, 255), (deep, 65535)):
        found = image_bytes(tiff(white - pixels, photometric="miniswhite"))
        np.testing.assert_array_equal(found[..., 0], GREY)
    message = refused(label_values, tiff(GREY, photometric="miniswhite"))
    assert message.startswith("stores white as 0")


def test_several_images_in_one_file() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", save_all=True, append_images=[Image.fromarray(RGB)] * 2)
    file.seek(0)
    assert refused(image_bytes, file) == "holds 3 images; save them apart"
    small = io.BytesIO()
    with tifffile.TiffWriter(small) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    small.seek(0)
    np.testing.assert_array_equal(image_bytes(small), RGB)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pixels", [RGB, GREY, GREY.astype(np.uint16) * 257])
def test_compressed_tiff(pixels: np.ndarray, compression: str) -> None:
    found = image_bytes(pillow(pixels, "TIFF", compression=compression))
    np.testing.assert_array_equal(found, RGB if pixels.ndim == 3 else np.dstack([GREY] * 3))


def test_a_compression_that_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def asarray(*_: Any, **__: Any) -> np.ndarray:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    file = tiff(BANDS, photometric="minisblack", planarconfig="contig", compression="deflate")
    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    message = refused(image_bytes, file, bands=[0])
    assert "needs an extra; pip install 'petseg-bench[tiff]'" in message


@pytest.mark.parametrize(("bits", "values"), [(1, [0, 1, 1, 0]), (2, [0, 1, 2, 3]), (4, [3, 9])])
def test_few_bits(bits: int, values: list[int]) -> None:
    text = "".join(f"{value:0{bits}b}" for value in values)
    packed = int(text.ljust(8, "0"), 2).to_bytes(1, "big")
    content = png_file(len(values), 1, bits, 0, b"\0" + packed)
    found, depth = label_values(io.BytesIO(content))
    assert found.tolist() == [values] and depth == bits and found.dtype == np.uint8
    spread = [value * 255 // (2**bits - 1) for value in values]
    assert image_bytes(io.BytesIO(content))[0, :, 0].tolist() == spread
    most = [(0, 2**bits - 1)]
    assert image_bytes(io.BytesIO(content), spans=most)[0, :, 0].tolist() == spread


def test_palettes_stay_in_labels_and_are_resolved_in_images() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 0, 0, 255, 255, 255])
    for kind in ("PNG", "TIFF", "BMP"):
        file = io.BytesIO()
        image.save(file, kind)
        file.seek(0)
        assert label_values(file)[0].tolist() == [[0, 1, 2]], kind
        colours = [[[10, 10, 10], [200, 0, 0], [255, 255, 255]]]
        for act in (image_bytes, label_colours):
            file.seek(0)
            assert act(file).tolist() == colours, kind


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_labels_that_are_compressed_with_loss(kind: str) -> None:
    options = {"compression": "jpeg"} if kind == "TIFF" else {}
    file = pillow(RGB, kind, **options)
    name = "WEBP" if kind == "WEBP" else "JPEG"
    for act in (label_values, label_colours):
        file.seek(0)
        message = refused(act, file)
        assert message.startswith(f"is compressed as {name}, which changes the values of a label")


def test_labels_of_another_form() -> None:
    assert "stores 3 channels of uint8, not one class" in refused(label_values, pillow(RGB))
    message = refused(label_values, tiff(GREY.astype(np.float32)))
    assert "stores 1 channel of float32, not one class index" in message
    assert "stores uint16, not colours of 8 bits" in refused(
        label_colours, pillow(GREY.astype(np.uint16))
    )
    deep, bits = label_values(pillow(GREY.astype(np.uint16)))
    assert bits == 16 and np.array_equal(deep, GREY)


def test_what_is_too_large_is_refused_before_it_takes_memory() -> None:
    for width, height in ((1, 10**9), (10**9, 1), (2**15, 2**15)):
        content = png_file(width, height, 8, 2, b"")
        assert "more than 178 million pixels" in refused(image_bytes, io.BytesIO(content))
        assert "more than 178 million pixels" in refused(label_values, io.BytesIO(content))
    file = tiff(BANDS, photometric="minisblack", planarconfig="contig").getvalue()
    # The tag of the height, 257: a number of 32 bits.
    at = file.index(struct.pack("<HHI", 257, 4, 1)) + 8
    content = file[:at] + struct.pack("<I", 10**9) + file[at + 4 :]
    assert "more than 178 million pixels" in refused(image_bytes, io.BytesIO(content), bands=[0])
    content = file[:at] + struct.pack("<I", 30_000_000) + file[at + 4 :]
    assert "takes more than 1 GiB" in refused(image_bytes, io.BytesIO(content), bands=[0])
