"""What image files store: of any depth, number of bands and orientation, or why it is not read.

Pillow reads all that it keeps exactly; tifffile reads TIFF with other depths or bands than those
of a photograph.
"""

import functools
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
import tifffile
from PIL import Image

MOST_PIXELS = 178_956_970
"""Pixels that a file may hold: as many as Pillow opens."""

MOST_BYTES = 2**30
"""Bytes that they may take: as many pixels of RGB with 16 bits."""

Span = tuple[float, float]
"""Stored values that become 0 and 255."""

_ORIENTATION = 0x0112
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_PHOTOGRAPHIC = ("RGB", "YCBCR", "SEPARATED", "CIELAB")


class Unfit(ValueError):
    """A file holds what is not read.

    Args:
        what: it holds; goes on after the file's name.
        fix: what its owner can do.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what, self.fix = what, fix


class Stored(NamedTuple):
    """What a file stores.

    Attributes:
        values: (H, W, C), of the type that is stored; bool for one bit.
        is_photo: whether that is grey or RGB, perhaps with an alpha channel at the end; else
            nothing says what the bands are.
        bits: of a value.
        orientation: as EXIF counts, 1 = upright; the values are as they are stored.
    """

    values: np.ndarray
    is_photo: bool
    bits: int
    orientation: int


def image_bytes(
    file: BinaryIO, bands: Sequence[int] | None = None, spans: Sequence[Span] | None = None
) -> np.ndarray:
    """An image, upright as its EXIF orientation says, in 8 bits.

    Args:
        file: at its beginning.
        bands: which to take, in this order; None = as RGB.
        spans: stored values that become 0 and 255: one for all bands, or one each; None = all that
            8 or 16 bits can hold.

    Returns:
        (H, W, C) uint8, C = 3 or the number of bands.

    Raises:
        Unfit: what is stored has no meaning without further words, or is too large.
    """
    stored = _stored(file, raw=bands is not None)
    values = stored.values
    if bands is not None:
        if max(bands) >= values.shape[2]:
            raise Unfit(
                f"has {_count(values.shape[2], 'band')}, 0 to {values.shape[2] - 1}, and no band "
                f"{max(bands)}",
                "correct `bands` in the YAML file",
            )
        values = values[..., list(bands)]
    elif not stored.is_photo:
        raise Unfit(
            f"has {_count(values.shape[2], 'band')} and does not say what they are",
            "name those to use in the YAML file, as in `bands: [0, 1, 2]`",
        )
    elif values.shape[2] < 3:
        values = np.repeat(values[..., :1], 3, axis=2)
    else:
        values = values[..., :3]
    return _turn(_to_bytes(values, stored.bits, spans), stored.orientation)


def brightness(file: BinaryIO) -> np.ndarray:
    """Brightness (H, W) uint8, of a mask whose meaning is how bright it looks."""
    with _opened(file) as image:
        turn = _turned_by_pillow(image)
        return _turn(np.array(image.convert("L")), _BACK.get(turn, turn))


def label_values(file: BinaryIO) -> tuple[np.ndarray, int]:
    """What a label image stores in its one channel, as it is: palettes stay unresolved.

    Returns:
        Values (H, W) of an integer type, and their bits; one bit is 0 and 1.

    Raises:
        Unfit: it is compressed with loss, or has not one channel of whole numbers.
    """
    stored = _label(file, raw=True)
    values = stored.values
    if values.shape[2] != 1 or values.dtype.kind not in "bui":
        raise Unfit(
            f"stores {_count(values.shape[2], 'channel')} of {values.dtype}, not one class index "
            "per pixel",
            "convert it, or describe it by `labels: colour`",
        )
    if values.dtype == bool:
        values = values.astype(np.uint8)
    return values[..., 0], stored.bits


def label_colours(file: BinaryIO) -> np.ndarray:
    """The colours (H, W, 3) uint8 of a label image; palettes are resolved.

    Raises:
        Unfit: it is compressed with loss, or has no colours of 8 bits.
    """
    values = _label(file, raw=False).values
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        raise Unfit(f"stores {values.dtype}, not colours of 8 bits", "convert it")
    return np.repeat(values[..., :1], 3, axis=2) if values.shape[2] < 3 else values[..., :3]


def depth(file: BinaryIO) -> int:
    """Bits of a value of an image, from its header."""
    head = file.read(26)
    file.seek(0)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return head[24]
    if head[:4] in _TIFF:
        with tifffile.TiffFile(file) as tiff:
            return int(tiff.pages.first.bitspersample)  # type: ignore[union-attr]
    with _opened(file) as image:
        return _bits(image, head)


def label_kind(file: BinaryIO) -> Literal["values", "palette", "colours"]:
    """What a label image stores: one channel, with a palette or without, or colours."""
    try:
        stored = _label(file, raw=True).values
    except Unfit:
        return "colours"  # whoever reads it will be told
    file.seek(0)
    with _opened(file) as image:
        palette = image.mode in ("P", "PA")
    return "palette" if palette else "values" if stored.shape[2] == 1 else "colours"


MOST_BLENDED = 0.02
"""Share of a label that a value which blending made covers at most."""


def blended(values: np.ndarray, unknown: np.ndarray | None = None) -> bool:
    """Whether edges of a label were smoothed: many values of few pixels beside few of many.

    Args:
        values: (H, W) or, in colour, (H, W, 3).
        unknown: (H, W) bool, where a value is no class; None = the classes are not known.
    """
    if values.ndim == 3:
        r, g, b = np.moveaxis(values.astype(np.int64), -1, 0)
        values = (r << 16) | (g << 8) | b
    counts = np.unique(values if unknown is None else values[unknown], return_counts=True)[1]
    rare = counts <= max(1, MOST_BLENDED * values.size)
    return (
        int(rare.sum()) > 10
        and 2 * counts[rare].sum() < values.size
        and (unknown is None or bool(rare.all()))
    )


def orientation(file: BinaryIO) -> int:
    """The EXIF orientation, 1 to 8; 1 = upright, or none is stated."""
    with _opened(file) as image:
        if image.format == "PNG":
            if not _chunks(file) & {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}:
                return 1
            image.load()  # the tag may come after the pixels
        return _orientation(image)


def _chunks(file: BinaryIO) -> set[bytes]:
    """Names of the chunks of a PNG."""
    place, found = file.tell(), set()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        found.add(head[4:])
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    file.seek(place)
    return found


def _label(file: BinaryIO, raw: bool) -> Stored:
    with _opened(file) as image:
        tags = getattr(image, "tag_v2", {})
        lossy = image.format in _LOSSY or tags.get(259) in (6, 7, 34712)
        name = "JPEG" if image.format in ("MPO", "TIFF") else image.format
        inverted = tags.get(262) == 0 and tags.get(258, (1,)) != (1,)
    if lossy:
        raise Unfit(
            f"is compressed as {name}, which changes the values of a label",
            "export it again as PNG",
        )
    if inverted:
        raise Unfit("stores white as 0, so its values are inverted", "export it as PNG")
    file.seek(0)
    return _stored(file, raw, label=True)


def _stored(file: BinaryIO, raw: bool, label: bool = False) -> Stored:
    head = file.read(26)
    file.seek(0)
    if head[:4] in _TIFF:
        found = _tiff(file, raw)
        if found is not None:
            return found
        file.seek(0)
    # Of PNG in colour with 16 bits Pillow keeps 8.
    elif head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] == 16 and head[25] in (2, 4, 6):
        return _deep_png(file, head[25])
    with _opened(file) as image:
        turn = _turned_by_pillow(image)
        if image.mode == "LAB":
            raise Unfit("stores colours as CIELAB", "convert it to RGB")
        bits = _bits(image, head)
        if image.mode == "RGBa":
            values = np.array(image.convert("RGBA"))
        elif image.mode in ("CMYK", "YCbCr", "RGBX") or (
            image.mode in ("P", "PA") and not (label and raw)
        ):
            values = np.array(image.convert("RGB"))
        else:
            values = np.array(image)
        if image.mode == "L" and bits < 8:
            values //= 255 // (2**bits - 1)  # Pillow spreads them over 8 bits
        elif image.mode == "I":
            values = values.astype(np.uint16)  # of older releases of Pillow, for 16 bits
        values = np.atleast_3d(values.astype(values.dtype.newbyteorder("="), copy=False))
        if label:
            return Stored(_turn(values, _BACK.get(turn, turn)), True, bits, 1)
        return Stored(values, True, bits, 1 if image.format == "TIFF" else _orientation(image))


def _bits(image: Image.Image, head: bytes) -> int:
    """Of a value, as it is stored."""
    if image.mode == "1":
        return 1
    if image.mode[0] in "IF":
        return 32 if image.mode == "F" else 16
    if image.mode == "L":
        if image.format == "PNG":
            return head[24]
        if image.format == "TIFF":
            return int(cast(Any, image).tag_v2.get(258, (8,))[0])
    return 8


def _opened(file: BinaryIO) -> Image.Image:
    """An image of which nothing but the header was read.

    Raises:
        Unfit: it is too large.
    """
    _quiet()
    try:
        image = Image.open(file)
    except Image.DecompressionBombError:
        raise Unfit(_TOO_LARGE, _TILES) from None
    _fits(*image.size, 1)
    return image


@functools.cache
def _quiet() -> None:
    """Silences what libraries say of odd files; what matters here is an exception."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for library in ("PIL", "tifffile"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


_TOO_LARGE = f"has more than {MOST_PIXELS // 10**6} million pixels"
_TILES = "cut it into tiles"


def _fits(height: int, width: int, bytes_per_pixel: int) -> None:
    if min(height, width) < 1:
        raise Unfit("has no pixels", "save it again")
    if height * width > MOST_PIXELS:
        raise Unfit(_TOO_LARGE, _TILES)
    if height * width * bytes_per_pixel > MOST_BYTES:
        raise Unfit(f"takes more than {MOST_BYTES // 2**30} GiB", _TILES)


def _deep_png(file: BinaryIO, colour: int) -> Stored:
    """PNG with 16 bits and more than one channel.

    Pillow unpacks the high byte of each value. Told that the low byte comes first, it unpacks that.
    """
    if colour == 4:  # grey and alpha: four bytes a pixel, in order
        parts, turn = _unpacked(file, "RGBA")
        high, low = parts[..., ::2], parts[..., 1::2]
    else:
        mode = "RGB" if colour == 2 else "RGBA"
        high, turn = _unpacked(file, f"{mode};16B")
        low, _ = _unpacked(file, f"{mode};16L")
    return Stored(high.astype(np.uint16) << 8 | low, True, 16, turn)


def _unpacked(file: BinaryIO, how: str) -> tuple[np.ndarray, int]:
    """Bytes of an image that Pillow unpacks from the file in a certain way; its orientation."""
    file.seek(0)
    with _opened(file) as image:
        image.tile = [(*tile[:3], how) for tile in image.tile]  # type: ignore[attr-defined]
        return np.array(image), _orientation(image)


def _tiff(file: BinaryIO, raw: bool) -> Stored | None:
    """What a TIFF stores; None if Pillow reads it exactly."""
    _quiet()
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        _fits(height, width, samples * max(1, page.bitspersample // 8))
        pages = [page, *(other for other in tiff.pages[1:] if _is_like(page, other))]
        if page.imagedepth != 1:
            raise Unfit("is a volume", "save its slices as images")
        # tifffile itself writes an array (H, W, C) with many bands as H pages of W rows.
        by_row = tiff.is_shaped and samples == 1 and len(pages) > width
        if len(pages) > 1 and (samples > 1 or not (raw or by_row)):
            bands = "" if samples > 1 else ", or name those that are bands as in `bands: [0, 1, 2]`"
            raise Unfit(f"holds {len(pages)} images", f"save them apart{bands}")
        if len(pages) == 1 and _is_simple(page):
            return None
        _fits(height, width, len(pages) * samples * max(1, page.bitspersample // 8))
        layers = [_layer(one) for one in pages]
        values = layers[0] if len(layers) == 1 else np.concatenate(layers, axis=2)
        values = values.transpose(2, 0, 1) if by_row else values
        photometric = getattr(page.photometric, "name", str(page.photometric))
        full = 2**page.bitspersample - 1
        if photometric == "MINISWHITE" and values.dtype.kind == "u":
            values = full - values
        elif photometric not in ("RGB", "MINISBLACK"):
            raise Unfit(f"stores {page.dtype} as {photometric}", "convert it to RGB")
        tag = page.tags.get(_ORIENTATION)
        turn = tag.value if tag is not None and tag.value in _TURNS else 1
        alpha = bool(page.extrasamples) and page.extrasamples[0] in (1, 2)
        usual = {"RGB": (3, 3 + alpha), "MINISBLACK": (1, 1 + alpha)}.get(photometric, (1,))
        return Stored(values, values.shape[2] in usual, page.bitspersample, turn)


def _is_like(page: Any, other: Any) -> bool:
    """Whether another page is a picture of its own, not a small copy or a mask."""
    if other.tags.get(254) is not None and other.tags[254].value & 5:
        return False
    return bool(other.shape == page.shape and other.dtype == page.dtype)


def _is_simple(page: Any) -> bool:
    """Whether Pillow reads all of a page exactly."""
    photometric = getattr(page.photometric, "name", "")
    grey = page.samplesperpixel == 1 and photometric == "MINISBLACK"
    if page.sampleformat == 3:
        return grey and page.bitspersample == 32
    if page.sampleformat not in (1, None):
        return False
    if page.bitspersample == 16:
        return grey
    if page.bitspersample > 8:
        return False
    if page.samplesperpixel == 1:
        return True
    alpha = len(page.extrasamples) == 1 and page.extrasamples[0] in (1, 2)
    most = 4 if photometric == "SEPARATED" else 3
    return photometric in _PHOTOGRAPHIC and page.samplesperpixel == most + alpha


def _layer(page: Any) -> np.ndarray:
    """(H, W, C) of a page."""
    if page.compression == 1 and page.nbytes > page.parent.filehandle.size:
        raise ValueError("the file ends before its pixels do")
    try:
        values = page.asarray()
    except (ValueError, ImportError) as error:
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            name = getattr(page.compression, "name", page.compression)
            raise Unfit(
                f"is compressed by {name}, which needs an extra",
                "pip install 'petseg-bench[tiff]'",
            ) from error
        raise
    if page.axes == "SYX":
        values = values.transpose(1, 2, 0)
    elif page.axes not in ("YX", "YXS"):
        raise Unfit(f"has the axes {page.axes}", "save it as an image of height, width and bands")
    return np.atleast_3d(values)


def _to_bytes(values: np.ndarray, bits: int, spans: Sequence[Span] | None) -> np.ndarray:
    if spans is None:
        if values.dtype == np.uint8 and bits == 8:
            return values
        if values.dtype.kind not in "bu" or bits > 16:
            raise Unfit(
                f"stores {values.dtype}, {_extent(values)}, and does not say what is black and "
                "white",
                "declare it in the YAML file, as in `range: [0, 1]`",
            )
        spans = [(0, 2**bits - 1)]
    if len(spans) not in (1, values.shape[2]):
        raise Unfit(
            f"gives {_count(values.shape[2], 'band')}, but `range` in the YAML file has "
            f"{len(spans)}",
            "declare one for all, or one each",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unfit("holds values that are not finite numbers", "replace them")
    if values.dtype.kind not in "buif":
        raise Unfit(f"stores {values.dtype}", "convert it to numbers of 8 or 16 bits")
    out = np.empty(values.shape, np.uint8)
    for band in range(values.shape[2]):
        stored, span = values[..., band], spans[band % len(spans)]
        if stored.dtype in (np.uint8, np.uint16):  # a table is faster, and takes no memory
            table = _scaled(np.arange(np.iinfo(stored.dtype).max + 1), span)
            out[..., band] = table[stored]
        else:
            out[..., band] = _scaled(stored, span)
    return out


def _scaled(values: np.ndarray, span: Span) -> np.ndarray:
    low, high = span
    return np.rint(np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)).astype(
        np.uint8
    )


def _extent(values: np.ndarray) -> str:
    """The least and the largest value, for people."""
    if values.dtype.kind not in "uif":
        return "which are not real numbers"
    finite = values[np.isfinite(values)]
    return f"{finite.min():g} to {finite.max():g}" if finite.size else "none of them finite"


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1  # damaged EXIF states nothing
    return value if value in _TURNS else 1


def _turned_by_pillow(image: Image.Image) -> int:
    """The orientation that loading the image will undo; of TIFF only, whose tag it then removes."""
    value = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)
    return value if value in _TURNS else 1


_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
"""What makes an image of each orientation upright."""

_BACK = {6: 8, 8: 6}
"""The orientation whose turn undoes another's; the others undo themselves."""


def _turn(values: np.ndarray, turn: int) -> np.ndarray:
    return np.ascontiguousarray(_TURNS[turn](values))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
