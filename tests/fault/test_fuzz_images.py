"""Damaged and made-up PNG, JPEG and TIFF: pixels or one line, soon, and in bounded memory."""

import io
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from benchmark.core.errors import DataError
from benchmark.data.files import OWN, read_with
from benchmark.data.pixels import (
    brightness,
    image_bytes,
    label_colours,
    label_values,
    orientation,
)
from tests.helpers.files import png_file
from tests.helpers.fuzz import cases, mutated, told

pytestmark = pytest.mark.no_torch

MOST_SECONDS = 20
"""Of one file; the machine may be busy."""

PIXELS = np.arange(12 * 10 * 5, dtype=np.uint16).reshape(12, 10, 5)


def pillow(mode: str, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(PIXELS[..., :3].astype(np.uint8)).convert(mode)
    tag = Image.Exif()
    tag[0x0112] = 6
    image.save(file, kind, **({"exif": tag} | options))
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def deep_png(channels: int) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in PIXELS[..., :channels])
    return png_file(10, 12, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], rows)


BANDS = {"photometric": "minisblack", "planarconfig": "contig"}
WHOLE = [pillow(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
WHOLE += [deep_png(channels) for channels in (1, 2, 3, 4)]
WHOLE += [pillow(mode, "JPEG") for mode in ("RGB", "L", "CMYK")]
WHOLE += [pillow(mode, "TIFF") for mode in ("RGB", "L", "P", "1", "CMYK")]
WHOLE += [
    pillow("RGB", "TIFF", compression=kind)
    for kind in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate")
]
WHOLE += [
    tiff(PIXELS, **BANDS),
    tiff(PIXELS, **BANDS, compression="deflate", predictor=True),
    tiff(PIXELS, **BANDS, tile=(16, 16)),
    tiff(PIXELS, **BANDS, byteorder=">"),
    tiff(PIXELS, **BANDS, bigtiff=True),
    tiff(PIXELS.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"),
    tiff(PIXELS.transpose(2, 0, 1), photometric="minisblack"),
    tiff(PIXELS[..., 0].astype(np.float32)),
    tiff(PIXELS[..., 0].astype(np.int16)),
    tiff(PIXELS[..., :3], photometric="rgb", extratags=[(274, "H", 1, 5, True)]),
]


@st.composite
def odd_tiff(draw: st.DrawFn) -> bytes:
    """A TIFF in which the values of a few tags are others."""
    content = bytearray(draw(st.sampled_from(WHOLE[-10:])))
    order = ">" if content[:2] == b"MM" else "<"
    if content[2:4] in (b"+\0", b"\0+"):
        return bytes(content)
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    odd = st.sampled_from([0, 1, 2, 3, 5, 7, 8, 255, 2**15, 2**16 - 1, 2**31, 2**32 - 1])
    for _ in range(draw(st.integers(1, 4))):
        at = place + 2 + 12 * draw(st.integers(0, count - 1))
        part = draw(st.sampled_from([(2, "H", 65535), (4, "I", 2**32 - 1), (8, "I", 2**32 - 1)]))
        struct.pack_into(f"{order}{part[1]}", content, at + part[0], min(draw(odd), part[2]))
    return bytes(content)


SIDE = st.integers(0, 8) | st.sampled_from([2**15, 2**16, 10**9, 2**31 - 1, 2**32 - 1])
PNGS = st.builds(
    png_file, SIDE, SIDE, st.sampled_from([1, 2, 4, 8, 16, 3]), st.integers(0, 7), st.binary()
)
FILES = st.sampled_from(WHOLE).flatmap(mutated) | odd_tiff() | PNGS | st.binary(max_size=64)


def tried(path: Path, content: bytes) -> None:
    """Reads a file in every way; what is returned is whole."""
    path.write_bytes(content)
    begun = time.monotonic()
    ways: list[tuple[Any, int]] = [
        (image_bytes, 3),
        (lambda file: image_bytes(file, [1, 0], [(0, 4095)]), 3),
        (lambda file: label_values(file)[0], 2),
        (label_colours, 3),
        (brightness, 2),
    ]
    for read, axes in ways:
        pixels = told(lambda read=read: read_with(path, OWN, read), DataError)
        if pixels is not None:
            assert pixels.ndim == axes and pixels.size and pixels.dtype.kind in "ui"
    turn = told(lambda: read_with(path, OWN, orientation), DataError)
    assert turn in (None, 1, 2, 3, 4, 5, 6, 7, 8)
    assert time.monotonic() - begun < MOST_SECONDS


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.mark.parametrize("content", WHOLE)
def test_whole_files(path: Path, content: bytes) -> None:
    tried(path, content)


@given(FILES)
@example(png_file(1, 10**9))
@example(png_file(10**9, 1, 16))
@cases(150)
def test_files(path: Path, content: bytes) -> None:
    tried(path, content)


@given(FILES)
@cases(5000)
def _5000_files(path: Path, content: bytes) -> None:
    tried(path, content)


@pytest.mark.slow
def test_5000_files(path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _5000_files(path)
    # In KiB on Linux: 178 million pixels of 16 bits, and what they are converted to.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20


CLAIMS = {
    "png": png_file(1, 10**9),
    "png of 16 bits": png_file(10**9, 1, 16, 6),
    "tiff": tiff(np.zeros((1, 1, 3), np.uint16), photometric="rgb").replace(
        struct.pack("<HHII", 257, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, 10**9)
    ),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path: Path, kind: str) -> None:
    """Refused inside 256 MiB of address space beyond what the libraries take."""
    path = tmp_path / "file"
    path.write_bytes(CLAIMS[kind])
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from benchmark.core.errors import DataError\n"
        "from benchmark.data.files import OWN, read_with\n"
        "from benchmark.data.pixels import image_bytes\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "most = pages * resource.getpagesize() + 2**28\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try:\n"
        "    read_with(Path(sys.argv[1]), OWN, lambda file: image_bytes(file, [0]))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    if not hasattr(resource, "RLIMIT_AS") or not Path("/proc/self/statm").exists():
        pytest.skip("this system does not limit address space")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=os.environ
    )
    assert "has more than 178 million pixels; cut it into tiles" in done.stdout, done.stderr
