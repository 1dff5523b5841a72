"""Published numbers, read from CSV files of several forms into one."""

import csv
import math
from pathlib import Path

import pandas as pd

from benchmark.core.errors import UserError

COLUMNS = [
    "method",
    "backbone",
    "decoder",
    "benchmark",
    "miou",
    "params",
    "counts",
    "memory_bytes",
    "source",
]
"""What `read_reference` returns."""

_TEXTS = ("method", "backbone", "decoder", "source")
_MIOU = ("miou", "miou_ss", "miou_average")
_PARAMS = {"params_total_trainable": "total trainable", "params_backbone": "backbone"}
_MEMORY = "train_memory"
_UNITS = {"_m": 1e6, "_mb": 1e6, "_k": 1e3, "_gb": 1e9}


def read_reference(path: Path) -> pd.DataFrame:
    """Reads published numbers.

    The file is a CSV in UTF-8 with a header: `method`, `backbone`, `decoder`, `source`, one of
    `miou`, `miou_ss` (single scale) or `miou_average` in percent, one of `params_total_trainable_m`
    or `params_backbone_m` in millions, and, if known, `train_memory_mb` (10^6 bytes; more words may
    follow) and `benchmark`. Other columns are left out.

    Args:
        path: of the file.

    Returns:
        One row a line: `method`, `backbone`, `decoder`, `benchmark` (where the file does not say,
        its name up to the first underscore: ade20k of `ade20k_swin.csv`), `miou` in [0, 1],
        `params` (a number), `counts` ("total trainable" with the decoder, or "backbone"),
        `memory_bytes` (NaN if unknown), `source`.

    Raises:
        UserError: the file cannot be read, lacks a column, or holds a value that cannot be.
    """
    lines = _lines(path)
    header = list(lines[0][1])
    missing = [name for name in _TEXTS if name not in header]
    if missing:
        raise UserError(f"{path}: column {missing[0]} is missing; add it to the header")
    miou = next((name for name in _MIOU if name in header), None)
    if miou is None:
        raise UserError(f"{path}: no column {', '.join(_MIOU)}; add one of them, in percent")
    params = next((name for name in header if name.rpartition("_")[0] in _PARAMS), None)
    if params is None:
        raise UserError(
            f"{path}: no column {' or '.join(f'{name}_m' for name in _PARAMS)}; add one of them, "
            "in millions"
        )
    memory = next((name for name in header if name.startswith(f"{_MEMORY}_")), None)
    unit = f"_{memory.removeprefix(_MEMORY).split('_')[1]}" if memory else ""
    rows = []
    for number, line in lines:
        where = f"{path}, line {number}"
        texts = {name: _text(line, name, where) for name in _TEXTS}
        score = _number(line, miou, where)
        count = _number(line, params, where)
        if math.isnan(score) or math.isnan(count):
            empty = miou if math.isnan(score) else params
            raise UserError(f"{where}: {empty} is empty; fill it in or remove the line")
        size = _number(line, memory, where) if memory else math.nan
        if not 0 <= score <= 100:
            raise UserError(f"{where}: {miou}={score:g} is not a percentage; write 0 to 100")
        scale = _scale(params, f"_{params.rpartition('_')[2]}", path)
        other = {
            "benchmark": (line.get("benchmark") or "").strip() or path.stem.partition("_")[0],
            "miou": score / 100,
            "params": count * scale,
            "counts": _PARAMS[params.rpartition("_")[0]],
            "memory_bytes": size * _scale(str(memory), unit, path) if memory else size,
        }
        rows.append(texts | other)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if frame["miou"].max() <= 0.01:
        raise UserError(f"{path}: {miou} is 1 at most, so it holds fractions; write percent (48.3)")
    return frame


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows below the header, with the numbers of the lines on which they end."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader]
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give the path of a CSV file"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8; save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}); separate values by commas") from error
    if not lines:
        raise UserError(
            f"{path} has no line below its header; add published numbers, or omit --reference"
        )
    for number, line in lines:
        if None in line or None in line.values():
            raise UserError(
                f"{path}, line {number}: not as many values as the header has columns; quote "
                "values that hold a comma"
            )
    return lines


def _text(line: dict[str, str], name: str, where: str) -> str:
    text = " ".join(line[name].split())
    if not text:
        raise UserError(f"{where}: {name} is empty; fill it in")
    return text


def _number(line: dict[str, str], name: str, where: str) -> float:
    """A number that is not negative; NaN where the cell is empty."""
    text = line[name].strip()
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where}: {name}={text!r} is not a number of 0 or more; correct it")
    return number


def _scale(name: str, unit: str, path: Path) -> float:
    if unit not in _UNITS:
        raise UserError(f"{path}: the unit of column {name} is not known; end it in _m or _mb")
    return _UNITS[unit]
