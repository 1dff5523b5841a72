"""A sheet of examples of a benchmark, to look at."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, SPLITS, Benchmark, Split
from benchmark.data.palette import as_rgb, palette

WIDTH = 1500
"""Width of a sheet in pixels."""
POOL = 8
"""Examples looked at for each one shown."""
_BOX = (362, 300)
_GAP = 14
_TOP = 64
_TEXT = 15
_INK = (30, 30, 30)
_PALE = (110, 110, 110)
_STRIPE = (150, 150, 150)


class _Shown(NamedTuple):
    split: Split
    id: str
    image: Image.Image
    label: Image.Image
    pixels: np.ndarray


def contact_sheet(
    benchmark: Benchmark, count: int = 8, seed: int = 0, splits: Sequence[Split] = SPLITS
) -> Image.Image:
    """Draws examples beside their labels, with a legend of the classes that occur in them.

    The examples are drawn by the seed, in equal numbers from each split; among some more that are
    read, those are taken that show classes not yet shown, the rarest first. Void is striped.

    Args:
        benchmark: what to read.
        count: number of examples, at least 1; all, if there are fewer.
        seed: of the choice.
        splits: to take from.

    Returns:
        An RGB image, 1500 pixels wide.

    Examples that cannot be read are left out with a warning.

    Raises:
        DataError: none of the examples looked at can be read.

    Example:
        >>> from benchmark.data import available
        >>> sheet = contact_sheet(available()["streets"](), count=2)
        >>> sheet.width
        1500
    """
    colours = palette(benchmark)
    chosen = _choose(benchmark, count, seed, splits)
    shown = [_shown(benchmark, split, id, colours) for split, id in chosen]
    cells = [_cell(example) for example in shown]
    columns = max(1, (WIDTH - _GAP) // (max(cell.width for cell in cells) + _GAP))
    rows = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    legend = _legend(benchmark, np.sum([e.pixels for e in shown], axis=0), colours)
    heights = [max(cell.height for cell in row) + _GAP for row in rows]
    sheet = Image.new("RGB", (WIDTH, _TOP + sum(heights) + legend.height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 10), benchmark.title, fill=_INK, font=_font(20))
    about = (
        f"{benchmark.name}: {len(shown)} of "
        f"{sum(len(benchmark.ids(split)) for split in splits)} examples of {', '.join(splits)}, "
        f"seed {seed}; image and labels, striped = void"
    )
    draw.text((_GAP, 36), about, fill=_PALE, font=_font(_TEXT))
    y = _TOP
    for row, height in zip(rows, heights, strict=True):
        for k, cell in enumerate(row):
            sheet.paste(cell, (_GAP + k * (WIDTH - _GAP) // columns, y))
        y += height
    sheet.paste(legend, (_GAP, y))
    return sheet


def save(
    benchmark: Benchmark,
    path: Path,
    count: int = 8,
    seed: int = 0,
    splits: Sequence[Split] = SPLITS,
) -> Path:
    """Writes the contact sheet to a file, whose suffix decides the format.

    Raises:
        DataError: none of the examples can be read, or the file cannot be written.
    """
    sheet = contact_sheet(benchmark, count, seed, splits)
    try:
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be written ({error}); name a writable file that ends in .png"
        ) from None
    return path


def _choose(
    benchmark: Benchmark, count: int, seed: int, splits: Sequence[Split]
) -> list[tuple[Split, str]]:
    """Split and id of the examples to show, in the order of the splits."""
    rng = np.random.default_rng(seed)
    pools: dict[Split, dict[str, np.ndarray]] = {}
    problems: list[DataError] = []
    for split in splits:
        ids = benchmark.ids(split)
        pool = pools[split] = {}
        for k in rng.permutation(len(ids))[: max(1, POOL * count // len(splits))]:
            try:
                label = benchmark.read(ids[k])[1]
            except DataError as error:
                problems.append(error)
            else:
                pool[ids[k]] = np.bincount(label.ravel(), minlength=256)
    everything = [pixels for pool in pools.values() for pixels in pool.values()]
    if not everything:
        raise next(
            iter(problems),
            DataError(
                f"{benchmark.name}: the splits {', '.join(splits)} are empty; check its files"
            ),
        )
    if problems:
        warnings.warn(
            f"{len(problems)} of the examples looked at cannot be read and are left out, such "
            f"as {problems[0]}; `data audit {benchmark.name}` lists all",
            stacklevel=3,
        )
    holding = np.sum([pixels > 0 for pixels in everything], axis=0)
    weight = 1 / np.maximum(holding, 1)
    chosen: list[tuple[Split, str]] = []
    new = np.ones(256, dtype=bool)
    while len(chosen) < count and any(pools.values()):
        taken = Counter(split for split, _ in chosen)
        split = min((split for split in splits if pools[split]), key=lambda split: taken[split])
        pool = pools[split]
        # A few stray pixels of a class show nothing of it, but of a small one there is no more.
        gains = {
            id: weight[new] @ np.sqrt(pixels[new] / pixels.sum()) for id, pixels in pool.items()
        }
        best = max(gains, key=lambda id: gains[id])
        new &= pool.pop(best) == 0
        chosen.append((split, best))
    return sorted(chosen, key=lambda item: splits.index(item[0]))


def _shown(benchmark: Benchmark, split: Split, id: str, colours: np.ndarray) -> _Shown:
    image, label = benchmark.read(id)
    height, width = label.shape
    scale = min(_BOX[0] / width, _BOX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    photo = Image.fromarray(as_rgb(image)).resize(size, Image.Resampling.LANCZOS)
    small = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    pixels = np.bincount(label.ravel(), minlength=256)
    return _Shown(split, id, photo, Image.fromarray(_drawn(small, colours)), pixels)


def _drawn(label: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Labels (H, W) in colour, with dark contours between classes and stripes on void."""
    drawn = colours[label]
    rows, columns = np.indices(label.shape)
    drawn[(label == IGNORE) & ((rows + columns) % 8 < 2)] = _STRIPE
    edge = np.zeros(label.shape, dtype=bool)
    edge[:-1] |= label[:-1] != label[1:]
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    drawn[edge] = drawn[edge] // 3
    return drawn


def _cell(example: _Shown) -> Image.Image:
    width, height = example.image.size
    cell = Image.new("RGB", (2 * width + 4, height + 22), "white")
    cell.paste(example.image, (0, 0))
    cell.paste(example.label, (width + 4, 0))
    font = _font(_TEXT)
    room = cell.width - font.getlength(f"{example.split}: ")
    text = f"{example.split}: {_shortened(example.id, font, room)}"
    ImageDraw.Draw(cell).text((0, height + 2), text, fill=_INK, font=font)
    return cell


def _legend(benchmark: Benchmark, pixels: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Swatch, name and share of each value that occurs, in columns read downwards."""
    font, line, swatch = _font(_TEXT), 24, 26
    values = [int(value) for value in np.flatnonzero(pixels)]
    entries = [(value, _name(benchmark, value), pixels[value] / pixels.sum()) for value in values]
    texts = [f"{name}  {_percent(share)}" for _, name, share in entries]
    room = WIDTH - 2 * _GAP
    column = min(room, int(max(map(font.getlength, texts))) + swatch + 34)
    columns = max(1, min(len(entries), room // column))
    rows = -(-len(entries) // columns)
    legend = Image.new("RGB", (room, rows * line + 30), "white")
    draw = ImageDraw.Draw(legend)
    known = sum(value < len(benchmark.classes) for value in values)
    heading = f"{known} of {len(benchmark.classes)} classes, share of the pixels shown"
    draw.text((0, 2), heading, fill=_PALE, font=font)
    for k, ((value, _, _), text) in enumerate(zip(entries, texts, strict=True)):
        x, y = k // rows * column, 30 + k % rows * line
        patch = np.full((line - 6, swatch), value, dtype=np.uint8)
        legend.paste(Image.fromarray(_drawn(patch, colours)), (x, y))
        draw.rectangle((x, y, x + swatch - 1, y + line - 7), outline=_PALE)
        text = _shortened(text, font, column - swatch - 14)
        draw.text((x + swatch + 8, y - 1), text, fill=_INK, font=font)
    return legend


def _name(benchmark: Benchmark, value: int) -> str:
    if value == IGNORE:
        return "void"
    if value >= len(benchmark.classes):
        return f"value {value}, no class"
    return benchmark.classes[value]


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, its beginning cut off where there is no room: the ends of ids differ."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength("…" + text) > room:
        text = text[1:]
    return "…" + text


def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    # The font that comes with matplotlib: the same on every machine, with letters of most scripts.
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
