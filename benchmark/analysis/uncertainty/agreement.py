"""Do methods rank alike elsewhere: on another backbone, decoder or benchmark, or in a paper?"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, MIOU
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
    """Kendall's tau-b of two backbones, decoders or benchmarks, where nothing else differs.

    Methods are ranked by their means over seeds, and over the benchmarks that two groups share; a
    method counts that finished all of them on both sides.

    Args:
        groups: of one table of runs.
        protocols: what `protocols` returned.

    Returns:
        Rows of GROUP ("" in the column that differs), kind ("backbone", "decoder", "benchmark"), a,
        b (their names), tau, p, methods and benchmarks (how many); none below three methods.
    """
    rows: list[dict[str, Any]] = []
    for one, two in combinations(groups, 2):
        kind, a, b = _difference(one, two, protocols)
        benchmarks = [name for name in one.benchmarks if name in two.benchmarks]
        if kind and benchmarks:
            x, y = (group.miou()[benchmarks].mean(axis=1, skipna=False) for group in (one, two))
            same = [p if p == q else "" for p, q in zip(one.key, two.key, strict=True)]
            rows += _agreement(x, y, same, kind, a, b, len(benchmarks))
    for group in groups:
        table = group.miou()
        for a, b in combinations(group.benchmarks, 2):
            rows += _agreement(table[a], table[b], group.key, "benchmark", a, b, 1)
    return rows


def with_published(board: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau-b between our averages and each published table.

    Args:
        board: GROUP, method, mIoU; a row a method.
        published: `label` (of our method; "" if none), `miou`, `source`, `backbone`, `benchmark`.

    Returns:
        Rows as `agreements` returns them, of kind "published": a is our backbone, b the published
        table, and `benchmarks` is 0, as none is shared. A published method without a label does
        not count.
    """
    ours = {
        tuple(map(str, key)): part.set_index("method")[MIOU] for key, part in board.groupby(GROUP)
    }
    known = published[published["label"] != ""]
    rows: list[dict[str, Any]] = []
    for (source, backbone, benchmark), part in known.groupby(["source", "backbone", "benchmark"]):
        theirs = part.set_index("label")["miou"]
        name = f"{source}, {backbone} on {benchmark}"
        for key, scores in ours.items():
            rows += _agreement(scores, theirs, key, "published", key[0], name, 0)
    return pd.DataFrame(rows)


def _agreement(
    one: pd.Series,
    two: pd.Series,
    key: Sequence[str],
    kind: str,
    a: str,
    b: str,
    benchmarks: int,
) -> Iterator[dict[str, Any]]:
    """One row, or none below three methods."""
    x, y = one.dropna().align(two.dropna(), join="inner")
    if len(x) < _FEWEST_METHODS:
        return
    from scipy.stats import kendalltau  # slow to load

    found = kendalltau(x, y)
    row: dict[str, Any] = {**dict(zip(GROUP, key, strict=True)), "kind": kind, "a": a, "b": b}
    row |= {"tau": float(found.statistic), "p": float(found.pvalue)}
    yield row | {"methods": len(x), "benchmarks": benchmarks}


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
