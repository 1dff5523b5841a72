"""Draws the figures of a report on all cores, while the tables are written: there are dozens."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark.core.parallel import spread
from benchmark.reporting.figures.cache import FigureCache
from benchmark.reporting.figures.picture import Picture

_FEW = 4
"""Figures that are not worth other processes."""


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
    cache = FigureCache(keep)
    found = {picture.stem: cache.fetch(picture, folder) for picture in chosen}
    new = [one for one in chosen if found[one.stem] is None]
    worth = len(new) > _FEW
    if worth:
        # Loaded once, before other processes are forked.
        import seaborn  # noqa: F401

    with spread(lambda picture: _draw(picture, folder), new, worth) as drawn:

        def joined() -> list[Path]:
            for picture, files in zip(new, drawn(), strict=True):
                cache.keep(picture, files)
                found[picture.stem] = files
            cache.forget_others()
            return [path for picture in chosen for path in found[picture.stem] or ()]

        yield joined


def _draw(picture: Picture, folder: Path) -> list[Path]:
    from benchmark.reporting.figures.pareto import save_figure

    files = save_figure(picture.draw(), folder / picture.stem)
    gc.collect()  # a figure is a knot of references
    return files
