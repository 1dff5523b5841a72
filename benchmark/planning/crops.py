"""Crops against the images of a user's own sets.

The protocols of all other sets are settled, so nothing is said about them.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.spec import RunSpec
from benchmark.data.audit.padding import Padding, find_padding, patch_of, sizes_of
from benchmark.planning import own_sets
from benchmark.planning.catalogue import open_set


def padded(cells: Sequence[RunSpec], data: Path | None) -> dict[str, Padding]:
    """The sets whose images are smaller than the crop, by name.

    Args:
        cells: to be trained; all have one crop.
        data: data root.
    """
    found = {}
    for name in own_sets.given():
        own = [cell for cell in cells if cell.benchmark == name]
        if not own:
            continue
        try:
            sizes = sizes_of(open_set(name, data))
        except UserError:
            continue  # the checks of `plan` and `run` say why
        patches = {patch_of(cell.backbone) for cell in own}
        padding = find_padding(sizes, own[0].protocol.crop, patches)
        if padding is not None:
            found[name] = padding
    return found


def notes(cells: Sequence[RunSpec], data: Path | None) -> list[str]:
    """A sentence for each set whose images are smaller than the crop; see `padded`."""
    return [f"{name}: {one.what()}; {one.fix}" for name, one in padded(cells, data).items()]
