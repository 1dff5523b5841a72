"""How many seeds stand behind a group's numbers, in a sentence beside the table."""

from collections.abc import Sequence

import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.core.format import counted

_MOST_NAMES = 6
_FEW = {
    1: "no interval over seeds (what is shown is over test images alone); 3 to 5 are usual",
    2: "the interval is wide; 3 to 5 are usual",
}


def about_seeds(cells: pd.DataFrame) -> str:
    """How many seeds there are, uneven numbers by name, and how many are usual.

    Args:
        cells: of one group, as `leaderboard.cells` returns them.

    Returns:
        One or two sentences; empty where nothing is finished.
    """
    done = cells[cells["status"] == "done"]
    counts = sorted(set(done["seeds"].astype(int)))
    if not counts:
        return ""
    fewest = counted(counts[0], "seed")
    few = _FEW.get(counts[0])
    if len(counts) == 1:
        return f"{fewest}: {few}." if few else f"{fewest} of each method."
    ending = f" With {fewest}: {few}." if few else ""
    return f"{seed_range(done['seeds'])}: {_uneven(done)}.{ending}"


def seed_range(seeds: pd.Series) -> str:
    """From the fewest to the most: "3 seeds", "1 to 3 seeds"."""
    low, high = int(seeds.min()), int(seeds.max())
    return counted(low, "seed") if low == high else f"{low} to {high} seeds"


def only_some(shown: pd.DataFrame, runs: pd.DataFrame) -> str:
    """That a table is made of some of the finished seeds; empty where it is made of all.

    Args:
        shown: the runs that it is made of.
        runs: all of the results folder.
    """
    cell = [*GROUP, "benchmark", "method"]
    mine, all_ = (table[table["status"] == "done"] for table in (shown, runs))
    alike = all_.merge(mine[cell].drop_duplicates(), on=cell)
    if len(alike) <= len(mine):
        return ""
    seeds = sorted(set(mine["seed"].astype(int)))
    total = counted(alike["seed"].nunique(), "seed")
    these = f"seed{'' if len(seeds) == 1 else 's'} {_listed(list(map(str, seeds)))}"
    return f"Of {these} alone; {total} are finished"


def _uneven(done: pd.DataFrame) -> str:
    """Methods with equal numbers together: `a and b 3 on x, 1 on y; c 2`."""
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for method, part in done.sort_values(["method", "benchmark"]).groupby("method"):
        pattern = tuple(zip(part["benchmark"].astype(str), part["seeds"].astype(int), strict=True))
        alike.setdefault(pattern, []).append(str(method))
    parts: dict[tuple[int, str], list[str]] = {}
    for pattern, methods in alike.items():
        seeds = dict(pattern)
        parts.setdefault((-max(seeds.values()), _pattern(seeds)), []).extend(methods)
    if len(parts) == 1:
        return next(iter(parts))[1]
    return "; ".join(f"{_listed(sorted(own))}: {text}" for (_, text), own in sorted(parts.items()))


def _pattern(seeds: dict[str, int]) -> str:
    counts = sorted(set(seeds.values()), reverse=True)
    if len(counts) == 1:
        return str(counts[0])
    return ", ".join(
        f"{count} on {_listed([name for name, own in seeds.items() if own == count])}"
        for count in counts
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
