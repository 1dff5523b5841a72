"""Draws the figures of a report on all cores, while the tables are written: there are dozens."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark.reporting.pictures import Picture

_FEW = 4
"""Figures that are not worth other processes."""

_chosen: Sequence[Picture] = ()
_folder = Path()


@contextmanager
def drawing(chosen: Sequence[Picture], folder: Path) -> Iterator[Callable[[], list[Path]]]:
    """Draws figures beside what the block does.

    Args:
        chosen: what to draw.
        folder: exists.

    Yields:
        What waits for all of them and returns their files, in the order of the figures.
    """
    global _chosen, _folder
    _chosen, _folder = chosen, folder
    # Forked processes see the tables without a copy of them. Other systems do not fork well.
    workers = min(os.cpu_count() or 1, len(chosen)) if sys.platform == "linux" else 1
    if workers < 2 or len(chosen) <= _FEW:
        yield lambda: _joined([_draw(number) for number in range(len(chosen))])
        return
    # Loaded once, before the others are forked.
    import seaborn  # noqa: F401

    with multiprocessing.get_context("fork").Pool(workers) as pool:
        drawn = pool.map_async(_draw, range(len(chosen)), chunksize=1)
        yield lambda: _joined(drawn.get())


def _draw(number: int) -> list[Path]:
    from benchmark.reporting.figures import save_figure

    picture = _chosen[number]
    return save_figure(picture.draw(), _folder / picture.stem)


def _joined(drawn: Sequence[list[Path]]) -> list[Path]:
    return [path for files in drawn for path in files]
