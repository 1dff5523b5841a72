"""Predictions of a run as pictures."""

from pathlib import Path

import numpy as np

from benchmark.core.errors import UserError
from benchmark.data.base import read_example
from benchmark.data.palette import as_rgb, palette
from benchmark.execution.splits import open_benchmark
from benchmark.results import predictions

SHOWN = 3
"""Images of a run; all runs of a benchmark show the same."""


def samples(folder: Path, benchmark: str, data: Path | None) -> dict[str, np.ndarray]:
    """Image, label and prediction side by side, of some of the images that a run kept.

    Args:
        folder: of the run.
        benchmark: its benchmark.
        data: data root of benchmarks that read files.

    Returns:
        (H, 3 W, 3) uint8 by image; none of images that cannot be read any more.
    """
    pictures = {}
    kept = predictions.read(folder)
    try:
        opened = open_benchmark(benchmark, data)
        colours = palette(opened)
        for id in sorted(kept)[:SHOWN]:
            example = read_example(opened, id)
            image, label = (predictions.thin(part) for part in (example.image, example.label))
            if kept[id].shape == label.shape:
                parts = [as_rgb(image), colours[label], colours[kept[id]]]
                pictures[id] = np.ascontiguousarray(np.concatenate(parts, axis=1))
    except UserError:
        pass  # the runs go on without pictures
    return pictures
