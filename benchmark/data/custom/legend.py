"""Names of classes in a text file beside the images, as many sets and tools of annotation have it.

A line names a class and what labels store of it, in either order: `skin: R255 G200 B150`,
`64 128 64<tab>Animal`, `road,128,64,128`, `2 = nut`, `car #0000FF`. Other lines are left out.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".txt", ".csv", ".tsv")
LARGEST = 2**16
"""Bytes of a file beyond which it is no legend."""

_NAME = r"(?P<name>[^\W\d_][^,;:=#\t]*?)"
_RGB = r"\(?\s*R?\s*(?P<r>\d{1,3})[\s,;]+G?\s*(?P<g>\d{1,3})[\s,;]+B?\s*(?P<b>\d{1,3})\s*\)?"
_VALUE = rf"(?:#(?P<hex>[0-9a-fA-F]{{6}})|{_RGB}|(?P<index>\d{{1,3}}))"
_BETWEEN = r"[\s,;:=]+"
_LINES = tuple(
    re.compile(rf"\s*{first}{_BETWEEN}{second}[\s,;]*")
    for first, second in ((_NAME, _VALUE), (_VALUE, _NAME))
)


_UNLABELLED = re.compile(r"(un|not[ _-]?)label+ed|void|ignored?|do ?n.?t[ _-]?care", re.IGNORECASE)


class Legend(NamedTuple):
    """Names by what labels store: an index, or a colour as 0xRRGGBB; perhaps not of all."""

    path: Path
    names: dict[int, str]

    @property
    def void(self) -> list[int]:
        """What by its name nobody labelled; nothing where fewer than two classes would be left."""
        found = [value for value, name in self.names.items() if _UNLABELLED.fullmatch(name)]
        return found if len(self.names) - len(found) > 1 else []


def find_legend(folder: Path, stored: Mapping[int, int], colours: bool) -> Legend | None:
    """The legend that names most of what labels store; None where no file names over half of it.

    Args:
        folder: that holds the file.
        stored: pixels of each index that labels store, or of each colour as 0xRRGGBB.
        colours: whether they are colours.
    """
    best: Legend | None = None
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix.lower() not in SUFFIXES or path.stat().st_size > LARGEST:
                continue
            named = _read(path.read_text("utf-8-sig"), colours)
        except (OSError, UnicodeError):
            continue
        here = {value: named[value] for value in named if value in stored}
        pixels = sum(stored[value] for value in here)
        few = len(here) < 2 or 2 * pixels <= sum(stored.values())
        if few or len(set(here.values())) < len(here):
            continue
        if best is None or len(here) > len(best.names):
            best = Legend(path, here)
    return best


def _read(text: str, colours: bool) -> dict[int, str]:
    """Names by value; of lines that give one value two names, none counts."""
    found: dict[int, str] = {}
    twice: set[int] = set()
    for line in text.splitlines():
        match = next((match for form in _LINES if (match := form.fullmatch(line))), None)
        if match is None:
            continue
        value = _value(match)
        if value is None or (match["index"] is None) is not colours:
            continue
        name = match["name"].strip()
        twice |= {value} if found.setdefault(value, name) != name else set()
    return {value: name for value, name in found.items() if value not in twice}


def _value(match: "re.Match[str]") -> int | None:
    if match["hex"]:
        return int(match["hex"], 16)
    if match["index"]:
        index = int(match["index"])
        return index if index < 256 else None
    r, g, b = (int(match[name]) for name in "rgb")
    return (r << 16) | (g << 8) | b if max(r, g, b) < 256 else None
