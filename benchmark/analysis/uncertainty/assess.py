"""One call from records to every statistic of a report that carries its uncertainty."""

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, MIOU, split_groups
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import cache as disk
from benchmark.analysis.uncertainty import family, tables
from benchmark.analysis.uncertainty.agreement import agreements, protocols, with_published
from benchmark.analysis.uncertainty.bootstrap import resample
from benchmark.analysis.uncertainty.group import GroupSample
from benchmark.analysis.uncertainty.samples import blocks
from benchmark.core.parallel import spread

_FEW = 500
"""Runs whose images are not worth other processes to draw from."""

_INTERVAL = [MIOU, "low", "high"]
_RANK = ["rank", "rank_to"]
_COLUMNS = {
    "cells": ["benchmark", "method", *_INTERVAL, *_RANK, "seeds", "images", "covers"],
    "board": ["method", *_INTERVAL, *_RANK, "seeds", "complete", "covers"],
    "shared": ["method", *_INTERVAL, *_RANK, "seeds", "complete", "covers"],
    "pairs": list(family.COLUMNS),
    "ranks": ["method", "average_rank", "cells", "critical_difference"],
    "friedman": ["methods", "cells", "critical_difference", "statistic", "p"],
    "cliques": ["clique", "method"],
    "iqm": ["method", "iqm", "low", "high", "cells"],
    "improvement": ["method_a", "method_b", "probability"],
    "fronts": ["benchmark", "cost", "method", "on_front", "probability"],
    "hypervolumes": ["cost", "value", "low", "high"],
    "own_hypervolumes": ["cost", "method", "value", "low", "high"],
    "agreement": ["kind", "a", "b", "tau", "p", "methods", "benchmarks"],
}


@dataclass(frozen=True)
class Assessment:
    """Tables that all start with the columns of GROUP; mIoU and intervals (95 %) are fractions.

    `benchmark` is "average" for means over benchmarks. `covers` is what an interval is about:
    "seeds and images", "images" (one seed), "seeds" (no counts) or "nothing".

    Attributes:
        cells: a row a benchmark and method: mIoU, low, high, rank, rank_to, seeds, images,
            covers; NaN where a seed failed.
        board: methods by mean over benchmarks: mIoU, low, high, rank and rank_to (the places that
            the tests leave open; missing if not all are finished), seeds (fewest), complete
            ("4/5"), covers.
        shared: the same over the benchmarks that every method with a result finished, of the
            groups in which these are not all.
        pairs: method_a (the better mean), method_b, difference a - b, low, high, p, p_holm over
            the pairs of the same benchmark, significant, covers, benchmarks (how many both have).
        ranks: average rank over `cells` benchmarks, critical_difference of the group (or NaN).
        friedman: one row a group: methods, cells, critical_difference, statistic, p.
        cliques: methods that are not distinguishable: number of the clique, method.
        iqm: interquartile mean over benchmarks x seeds, with interval.
        improvement: probability that a run of method_a beats one of method_b.
        fronts: by cost: on_front by the means, probability over the replicates.
        hypervolumes: by cost, in decades x mIoU: value, low, high, on average over benchmarks.
        own_hypervolumes: the same for each method alone.
        agreement: Kendall's tau between two backbones, decoders or benchmarks, or between ours and
            a published table (`kind`), named a and b; the column of GROUP in which the two differ
            is "".
        notes: limits of the numbers, a sentence each.
    """

    cells: pd.DataFrame
    board: pd.DataFrame
    shared: pd.DataFrame
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    friedman: pd.DataFrame
    cliques: pd.DataFrame
    iqm: pd.DataFrame
    improvement: pd.DataFrame
    fronts: pd.DataFrame
    hypervolumes: pd.DataFrame
    own_hypervolumes: pd.DataFrame
    agreement: pd.DataFrame
    notes: list[str]

    def beside(self, published: pd.DataFrame) -> "Assessment":
        """With rows of `agreement` between the averages and published numbers.

        Args:
            published: as `with_published` takes it.
        """
        rows = with_published(self.board, published)
        return replace(self, agreement=pd.concat([self.agreement, rows], ignore_index=True))


def assess(runs: Runs, cache: Path | None = None, replicates: int = 1000) -> Assessment:
    """All statistics of a table of records; the same records give the same numbers.

    Args:
        runs: images.npz are read in their column `folder` ("" or missing: seeds only).
        cache: a file that keeps the result until a record or an images.npz changes; one that
            cannot be read is rebuilt, one that cannot be written is named in the notes.
        replicates: B, of the bootstrap.
    """
    key = disk.key(runs.frame, runs.root, replicates) if cache else ""
    kept = disk.load(cache, key) if cache else None
    if kept and kept[0].keys() == _COLUMNS.keys():
        return Assessment(**kept[0], notes=kept[1])
    made, notes = _assess(runs, replicates)
    if cache:
        try:
            disk.save(cache, key, made, notes)
        except OSError as error:
            reason = error.strerror or "an error of the system"
            notes = [
                *notes,
                f"the statistics were not cached: {cache} cannot be written ({reason})",
            ]
    return Assessment(**made, notes=notes)


def _assess(runs: Runs, replicates: int) -> tuple[dict[str, pd.DataFrame], list[str]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _COLUMNS}
    every = list(blocks(runs.current, runs.cells))
    worth = len(runs.frame) > _FEW
    with spread(lambda block: resample(block, runs.root, replicates), every, worth) as resampled:
        drawn = resampled()
    samples = {
        key: {sample.block.benchmark: sample for sample in part}
        for key, part in groupby(drawn, key=lambda sample: sample.block.group)
    }
    groups = [
        GroupSample(key, part, samples.get(key, {})) for key, part in split_groups(runs.cells)
    ]
    for group in groups:
        for name, found in _tables(group).items():
            rows[name] += [dict(zip(GROUP, group.key, strict=True)) | row for row in found]
    rows["agreement"] = agreements(groups, protocols(runs.frame))
    made = {
        name: pd.DataFrame(rows[name], columns=[*GROUP, *columns])
        for name, columns in _COLUMNS.items()
    }
    for name in ("cells", "board", "shared"):
        made[name][_RANK] = made[name][_RANK].astype("Int64")
    named = {group.key: group for group in groups}
    notes = [
        line
        for key, name in runs.names.items()
        if key in named
        for line in tables.notes(named[key], name.full)
    ]
    return made, notes


def _tables(group: GroupSample) -> dict[str, tables.Rows]:
    compared = tables.pairs(group)
    ranks, friedman, cliques = tables.average_ranks(group)
    together, alone = tables.hypervolumes(group)
    return {
        "cells": tables.cells(group, compared),
        "board": tables.board(group, compared),
        "shared": tables.board(group.shared, tables.pairs(group.shared)) if group.shared else [],
        "pairs": compared,
        "ranks": ranks,
        "friedman": friedman,
        "cliques": cliques,
        "iqm": tables.iqm(group),
        "improvement": tables.improvement(group),
        "fronts": tables.pareto(group),
        "hypervolumes": together,
        "own_hypervolumes": alone,
    }
