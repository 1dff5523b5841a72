"""Whether two backbones, or two decoders, rank the methods alike: Kendall's tau-b."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.uncertainty.group import GroupSample

_DECODER = "protocol.decoder"
_FEWEST_METHODS = 3
"""Two methods are in the same order by chance one time in two."""


def protocols(runs: pd.DataFrame) -> pd.DataFrame:
    """The fields of each protocol as text, by its hash."""
    names = [name for name in runs.columns if name.startswith("protocol.") and name != _DECODER]
    table = runs.reindex(columns=["protocol_hash", _DECODER, *names])
    return table.drop_duplicates("protocol_hash").set_index("protocol_hash").astype(str)


def agreements(groups: Sequence[GroupSample], protocols: pd.DataFrame) -> list[dict[str, Any]]:
    """Compares groups that differ in the backbone alone, or in the decoder alone.

    Methods are ranked by their mean over the benchmarks that both groups have; a method counts that
    finished all of these in both.

    Args:
        groups: of one table of runs.
        protocols: what `protocols` returned.

    Returns:
        Rows of GROUP ("" in the column that differs), kind ("backbone" or "decoder"), a, b (their
        names), tau, p, methods and benchmarks (how many); none below three methods.
    """
    rows = []
    for one, two in combinations(groups, 2):
        kind, a, b = _difference(one, two, protocols)
        benchmarks = [name for name in one.benchmarks if name in two.benchmarks]
        if not (kind and benchmarks):
            continue
        means = [group.miou()[benchmarks].mean(axis=1, skipna=False) for group in (one, two)]
        ours, theirs = means[0].dropna().align(means[1].dropna(), join="inner")
        if len(ours) < _FEWEST_METHODS:
            continue
        from scipy.stats import kendalltau  # slow to load

        found = kendalltau(ours, theirs)
        same = [x if x == y else "" for x, y in zip(one.key, two.key, strict=True)]
        row: dict[str, Any] = {**dict(zip(GROUP, same, strict=True)), "kind": kind, "a": a, "b": b}
        row |= {"tau": float(found.statistic), "p": float(found.pvalue)}
        rows.append(row | {"methods": len(ours), "benchmarks": len(benchmarks)})
    return rows


def _difference(
    one: GroupSample, two: GroupSample, protocols: pd.DataFrame
) -> tuple[str, str, str]:
    """What alone differs, and its two names; empty if something else does, too."""
    apart = [name for name, x, y in zip(GROUP, one.key, two.key, strict=True) if x != y]
    if apart == ["backbone"]:
        return "backbone", one.key[0], two.key[0]
    if apart == ["protocol_hash"]:
        a, b = (protocols.loc[group.key[2]] for group in (one, two))
        changed = [name for name in protocols.columns if a[name] != b[name]]
        if _DECODER in changed and all(name.startswith(_DECODER) for name in changed):
            return "decoder", str(a[_DECODER]), str(b[_DECODER])
    return "", "", ""
