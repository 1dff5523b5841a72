"""From records to samples: scores of methods x seeds on a benchmark, and their per-image counts.

Test images are crossed with seeds and methods: every run of a benchmark was evaluated on the same
ones. Counts are streamed, so that thousands of runs need little memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.results.counts_archive import Archive, Fingerprint

Group = tuple[str, str, str]
Place = tuple[int, int]
"""Row (method) and column (seed) in a block."""
Counts = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Pixels of intersection and of union, (N, K) each."""

_SHARED = ("ids", "label")


@dataclass(frozen=True)
class Block:
    """What is crossed: the finished methods of one benchmark in one group, and their seeds.

    Attributes:
        group: backbone, weights, protocol hash.
        benchmark: its name.
        methods: M names, sorted; none has a failed seed.
        seeds: L seeds, sorted; all that any of the methods has.
        miou: (M, L) in [0, 1], of the records; NaN where a method lacks a seed.
        folders: (M, L) of each run, relative to the results folder; "" where it is not known.
    """

    group: Group
    benchmark: str
    methods: list[str]
    seeds: list[int]
    miou: NDArray[np.float64]
    folders: NDArray[np.object_]


@dataclass(frozen=True)
class Images:
    """The test images of a block, and which of its runs can be resampled over them.

    Attributes:
        ids: (N,) of the images that have labelled pixels.
        present: (N, K) whether an image has pixels of a class.
        runs: (row, column) of the runs in the block, and how to get their counts.
        problems: run and reason, for the runs that are left out.
    """

    ids: NDArray[np.str_]
    present: NDArray[np.bool_]
    runs: list[tuple[Place, "Source"]]
    problems: list[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """Where the counts of one run come from.

    Attributes:
        archive: its images.npz.
        rows: (N,) rows of the archive, in the order of the block's images.
        label: (N, K) pixels, the same for all runs.
    """

    archive: Archive
    rows: NDArray[np.intp]
    label: NDArray[np.int64]

    def counts(self) -> Counts:
        """Intersection and union of the run.

        Raises:
            ValueError: the arrays do not fit.
            Exception: the archive is damaged.
        """
        intersection, prediction = (
            self.archive[name][self.rows] for name in ("intersection", "prediction")
        )
        if not intersection.shape == prediction.shape == self.label.shape:
            raise ValueError("shapes do not fit")
        union = prediction + self.label - intersection
        return intersection.astype(np.float32), union.astype(np.float32)


def blocks(current: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Block]:
    """Yields the blocks of a table of records, sorted by group and benchmark.

    Cells with a failed seed are left out; of several runs of a cell and seed the latest counts.

    Args:
        current: what `benchmark.analysis.leaderboard.current` returned.
        cells: what `benchmark.analysis.leaderboard.cells` makes of it.
    """
    keys = [*GROUP, "benchmark", "method"]
    frame = current.reindex(columns=[*keys, "seed", MIOU, "folder"])
    frame = frame.merge(cells.loc[cells["status"] == "done", keys], on=keys)
    frame["folder"] = frame["folder"].astype(object).where(frame["folder"].notna(), "")
    for key, part in frame.groupby([*GROUP, "benchmark"], sort=True):
        backbone, weights, protocol, benchmark = map(str, key)
        miou = part.pivot(index="method", columns="seed", values=MIOU)
        folders = part.pivot(index="method", columns="seed", values="folder")
        yield Block(
            group=(backbone, weights, protocol),
            benchmark=benchmark,
            methods=list(map(str, miou.index)),
            seeds=[int(seed) for seed in miou.columns],
            miou=miou.to_numpy(dtype=float),
            folders=folders.fillna("").to_numpy(dtype=object),
        )


def images(block: Block, root: Path) -> Images:
    """Opens the counts of a block's runs and aligns their images by id.

    The images are those of most runs (of the first method's, where it is a draw). A run with other
    images or labels, or without a readable file, is a problem; it keeps its score and its seed.

    Args:
        block: of `blocks`.
        root: the results folder that the block's folders are relative to.
    """
    archives: dict[Place, Archive] = {}
    alike: dict[Fingerprint, list[Place]] = {}
    problems = []
    for row, column in np.argwhere(np.isfinite(block.miou)).tolist():
        place = (row, column)
        try:
            if not block.folders[place]:
                raise ValueError("its folder is not known")
            archive = Archive(f"{root}/{block.folders[place]}/images.npz")
            alike.setdefault(archive.fingerprint(*_SHARED), []).append(place)
            archives[place] = archive
        except Exception as error:  # a torn archive makes its reader raise almost anything
            problems.append(problem(block, place, error))
    reference, sources = None, []
    for places in sorted(alike.values(), key=len, reverse=True):
        shared = None
        while places and shared is None:
            try:
                shared = _shared(archives[places[0]])
            except Exception as error:
                problems.append(problem(block, places.pop(0), error))
        if shared is None:
            continue
        reference = reference or shared
        try:
            rows = _rows(*shared, *reference)
            sources += [(place, Source(archives[place], rows, reference[1])) for place in places]
        except ValueError as error:
            problems += [problem(block, place, error) for place in places]
    ids, label = reference or (np.array([], dtype=str), np.zeros((0, 0), dtype=int))
    # Images without labels carry no information, and a draw of only such images has no mIoU.
    kept = label.sum(1) > 0
    runs = [
        (place, Source(one.archive, one.rows[kept], label[kept])) for place, one in sorted(sources)
    ]
    return Images(ids[kept], label[kept] > 0, runs, problems)


def problem(block: Block, place: Place, error: Exception) -> tuple[str, str]:
    """A run of a block, and why its counts cannot be used."""
    name = f"{block.methods[place[0]]} seed {block.seeds[place[1]]}"
    if isinstance(error, FileNotFoundError):
        return name, "no images.npz"
    return name, str(error) if type(error) is ValueError else "images.npz is damaged"


def _shared(archive: Archive) -> tuple[NDArray[Any], NDArray[Any]]:
    ids, label = (archive[name] for name in _SHARED)
    if label.ndim != 2 or ids.shape != label.shape[:1] or len(np.unique(ids)) != len(ids):
        raise ValueError("ids and labels do not fit")
    return ids, label


def _rows(
    ids: NDArray[Any], label: NDArray[Any], wanted: NDArray[Any], labels: NDArray[Any]
) -> NDArray[np.intp]:
    """The rows that bring ids and labels into the order of those wanted."""
    order, usual = np.argsort(ids), np.argsort(wanted)
    if not np.array_equal(ids[order], wanted[usual]):
        raise ValueError("other images")
    rows = np.empty(len(ids), dtype=np.intp)
    rows[usual] = order
    if not np.array_equal(label[rows], labels):
        raise ValueError("other labels")
    return rows
