from pathlib import Path

import numpy as np
import pytest

from benchmark.data import available
from benchmark.data.base import IGNORE, SPLITS
from benchmark.data.cache import open_split

pytestmark = [pytest.mark.realdata, pytest.mark.no_torch]

COUNTS = {
    "camvid": [(184, 26, 78), (367, 101, 233)],
    "dubai": [(42, 7, 14), (48, 8, 16)],
    "wbc": [(240, 40, 120)],
    "mtd": [(271, 45, 136), (806, 134, 404)],
    "ccp": [(200, 30, 70), (669, 100, 235)],
    "chase_db1": [(16, 4, 8)],
    "stare": [(8, 2, 10)],
}
"""Train, val, test: of the subset, then of the full set at its origin where that is larger."""


SLOW = {"ccp": pytest.mark.slow, "dubai": pytest.mark.slow}  # large images


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in COUNTS])
def test_set(name: str, data_root: Path) -> None:
    benchmark = available()[name](data_root)
    ids = {split: benchmark.ids(split) for split in SPLITS}
    assert tuple(len(ids[split]) for split in SPLITS) in COUNTS[name]
    assert len(set().union(*ids.values())) == sum(map(len, ids.values()))

    pixels = np.zeros(256, dtype=np.int64)
    for split in SPLITS:
        # Sizes and values are what open_split audits.
        for example in open_split(benchmark, split):
            pixels += np.bincount(example.label.ravel(), minlength=256)
    n = len(benchmark.classes)
    assert pixels[:n].all(), "a class occurs nowhere"
    assert not pixels[n:IGNORE].any()
    assert bool(pixels[IGNORE]) == (name in ("camvid", "dubai"))
    assert pixels[IGNORE] < 0.05 * pixels.sum()
