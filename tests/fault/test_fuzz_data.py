"""Damaged images, labels, lists and manifests of sets: pixels or one line, never a traceback."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.acquire.manifest import read as read_manifest
from benchmark.data.base import SPLITS, read_example
from benchmark.data.cache import open_split
from benchmark.data.fake import WRITERS
from benchmark.data.files import read_gray, read_indexed, read_rgb
from tests.helpers.fuzz import cases, mutated, told

pytestmark = pytest.mark.no_torch

SETS = ("camvid", "dubai", "wbc", "mtd", "ccp", "voc2012")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in SETS:
        WRITERS[name](root)
    return root


NAMES = ["train/train_00000.png", "trainannot/train_00000.png", "/SegNet/CamVid/", "..", "/", "\0"]
NAMES += ["2007_000000", "2008_000000", " ", "\n", "\x85", "\u2028", "\x1b[31m", "a" * 300]
LISTS = st.lists(st.sampled_from(NAMES) | st.text(max_size=8), max_size=8).map("".join)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("camvid", "camvid/CamVid/train.txt"),
        ("voc2012", "voc2012/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"),
        ("voc2012", "voc2012/benchmark_RELEASE/dataset/val.txt"),
    ],
)
@given(LISTS.map(lambda text: text.encode()) | st.binary(max_size=32))
@example(b"a\0b c\0d")
@example(b"a\0b")
@cases(120)
def test_lists(data: Path, name: str, file: str, content: bytes) -> None:
    path = data / file
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        benchmark = told(lambda: available()[name](data), DataError)
        if benchmark is not None:
            for split in SPLITS:
                told(lambda split=split: open_split(benchmark, split), DataError)
    finally:
        path.write_bytes(before)


def encoded(kind: str, mode: str) -> bytes:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2, body: bytes = b"") -> bytes:
    """A PNG whose checksums are right, whatever it says."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    )


GOOD = [encoded("PNG", mode) for mode in ("RGB", "L", "P", "1", "I;16")]
GOOD += [
    encoded("JPEG", "RGB"),
    encoded("JPEG", "CMYK"),
    encoded("BMP", "RGB"),
    encoded("BMP", "P"),
]
SIDE = st.integers(0, 8) | st.sampled_from([2**15, 2**16, 2**31 - 1, 2**32 - 1])
PNGS = st.builds(
    png, SIDE, SIDE, st.sampled_from([1, 2, 8, 16, 3]), st.integers(0, 7), st.binary(max_size=99)
)
IMAGES = st.binary(max_size=64) | st.sampled_from(GOOD).flatmap(mutated) | PNGS


def flat_bitmap(width: int, height: int) -> bytes:
    content = bytearray(encoded("BMP", "RGB"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


@pytest.mark.slow
@given(IMAGES)
@example(png(2**15, 2**15))
@example(png(2**31 - 1, 2**31 - 1))
@example(flat_bitmap(2**14 + 1, 2**14))
@example(flat_bitmap(0, 5))
@example(flat_bitmap(5, 0))
@example(flat_bitmap(-5, -4))
@cases(500)
def test_images(folder: Path, content: bytes) -> None:
    path = folder / "image.png"
    path.write_bytes(content)
    for read, axes in ((read_rgb, 3), (read_gray, 2), (read_indexed, 2)):
        pixels = told(lambda read=read: read(path, "its origin"), DataError)
        if pixels is not None:
            assert pixels.ndim == axes and pixels.dtype == np.uint8 and pixels.size


@pytest.mark.slow
@given(st.data())
@cases(300)
def test_files_of_sets(data: Path, draw: st.DataObject) -> None:
    benchmark = available()[draw.draw(st.sampled_from(SETS))](data)
    ids = [id for split in SPLITS for id in benchmark.ids(split)]
    id = draw.draw(st.sampled_from(ids[:2] + ids[-2:]))
    path = draw.draw(st.sampled_from(benchmark.files(id)))
    before = path.read_bytes()
    path.write_bytes(draw.draw(mutated(before) | IMAGES))
    try:
        found = told(lambda: read_example(benchmark, id), DataError)
    finally:
        path.write_bytes(before)
    if found is not None:
        assert found.label.shape == found.image.shape[:2] and benchmark.scale(*found.label.shape)


MANIFEST = b"# benchmark\tx\n# edition\tfull\n# train\t1\na b.png\t12\t0123456789abcdef\n"


@given(st.binary(max_size=64) | mutated(MANIFEST) | LISTS.map(lambda text: text.encode()))
@example(MANIFEST + b"a\t" + b"9" * 5000 + b"\tb")
@cases(200)
def test_manifests(folder: Path, content: bytes) -> None:
    path = folder / "manifest.tsv"
    path.write_bytes(content)
    told(lambda: read_manifest(path))
