"""The test images of a report's gallery, with what the methods made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.core.errors import UserError
from benchmark.data.base import Benchmark, read_example
from benchmark.data.palette import as_rgb, palette
from benchmark.results import predictions

if TYPE_CHECKING:
    from benchmark.analysis.leaderboard import Key
    from benchmark.reporting.html.images import Item

MOST = 12
"""Methods of a group beside each other on one image: the best ones, but see `gallery_items`."""


def gallery_items(
    runs: pd.DataFrame, root: Path, open_benchmark: Callable[[str], Benchmark]
) -> "tuple[list[Item], list[str]]":
    """Images, labels and the predictions that runs kept, of the lowest seed that has any.

    Args:
        runs: one row a record, with `folder`.
        root: what the runs were loaded from.
        open_benchmark: gives a benchmark by its name; may raise UserError.

    Returns:
        The items, and why benchmarks have none, a sentence each.
    """
    items: list[Item] = []
    notes = []
    done = runs[(runs["status"] == "done") & (runs["folder"] != "")]
    for name, part in done.groupby("benchmark", sort=True):
        maps = _kept(part, root)
        if not maps:
            notes.append(f"{name}: no run stored predictions, so the gallery has no images of it")
            continue
        try:
            items += _of_benchmark(open_benchmark(str(name)), maps)
        except UserError as error:
            notes.append(f"{name}: no images in the gallery: {error}")
    return items, notes


def _kept(runs: pd.DataFrame, root: Path) -> "dict[tuple[Key, str], dict[str, np.ndarray]]":
    """Maps by (group, method) and image, of the methods that scored best."""
    keys = [*GROUP, "method"]
    found: dict[tuple[Key, str], dict[str, np.ndarray]] = {}
    means = runs.groupby(keys)["metrics.miou"].mean().rename("mean").reset_index()
    means["place"] = means.groupby(GROUP)["mean"].rank(method="first", ascending=False)
    chosen = runs.merge(means[means["place"] <= MOST], on=keys)
    for names, part in chosen.sort_values(["mean", "seed"], ascending=[False, True]).groupby(
        keys, sort=False
    ):
        backbone, weights, protocol, method = map(str, names)
        for folder in part["folder"]:
            maps = predictions.read(root / folder)
            if maps:
                found[(backbone, weights, protocol), method] = maps
                break
    return found


def _of_benchmark(
    benchmark: Benchmark, maps: "dict[tuple[Key, str], dict[str, np.ndarray]]"
) -> "list[Item]":
    from benchmark.reporting.html.images import make_item

    items = []
    for id in sorted({id for kept in maps.values() for id in kept}):
        example = read_example(benchmark, id)
        label = predictions.thin(example.label)
        fitting = {
            key: kept[id]
            for key, kept in maps.items()
            if id in kept and kept[id].shape == label.shape
        }
        if fitting:
            image = predictions.thin(as_rgb(example.image))
            colours = palette(benchmark)
            items.append(
                make_item(benchmark.name, id, image, label, fitting, colours, benchmark.classes)
            )
    return items
