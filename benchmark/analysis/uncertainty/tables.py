"""The tables of an assessment, one function each: a group in, its rows out."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmark.analysis.costs import TRAINED, compared_costs
from benchmark.analysis.leaderboard import MIOU
from benchmark.analysis.pareto import (
    bias_corrected,
    hypervolume,
    pareto_front,
    reference_point,
)
from benchmark.analysis.uncertainty import family, ranks, replicates
from benchmark.analysis.uncertainty.estimate import Estimate, mean
from benchmark.analysis.uncertainty.family import AVERAGE
from benchmark.analysis.uncertainty.group import GroupSample

Row = dict[str, Any]
Rows = list[Row]


def cells(group: GroupSample, compared: Rows) -> Rows:
    """Every cell with its interval and rank; one with a failed seed has none.

    Args:
        group: of the cells.
        compared: what `pairs` returned.
    """
    rows = []
    rank: dict[tuple[str, str], ranks.Rank] = {}
    for benchmark, sample in group.samples.items():
        means = {name: group.estimates[benchmark, name].value for name in sample.block.methods}
        rank |= {(benchmark, name): place for name, place in _ranks(means, compared, benchmark)}
    for benchmark, method, seeds in group.table[["benchmark", "method", "seeds"]].to_numpy():
        one = group.estimates.get((benchmark, method))
        images = group.samples[benchmark].images if one and one.images else 0
        row = {"benchmark": benchmark, "method": method, **_interval(one)}
        row |= _ends(rank.get((benchmark, method))) | {"seeds": int(seeds)}
        row |= {"images": images, "covers": one.covers if one else "nothing"}
        rows.append(row)
    return rows


def pairs(group: GroupSample) -> Rows:
    """Differences of all pairs of methods, on each benchmark and on average."""
    single = {name: family.differences(one) for name, one in group.samples.items()}
    rows: Rows = []
    for name, found in single.items():
        rows += family.table(name, {pair: [one] for pair, one in found.items()})
    return rows + family.table(AVERAGE, family.averages(list(single.values())))


def board(group: GroupSample, compared: Rows) -> Rows:
    """Methods by mean over benchmarks; those that did not finish all come last, without rank.

    Args:
        group: of the methods.
        compared: what `pairs` returned.
    """
    averages = {name: group.average(name) for name in group.complete}
    rank = dict(_ranks({name: one.value for name, one in averages.items()}, compared, AVERAGE))
    names = sorted(set(group.table["method"]) - set(rank))
    rows = []
    for name in [*group.complete, *names]:
        own = group.table[group.table["method"] == name]
        done = own[own["status"] == "done"]
        row = {"method": name, **_interval(averages.get(name)), **_ends(rank.get(name))}
        row["seeds"] = int(done["seeds"].min()) if len(done) else 0
        row["complete"] = f"{len(done)}/{len(group.benchmarks)}"
        row["covers"] = averages[name].covers if name in averages else "nothing"
        rows.append(row)
    return rows


def _ends(rank: ranks.Rank | None) -> dict[str, float]:
    return {
        "rank": rank.first if rank else math.nan,
        "rank_to": rank.last if rank else math.nan,
    }


def _ranks(
    means: dict[str, float], compared: Rows, benchmark: str
) -> Iterator[tuple[str, ranks.Rank]]:
    """Methods, the best mean first, with the ranks that the tests on a benchmark give them."""
    significant = {
        frozenset((row["method_a"], row["method_b"]))
        for row in compared
        if row["benchmark"] == benchmark and row["significant"]
    }
    order = sorted(means, key=lambda name: (-means[name], name))
    return zip(order, ranks.open_ranks(means, significant), strict=True)


def average_ranks(group: GroupSample) -> tuple[Rows, Rows, Rows]:
    """Average ranks of the complete methods, Friedman's test over them, and their cliques."""
    names = group.complete
    if not names:
        return [], [], []
    scores = group.miou().loc[names, group.benchmarks].to_numpy().T
    average = dict(zip(names, map(float, ranks.average_ranks(scores)), strict=True))
    difference = ranks.critical_difference(len(names), len(scores))
    statistic, p = ranks.friedman(scores)
    shown = math.nan if difference is None else difference
    order = sorted(names, key=lambda name: (average[name], name))
    counts = {"cells": len(scores), "critical_difference": shown}
    places = [{"method": name, "average_rank": average[name], **counts} for name in order]
    test = {"methods": len(names), **counts, "statistic": statistic, "p": p}
    found = ranks.cliques(average, difference) if difference is not None else []
    members = [
        {"clique": number, "method": name} for number, row in enumerate(found) for name in row
    ]
    return places, [test], members


def iqm(group: GroupSample) -> Rows:
    """Interquartile mean over benchmarks x seeds of the complete methods."""
    rows = []
    names = sorted(group.complete)
    shifts = [group.moved([one], names) for one in group.benchmarks if names]
    for name in group.complete:
        scores = [group.scores(one, name) for one in group.benchmarks]
        value, low, high = replicates.interquartile_mean(scores), math.nan, math.nan
        if _known([group.average(name)]):
            moved = [one[names.index(name)] for one in shifts]
            low, high = replicates.interquartile_interval(scores, moved)
        cells = sum(map(len, scores))
        rows.append({"method": name, "iqm": value, "low": low, "high": high, "cells": cells})
    return rows


def improvement(group: GroupSample) -> Rows:
    """P(a > b) of the complete methods, the better mean first; P(b > a) is what is left to 1."""
    scores = {
        name: [group.scores(one, name) for one in group.benchmarks] for name in group.complete
    }
    rows = []
    for index, a in enumerate(group.complete):
        for b in group.complete[index + 1 :]:
            p = replicates.probability_of_improvement(scores[a], scores[b])
            rows.append({"method_a": a, "method_b": b, "probability": p})
    return rows


def pareto(group: GroupSample) -> Rows:
    """For every cost: who is on the front, and in which share of the replicates."""
    rows = []
    for benchmark, benchmarks, names in _settings(group):
        costs = group.costs(benchmarks, names)
        means = [mean([group.estimates[one, name] for one in benchmarks]) for name in names]
        values = np.array([[one.value] for one in means])
        drawn = values + group.moved(benchmarks, names)
        for cost in compared_costs():
            column = costs[cost].to_numpy()
            front = pareto_front(column, values)[:, 0]
            chance = pareto_front(column, drawn).mean(1)
            if not _known(means):
                chance = np.full(len(names), math.nan)
            here = {"benchmark": benchmark, "cost": cost}
            for row, name in enumerate(names):
                if np.isfinite(column[row]):
                    found = {"on_front": bool(front[row]), "probability": float(chance[row])}
                    rows.append({**here, "method": name, **found})
    return rows


def hypervolumes(group: GroupSample) -> tuple[Rows, Rows]:
    """Hypervolume, on average over the benchmarks, of the front and of each method alone."""
    fronts_rows: Rows = []
    own_rows: Rows = []
    names = sorted(group.complete)
    if not names:
        return [], []
    means = [group.average(name) for name in names]
    values = np.array([[one.value] for one in means])
    # The first column is what was observed, the others are replicates of it.
    scores = np.hstack([values, values + group.moved(group.benchmarks, names)])
    all_costs = group.costs(group.benchmarks, names)
    trained = all_costs[TRAINED]
    for cost in compared_costs():
        costs = all_costs[cost].to_numpy()
        if not (np.isfinite(costs).all() and np.isfinite(trained).all()):
            continue
        decades, limit, floor = reference_point(costs, scores, trained.to_numpy())
        volume = hypervolume(decades, scores, limit, floor)
        fronts_rows.append({"cost": cost, **_with_interval(volume, _known(means))})
        for row, name in enumerate(names):
            alone = hypervolume(decades[[row]], scores[[row]], limit, floor)
            found = _with_interval(alone, _known(means))
            own_rows.append({"cost": cost, "method": name, **found})
    return fronts_rows, own_rows


def notes(group: GroupSample, where: str) -> list[str]:
    """Limits of the numbers of a group, a sentence each, with its name."""
    lines = []
    for name, sample in group.samples.items():
        if problems := sample.problems:
            named = ", ".join(f"{run} ({reason})" for run, reason in problems[:3])
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            lines.append(
                f"{where}, {name}: not resampled over images: {named}{more}; the interval of a "
                "method without any usable run covers seeds only"
            )
    single = sum(not one.seeds for one in group.estimates.values())
    if single:
        lines.append(
            f"{where}: {single} of {len(group.estimates)} pairs of method and benchmark have one "
            "seed: their intervals do not include variation between trainings, and their "
            "differences are not tested"
        )
    if group.complete and 1 < len(group.benchmarks) < ranks.FEWEST_CELLS:
        lines.append(
            f"{where}: average ranks have no critical difference, which takes "
            f"{ranks.FEWEST_CELLS} benchmarks or more (here: {len(group.benchmarks)}); differences "
            "in mIoU need no more benchmarks"
        )
    return lines


def _settings(group: GroupSample) -> list[tuple[str, list[str], list[str]]]:
    """What is averaged, over which benchmarks, and the methods that finished these."""
    single = [(name, [name], one.block.methods) for name, one in group.samples.items()]
    whole = [(AVERAGE, group.benchmarks, sorted(group.complete))] if group.complete else []
    return [*single, *whole]


def _interval(one: Estimate | None) -> Row:
    low, high = one.interval() if one else (math.nan, math.nan)
    # MIoU is in [0, 1], but Student's t is unbounded.
    low, high = (float(np.clip(end, 0, 1)) for end in (low, high))
    return {MIOU: one.value if one else math.nan, "low": low, "high": high}


def _known(estimates: list[Estimate]) -> bool:
    """Whether the replicates of all say something."""
    return all(one.seeds or one.images for one in estimates)


def _with_interval(volumes: np.ndarray, known: bool) -> Row:
    value = float(volumes[0])
    low, high = bias_corrected(value, volumes[1:]) if known else (math.nan, math.nan)
    return {"value": value, "low": low, "high": high}
