"""Colours in which the classes of a benchmark are drawn."""

from collections.abc import Sequence

import numpy as np

from benchmark.core.errors import DataError
from benchmark.data.base import IGNORE, Benchmark

VOID = (232, 232, 232)
"""Colour of pixels that count nowhere: one that no class of PASCAL VOC's map has."""


DISTINCT = tuple(
    f"#{colour}"
    for colour in (
        *("e6194b", "3cb44b", "ffe119", "4363d8", "f58231", "911eb4", "42d4f4", "f032e6"),
        *("bfef45", "fabed4", "469990", "dcbeff", "9a6324", "fffac8", "800000", "aaffc3"),
        *("808000", "ffd8b1", "000075", "a9a9a9"),
    )
)
"""Colours that are easy to tell apart, the most different ones first.

Source: Trubetskoy, List of 20 Simple, Distinct Colors, 2017."""


def distinct_colours(classes: Sequence[str]) -> tuple[str, ...]:
    """Colours for classes that have none: `#RRGGBB` of each, and black for the background.

    Args:
        classes: names.

    Returns:
        Nothing where there are more classes than such colours: then PASCAL VOC's map serves.
    """
    if len(classes) > len(DISTINCT):
        return ()
    free = iter(DISTINCT)
    return tuple("#000000" if name.lower() == "background" else next(free) for name in classes)


def palette(benchmark: Benchmark | type[Benchmark]) -> np.ndarray:
    """The colour of each label value of a benchmark, or of its class; see `colour_table`."""
    return colour_table(benchmark.colours, len(benchmark.classes), benchmark.name)


def colour_table(colours: Sequence[str], classes: int, name: str) -> np.ndarray:
    """The colour of each label value.

    The first colours are the benchmark's own where its makers have fixed them; all others are
    those of PASCAL VOC's colour map.

    Args:
        colours: `#RRGGBB` of each class, or nothing.
        classes: how many there are.
        name: of the benchmark, for the error.

    Returns:
        (256, 3) uint8, RGB by label value; void is light grey.

    Raises:
        DataError: the colours are not one `#RRGGBB` for each class.
    """
    table = voc_colours()
    if colours:
        try:
            own = [bytes.fromhex(colour.removeprefix("#")) for colour in colours]
        except ValueError:
            own = []
        if len(own) != classes or any(len(rgb) != 3 for rgb in own):
            raise DataError(
                f"{name}: 'colours' must hold one #RRGGBB for each of its {classes} classes, or "
                "nothing"
            )
        table[: len(own)] = [tuple(rgb) for rgb in own]
    table[IGNORE] = VOID
    return table


def voc_colours() -> np.ndarray:
    """The colour map of the PASCAL VOC challenge, 256 colours that are all different.

    The bits of a label value, lowest first, go to red, green and blue in turn, and in each channel
    from the highest bit down, so that small values are far apart.

    Source: function `VOClabelcolormap` of the VOC 2012 development kit (Everingham, Winn: "The
    PASCAL Visual Object Classes Challenge 2012 Development Kit", 2012).

    Returns:
        (256, 3) uint8, RGB.
    """
    values = np.arange(256)
    table = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        table[:, channel] |= ((values >> bit & 1) << place).astype(np.uint8)
    return table


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as people are shown it: its first three channels, or the first as grey."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
