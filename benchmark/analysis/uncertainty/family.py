"""All pairs of methods of a family (one benchmark, or the average), corrected for their number."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from benchmark.analysis.uncertainty.bootstrap import Resampled
from benchmark.analysis.uncertainty.estimate import Estimate, difference, mean
from benchmark.analysis.uncertainty.power import pooled, seeds_needed

ALPHA = 0.05
"""A difference is called significant where its corrected p is below this."""

AVERAGE = "average"
"""In the column `benchmark`: the mean over benchmarks."""

Pair = tuple[str, str]
COLUMNS = (
    *("benchmark", "method_a", "method_b", "difference", "low", "high"),
    *("p", "p_holm", "significant", "covers", "benchmarks", "seeds_for_point"),
)


def differences(sample: Resampled) -> dict[Pair, Estimate]:
    """All pairs of one benchmark; the better method (by mean mIoU, then by name) comes first."""
    means = pd.DataFrame(sample.block.miou).mean(axis=1)
    order = sorted(range(len(means)), key=lambda row: (-means[row], sample.block.methods[row]))
    names = sample.block.methods
    return {(names[a], names[b]): difference(sample, a, b) for a, b in combinations(order, 2)}


def averages(samples: Sequence[Mapping[Pair, Estimate]]) -> dict[Pair, list[Estimate]]:
    """For each pair its differences on the benchmarks that both finished, the better one first.

    Args:
        samples: `differences` of each benchmark of a group.
    """
    shared: dict[Pair, list[Estimate]] = {}
    for pairs in samples:
        for (a, b), one in pairs.items():
            if a < b:
                shared.setdefault((a, b), []).append(one)
            else:
                shared.setdefault((b, a), []).append(reverse(one))
    return {
        (a, b) if mean(ones).value >= 0 else (b, a): ones
        if mean(ones).value >= 0
        else [reverse(one) for one in ones]
        for (a, b), ones in sorted(shared.items())
    }


def reverse(one: Estimate) -> Estimate:
    """The same difference seen from the other method."""
    return Estimate(-one.value, one.parts, one.seeds, one.images)


def table(benchmark: str, pairs: Mapping[Pair, Sequence[Estimate]]) -> list[dict[str, Any]]:
    """Rows of the pairs of one family, with Holm's correction over all that have a p.

    Args:
        benchmark: its name or `AVERAGE`.
        pairs: differences a - b by benchmark.

    Returns:
        Rows of `COLUMNS`: mIoU fractions; `p` is NaN with a single seed, which is then never
        `significant`; `benchmarks` counts those that the difference is a mean over;
        `seeds_for_point` would tell a difference of 1 point of a typical pair of the family (NaN:
        not known; infinite: too many).
    """
    estimates = {pair: mean(ones) for pair, ones in pairs.items()}
    p = {pair: one.p() for pair, one in estimates.items()}
    tested = [pair for pair, value in p.items() if not math.isnan(value)]
    corrected = dict(zip(tested, holm([p[pair] for pair in tested]), strict=True))
    seeds = _seeds_for_point(list(pairs.values()))
    rows = []
    for (a, b), one in estimates.items():
        low, high = one.interval()
        p_holm = corrected.get((a, b), math.nan)
        values = (benchmark, a, b, one.value, low, high, p[a, b], p_holm, p_holm < ALPHA)
        row = (*values, one.covers, len(pairs[a, b]), seeds)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def _seeds_for_point(pairs: Sequence[Sequence[Estimate]]) -> float:
    """Of a typical pair among those that are on most benchmarks."""
    most = max(map(len, pairs), default=0)
    full = [ones for ones in pairs if len(ones) == most]
    spreads = [pooled(ones) for ones in zip(*full, strict=True)]
    known = [one for one in spreads if one is not None]
    if not known or len(known) < most:
        return math.nan
    return seeds_needed(known, 0.01) or math.inf


def holm(p: Sequence[float]) -> list[float]:
    """P values after Holm's step-down correction, in their order.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 1979.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected.tolist()
