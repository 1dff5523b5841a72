"""What runs need that is not here: weights and data, as `run` would miss them.

Nothing is built, decoded or downloaded, so what a model itself refuses (the size of its images, a
method) shows only in the checks of `run`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.core.errors import UserError
from benchmark.core.spec import RunSpec
from benchmark.data.base import Split
from benchmark.data.cache import ids_of
from benchmark.models.find_weights import check_names, find_weights
from benchmark.planning.catalogue import open_set


class Requirements(NamedTuple):
    """What is not here.

    Attributes:
        refusals: why runs cannot start, by run id; the line that `run` says.
        downloads: backbones whose weights `run` will download.
    """

    refusals: dict[str, str]
    downloads: list[str]


def require(cells: Sequence[RunSpec], data: Path | None, weights: Sequence[Path]) -> Requirements:
    """Looks for the weights and data of runs.

    Raises:
        UserError: there is no such backbone.
    """
    check_names(dict.fromkeys(cell.backbone for cell in cells), weights)
    missing, downloads = _missing_weights(cells, weights)
    without = _missing_data(cells, data)
    refusals = {}
    for cell in cells:
        reason = missing.get(cell.backbone, "") if cell.weights == "pretrained" else ""
        for split in _splits(cell):
            reason = reason or without.get((cell.benchmark, split), "")
        if reason:
            refusals[cell.run_id] = reason
    return Requirements(refusals, downloads)


def _missing_weights(
    cells: Sequence[RunSpec], weights: Sequence[Path]
) -> tuple[dict[str, str], list[str]]:
    missing, downloads = {}, []
    for name in dict.fromkeys(cell.backbone for cell in cells if cell.weights == "pretrained"):
        try:
            if find_weights(name, weights) is not None:
                continue
            from benchmark.models.weights import resolve_weights  # takes torch, for seconds

            if resolve_weights(name, "pretrained", weights).path is None:
                downloads.append(name)
        except UserError as error:
            missing[name] = str(error)
    return missing, downloads


def _missing_data(cells: Sequence[RunSpec], data: Path | None) -> dict[tuple[str, Split], str]:
    missing = {}
    for name, split in dict.fromkeys((c.benchmark, split) for c in cells for split in _splits(c)):
        try:
            ids_of(open_set(name, data), split)
        except UserError as error:
            missing[name, split] = str(error)
    return missing


def _splits(cell: RunSpec) -> tuple[Split, Split]:
    return "train", cell.protocol.eval_split
