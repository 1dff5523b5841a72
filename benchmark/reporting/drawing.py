"""Draws the figures of a report on all cores, while the tables are written: there are dozens."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark.reporting.kept import Kept
from benchmark.reporting.pictures import Picture

_FEW = 4
"""Figures that are not worth other processes."""

_chosen: Sequence[Picture] = ()
_folder = Path()


@contextmanager
def drawing(
    chosen: Sequence[Picture], folder: Path, keep: Path | None = None
) -> Iterator[Callable[[], list[Path]]]:
    """Draws figures beside what the block does.

    Args:
        chosen: what to draw.
        folder: exists.
        keep: folder of figures that need not be drawn again; None = all are drawn.

    Yields:
        What waits for all of them and returns their files, in the order of the figures.
    """
    global _chosen, _folder
    kept = Kept(keep)
    found = {picture.stem: kept.fetch(picture, folder) for picture in chosen}
    _chosen, _folder = [one for one in chosen if found[one.stem] is None], folder

    def joined(drawn: Iterable[list[Path]]) -> list[Path]:
        for picture, files in zip(_chosen, drawn, strict=True):
            kept.keep(picture, files)
            found[picture.stem] = files
        kept.forget_others()
        return [path for picture in chosen for path in found[picture.stem] or ()]

    # Forked processes see the tables without a copy of them. Other systems do not fork well.
    workers = min(os.cpu_count() or 1, len(_chosen)) if sys.platform == "linux" else 1
    if workers < 2 or len(_chosen) <= _FEW:
        yield lambda: joined([_draw(number) for number in range(len(_chosen))])
        return
    # Loaded once, before the others are forked.
    import seaborn  # noqa: F401

    with multiprocessing.get_context("fork").Pool(workers, _leave_garbage) as pool:
        drawn = pool.map_async(_draw, range(len(_chosen)), chunksize=1)
        yield lambda: joined(drawn.get())


def _draw(number: int) -> list[Path]:
    from benchmark.reporting.figures import save_figure

    picture = _chosen[number]
    files = save_figure(picture.draw(), _folder / picture.stem)
    gc.collect()  # a figure is a knot of references
    return files


def _leave_garbage() -> None:
    # The runs that a forked process inherits are no garbage, and looking for some takes long.
    gc.freeze()
    gc.disable()
