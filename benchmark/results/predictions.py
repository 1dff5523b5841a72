"""Predicted label maps of a few images that every run keeps, to look at methods side by side.

All runs of a benchmark keep the same images. `predictions.npz` is beside a record: `ids` (n,) and
one array `0`, `1`, ... (h, w) uint8 of class indices for each, no longer than `LONGEST_SIDE`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.core.seeding import stream
from benchmark.data.base import Example
from benchmark.results.npz import DAMAGE, write_npz

KEPT = 6
"""Images of a split."""

LONGEST_SIDE = 384
"""Pixels; a larger map is thinned out to every n-th pixel."""


def choose(ids: Sequence[str], benchmark: str) -> set[str]:
    """The images that are kept, drawn by the benchmark's name alone."""
    order = stream(0, "predictions", benchmark).permutation(len(ids))
    return {sorted(ids)[number] for number in order[:KEPT]}


def thin(values: np.ndarray) -> np.ndarray:
    """Every n-th pixel of a map or an image (H, W[, 3]), so that no side is too long."""
    step = -(-max(values.shape[:2]) // LONGEST_SIDE)
    return values[::step, ::step]


class PredictionRecorder:
    """Receives every prediction of an evaluation and keeps the chosen ones.

    Args:
        ids: of the split.
        benchmark: its name.
    """

    def __init__(self, ids: Sequence[str], benchmark: str) -> None:
        self.maps: dict[str, np.ndarray] = {}
        self._ids = ids
        self._chosen = choose(ids, benchmark)

    def __call__(self, example: Example, predicted: np.ndarray) -> None:
        """Takes the prediction (H, W) of an image."""
        if example.id in self._chosen:
            self.maps[example.id] = thin(predicted).astype(np.uint8)

    def take(self, maps: Mapping[str, np.ndarray]) -> None:
        """Takes what recorders of other parts of the split keep, too; in the split's order."""
        every = self.maps | dict(maps)
        self.maps = {id: every[id] for id in self._ids if id in every}

    def write(self, folder: Path) -> None:
        """Writes predictions.npz."""
        arrays = {str(number): values for number, values in enumerate(self.maps.values())}
        write_npz(folder / "predictions.npz", {"ids": np.array([*self.maps]), **arrays})


def read(folder: Path) -> dict[str, np.ndarray]:
    """Predicted maps by image; empty where there are none that can be read."""
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as archive:
            ids = [str(id) for id in archive["ids"]]
            return {id: archive[str(number)] for number, id in enumerate(ids)}
    except DAMAGE:
        return {}
