"""What a page is made of in these tests: assessment, pictures and curves of made-up numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd

from benchmark.analysis import uncertainty
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.data.palette import voc_colours
from benchmark.reporting.html.curves import Curves, Line
from benchmark.reporting.html.images import Item, make_item

NAMES = ("background", "leaf", "stem")


def assess(runs: pd.DataFrame, margin: float = 0.012) -> Assessment:
    """Calls a difference significant when it is larger than `margin`."""
    found = uncertainty.assess(Runs(runs), replicates=20)
    table, board = (
        part.assign(low=part[MIOU] - 0.011, high=part[MIOU] + 0.009, covers="seeds and images")
        for part in (found.cells, found.board)
    )
    average = board.assign(benchmark="average")
    scores = pd.concat([table, average])[[*GROUP, "benchmark", "method", MIOU]].dropna()
    pairs = scores.merge(scores, on=[*GROUP, "benchmark"], suffixes=("_a", "_b"))
    pairs = pairs[pairs["method_a"] < pairs["method_b"]].reset_index(drop=True)
    pairs["difference"] = pairs[f"{MIOU}_a"] - pairs[f"{MIOU}_b"]
    pairs["low"], pairs["high"] = pairs["difference"] - margin, pairs["difference"] + margin
    pairs["significant"] = pairs["difference"].abs() > margin
    pairs["p"] = pairs["p_holm"] = np.where(pairs["significant"], 0.001, 0.4)
    pairs["seeds_for_point"] = 5.0
    places = table.groupby([*GROUP, "benchmark"])[MIOU].rank(ascending=False)
    ranks = table.assign(average_rank=places).groupby([*GROUP, "method"])["average_rank"]
    ranks = ranks.agg(["mean", "size"]).reset_index()
    ranks = ranks.rename(columns={"mean": "average_rank", "size": "cells"})
    ranks["critical_difference"] = 3.1
    fronts = scores.assign(cost="costs.stored.bytes", on_front=True, probability=0.5)
    iqm = board.rename(columns={MIOU: "iqm"})
    agreement = pd.DataFrame(
        [
            {"kind": "backbone", "a": "one", "b": "two", "tau": 0.5, "p": 0.04, "methods": 9},
            *(
                dict(zip(GROUP, ("net", "pretrained", "abc"), strict=True))
                | {"kind": "benchmark", "a": "x", "b": b, "tau": tau, "p": 0.5, "methods": 9}
                for b, tau in (("y", 0.25), ("z", 0.75))
            ),
        ]
    )
    notes = ["One file could not be read."]
    return replace(
        found, cells=table, board=board, pairs=pairs, ranks=ranks, fronts=fronts, iqm=iqm,
        agreement=agreement, notes=notes,
    )  # fmt: skip


def pictures(runs: pd.DataFrame, benchmark: str, images: int = 2, most: int = 6) -> list[Item]:
    """Images of a leaf, which each method misses by a little more than the last."""
    keys = runs[[*GROUP, "method"]].drop_duplicates().head(most)
    y, x = np.mgrid[:60, :80]
    items = []
    for number in range(images):
        label = np.zeros((60, 80), np.uint8)
        label[(x - 40) ** 2 + (y - 30) ** 2 < 400] = 1
        label[(abs(x - 40) < 3) & (y > 40)] = 2
        label[:4] = 255
        noise = np.random.default_rng(number).integers(0, 40, (60, 80, 3))
        image = (noise + 60 + 80 * (label == 1)[..., None]).astype(np.uint8)
        found = {}
        for place, row in enumerate(keys.itertuples(index=False)):
            prediction = np.where(label == 255, 0, label)
            moved = np.roll(prediction, 2 * place * (number + 1), axis=1).astype(np.uint8)
            found[(tuple(row[:3]), row[3])] = moved
        items.append(
            make_item(benchmark, f"leaf-{number}", image, label, found, voc_colours(), NAMES)
        )
    return items


def lines(runs: pd.DataFrame, benchmark: str) -> Curves:
    """Losses that fall, and scores that rise with the labels and fall with the severity."""
    keys = runs[[*GROUP, "method"]].drop_duplicates().itertuples(index=False)
    known = [(tuple(row[:3]), row[3]) for row in keys]
    training = {
        (group, benchmark, method): [
            (step, 2.0 * 0.97**step + 0.02 * place + 0.1 * np.sin(step)) for step in range(1, 501)
        ]
        for place, (group, method) in enumerate(known)
    }
    shares, levels = (0.1, 0.25, 1.0), (0, 1, 3, 5)
    rising = np.array([0.3, 0.4, 0.5])
    fractions = [
        Line(benchmark, method, shares, y, y - 0.01, y + 0.01)
        for y, method in ((rising + 0.01 * n, method) for n, (_, method) in enumerate(known))
    ]
    corruptions = [
        Line(
            f"{benchmark}, noise",
            method,
            levels,
            [0.5 - (0.03 + 0.002 * n) * s for s in levels],
            group=group,
        )
        for n, (group, method) in enumerate(known)
    ]
    return Curves(training, fractions, corruptions)
