"""What the page takes from an assessment: pairs, ranks, and who is likely on the front."""

from collections.abc import Sequence

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, MIOU, Key, best_first
from benchmark.analysis.pareto import pareto_front
from benchmark.analysis.uncertainty import Assessment
from benchmark.reporting.html.payload import AVERAGE, Frame, columns

MOST_COMPARED = 40
"""Methods shown in a matrix; a larger one is hard to read, and its size grows with the square."""


def scopes(names: pd.Series) -> pd.Series:
    """Names of benchmarks, with the word for the mean replaced by its number."""
    return names.map(lambda name: AVERAGE if name == "average" else name)


def leading(points: pd.DataFrame) -> pd.DataFrame:
    """GROUP and method of those that the matrices show: the best on average of each group."""
    board = best_first(points[points["scope"] == AVERAGE])
    return board.groupby(GROUP).head(MOST_COMPARED)[[*GROUP, "method"]]


def pair_frame(found: Assessment, points: pd.DataFrame, index: "Index") -> Frame:
    """Differences of the leading methods of each group.

    Returns:
        group, scope, a, b (the difference is a minus b), difference, low, high, p, significant.
    """
    names = ["difference", "low", "high", "p_holm", "significant"]
    if found.pairs.empty:
        return {name: [] for name in ["group", "scope", "a", "b", *names]}
    known = leading(points)
    table = found.pairs
    for side in ("method_a", "method_b"):
        table = table.merge(known.rename(columns={"method": side}), on=[*GROUP, side])
    table = table.assign(
        group=index.groups(table),
        scope=index.scopes(scopes(table["benchmark"])),
        a=index.methods(table["method_a"]),
        b=index.methods(table["method_b"]),
        significant=table["significant"].fillna(False).astype(bool),
    )
    return columns(table, ["group", "scope", "a", "b", *names])


def rank_frame(found: Assessment, index: "Index") -> Frame:
    """Average ranks: group, method, average_rank, cells."""
    if found.ranks.empty:
        return {name: [] for name in ("group", "method", "average_rank", "cells")}
    ranks = found.ranks
    table = ranks.assign(group=index.groups(ranks), method=index.methods(ranks["method"]))
    return columns(table, ["group", "method", "average_rank", "cells"])


def front_frame(
    found: Assessment, points: pd.DataFrame, costs: Sequence[str], index: "Index"
) -> Frame:
    """Who is on the front of each group, scope and cost, or is so in some replicates.

    Args:
        found: with the probabilities.
        points: as `score_points` returns them.
        costs: columns of the points.
        index: of groups, scopes and methods.

    Returns:
        group, scope, cost, method, on_front, probability (missing where it was not assessed).
    """
    keys = ["group", "scope", "method", "cost"]
    numbered = points.assign(
        group=index.groups(points),
        scope=index.scopes(points["scope"]),
        method=index.methods(points["method"]),
    )
    parts = [
        part.loc[pareto_front(part[cost], part[MIOU]), keys[:3]].assign(cost=cost)
        for _, part in numbered.groupby(["group", "scope"])
        for cost in costs
    ]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=keys)
    likely = found.fronts[found.fronts["probability"].gt(0)]
    likely = likely.assign(
        group=index.groups(likely),
        scope=index.scopes(scopes(likely["benchmark"])),
        method=index.methods(likely["method"]),
    )[[*keys, "probability"]]
    # Tables without rows know no types.
    types = dict.fromkeys(keys[:3], int)
    table = table.assign(on_front=True).astype(types)
    table = table.merge(likely.astype(types), on=keys, how="outer")
    table["on_front"] = table["on_front"].eq(True)
    return columns(table, [*keys, "on_front", "probability"])


def critical_difference(found: Assessment, key: Key) -> float | None:
    """Of the average ranks of a group; None where there are too few cells for one."""
    rows = (found.ranks[GROUP].astype(str) == list(key)).all(axis=1)
    known = found.ranks.loc[rows, "critical_difference"].dropna()
    return float(known.iloc[0]) if len(known) else None


class Index:
    """Numbers of groups (in the order of their keys), methods and scopes."""

    def __init__(self, runs: pd.DataFrame, keys: Sequence[Key]) -> None:
        self.keys = list(keys)
        self.names = sorted(map(str, runs["method"].unique()))
        self.benchmarks = sorted(map(str, runs["benchmark"].unique()))
        self._group: dict[tuple[str, ...], int] = {key: n for n, key in enumerate(self.keys)}
        self._method = {name: number for number, name in enumerate(self.names)}
        self._scope = {name: number for number, name in enumerate(self.benchmarks)}

    def group(self, key: tuple[str, ...]) -> int:
        """The number of (backbone, weights, protocol_hash)."""
        return self._group[key]

    def method(self, name: str) -> int:
        """The number of a method; -1 for one that has no run here."""
        return self._method.get(name, -1)

    def groups(self, table: pd.DataFrame) -> list[int]:
        """The number of each row's group."""
        rows = zip(*(table[name].astype(str) for name in GROUP), strict=True)
        return [self._group[row] for row in rows]

    def methods(self, names: pd.Series) -> list[int]:
        """The number of each method."""
        return [self._method[str(name)] for name in names]

    def scopes(self, names: pd.Series) -> list[int]:
        """The number of each benchmark; numbers of scopes stay."""
        return [name if isinstance(name, int) else self._scope[str(name)] for name in names]
