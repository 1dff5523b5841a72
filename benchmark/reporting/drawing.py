"""Draws the figures of a report, on all cores: a figure takes a second, and there are dozens."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.reporting.pictures import Picture

_FEW = 4
"""Figures that are not worth other processes."""

_chosen: Sequence[Picture] = ()
_folder = Path()


def draw(chosen: Sequence[Picture], folder: Path) -> list[Path]:
    """Draws figures into a folder.

    Args:
        chosen: what to draw.
        folder: exists.

    Returns:
        The files, in the order of the figures.
    """
    global _chosen, _folder
    _chosen, _folder = chosen, folder
    # Forked processes see the tables without a copy of them. Other systems do not fork well.
    workers = min(os.cpu_count() or 1, len(chosen)) if sys.platform == "linux" else 1
    if workers == 1 or len(chosen) <= _FEW:
        drawn = [_draw(number) for number in range(len(chosen))]
    else:
        # Loaded once, before the others are forked.
        import seaborn  # noqa: F401

        with multiprocessing.get_context("fork").Pool(workers) as pool:
            drawn = pool.map(_draw, range(len(chosen)), chunksize=1)
    return [path for files in drawn for path in files]


def _draw(number: int) -> list[Path]:
    from benchmark.reporting.figures import save_figure

    picture = _chosen[number]
    return save_figure(picture.draw(), _folder / picture.stem)
