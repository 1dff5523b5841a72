"""Which method to take under limits on its costs: the report's numbers, tests and sentences."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from benchmark.analysis.costs import STORED, TRAINABLE
from benchmark.analysis.leaderboard import MIOU, Key
from benchmark.analysis.limits import LIMITED, Limit
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.analysis.uncertainty.family import AVERAGE as AVERAGE_NAME
from benchmark.reporting.answers import (
    Finding,
    about_grid,
    as_good,
    best_and_rivals,
    caveats,
    rivals_of_best,
    with_rounds,
)
from benchmark.reporting.html.payload import AVERAGE
from benchmark.reporting.html.points import score_points
from benchmark.reporting.inputs import of_group

PREFERENCES = ("accurate", "small")
"""Of the methods that may be the best: the most accurate one, or the one that stores least."""
UNFINISHED = "not finished on every benchmark"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Difference:
    """How much better the most accurate method is than the one to take.

    Attributes:
        value: in fractions of mIoU.
        low: lower end of the 95 % interval; NaN where there is none.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Miss:
    """The method that comes closest to limits that none keeps.

    Attributes:
        times: it costs as many times the limit that it exceeds most; infinite where no method's
            costs are known.
        text: which method it is, and what it costs.
    """

    times: float
    text: str


@dataclass(frozen=True)
class Recommendation:
    """What the records of one group say under some limits.

    Attributes:
        key: of the group.
        name: of the group, in words.
        benchmark: whose scores were compared; None for the average over `benchmarks`.
        benchmarks: of the group.
        best: the row of the method to take, with scores and costs; None where none fits.
        difference: of the most accurate method that fits to it; None where it is that itself.
        prefer: why it is taken, one of `PREFERENCES`.
        rivals: methods that may be as good as the most accurate one, which is the first.
        tested: whether this was tested, or is the difference of 1 point.
        findings: lines of the report on the methods that fit.
        caveats: what must be known along with them.
        excluded: by limit, or by `UNFINISHED`, the methods left out with what they cost.
        nearest: where none fits, what comes closest.
        finished: methods that have finished, within the limits or not.
    """

    key: Key
    name: str
    benchmark: str | None
    benchmarks: tuple[str, ...]
    excluded: Mapping[str, Mapping[str, str]]
    best: pd.Series | None = None
    difference: Difference | None = None
    prefer: str = PREFERENCES[0]
    rivals: tuple[str, ...] = ()
    tested: bool = False
    findings: tuple[Finding, ...] = ()
    caveats: tuple[str, ...] = ()
    nearest: Miss | None = None
    finished: int = 0


def recommend(
    runs: Runs,
    found: Assessment,
    limits: Sequence[Limit],
    benchmark: str | None = None,
    prefer: str = PREFERENCES[0],
) -> list[Recommendation]:
    """The method to take in each group: the most accurate one within the limits.

    Or, where that is preferred, the one that stores least of those that may be as good
    (`as_good`); with one seed, where nothing is tested, of those within 1 point of it.

    Args:
        runs: the records.
        found: their statistics.
        limits: on the costs.
        prefer: one of `PREFERENCES`.
        benchmark: compare scores on it alone, in the groups that have some; by default, and where
            no group has any, the average over the benchmarks of the group.

    Returns:
        One a group that has scores, the fullest first.

    Raises:
        UserError: a limit is a multiple of a method that was not run.
    """
    points = score_points(runs, found)
    known = points["rank"].notna()
    scope: object = AVERAGE
    if benchmark is not None and (known & (points["scope"] == benchmark)).any():
        scope = benchmark
    chosen = points[points["scope"].map(lambda one: one == scope)]
    result = []
    for key, own in runs.groups.items():
        mine = of_group(chosen, key)
        if mine["rank"].isna().all():
            continue
        names = tuple(sorted(map(str, own.frame["benchmark"].unique())))
        one = str(scope) if isinstance(scope, str) else None
        pairs = of_group(found.pairs, key)
        # With one benchmark the tests know no mean over benchmarks.
        pairs = pairs[pairs["benchmark"] == (one or (AVERAGE_NAME if len(names) > 1 else names[0]))]
        made = partial(
            Recommendation,
            key=key,
            name=runs.names[key].full,
            benchmark=one,
            benchmarks=names,
            prefer=prefer,
        )
        result.append(_under(limits, prefer, made, mine, pairs, own))
    return result


def _under(
    limits: Sequence[Limit],
    prefer: str,
    made: Callable[..., Recommendation],
    points: pd.DataFrame,
    pairs: pd.DataFrame,
    runs: Runs,
) -> Recommendation:
    """The method to take in one group and scope."""
    scored = points[points["rank"].notna()].sort_values(
        [MIOU, "method"], ascending=[False, True], ignore_index=True
    )
    for name in {LIMITED[limit.name].absolute for limit in limits} - set(scored):
        if name in runs.frame:  # medians over the rounds, the same in all records of a method
            scored[name] = scored["method"].map(runs.frame.groupby("method")[name].first())
    unfinished = sorted(set(map(str, points["method"])) - set(scored["method"]))
    excluded = {UNFINISHED: dict.fromkeys(unfinished, "")} if unfinished else {}
    measured = {limit: limit.measured(scored) for limit in limits}
    for limit, values in measured.items():
        over = ~(values <= limit.value)
        if over.any():
            excluded[str(limit)] = {
                str(method): limit.shown(value) if value == value else NOT_MEASURED
                for method, value in zip(scored["method"][over], values[over], strict=True)
            }
    out = {method for methods in excluded.values() for method in methods}
    allowed = with_rounds(scored[~scored["method"].isin(out)], runs.frame).reset_index(drop=True)
    if allowed.empty:
        return made(excluded=excluded, nearest=_nearest(scored["method"], measured))
    rivals, tested = rivals_of_best(allowed, pairs)
    best = rivals.iloc[0]
    if prefer == "small":
        # The best mean comes first, so that of equally small ones it is taken.
        best = (
            as_good(rivals, pairs if tested else None)
            .sort_values([STORED, TRAINABLE], kind="stable")
            .iloc[0]
        )
    cells = runs.cells[runs.cells["method"].isin(allowed["method"])]
    lone = "The only finished method" if len(scored) == 1 else "The only method within the limits"
    return made(
        best=best,
        difference=_difference(pairs, rivals.iloc[0], best),
        rivals=tuple(map(str, rivals["method"])),
        tested=tested,
        findings=tuple(best_and_rivals(allowed, rivals, pairs if tested else None, lone)),
        caveats=(*about_grid(runs), *caveats(allowed, cells, tested)),
        excluded=excluded,
        finished=len(scored),
    )


def _nearest(methods: pd.Series, measured: Mapping[Limit, pd.Series]) -> Miss:
    """What exceeds its limits least; of costs that are not known nothing can be said."""
    times = pd.concat([values / limit.value for limit, values in measured.items()], axis=1)
    most = times.max(axis=1, skipna=False)
    if most.isna().all():
        missing = [str(limit) for limit, values in measured.items() if values.isna().all()]
        return Miss(math.inf, f"{' and '.join(missing)}: not measured")
    row = int(most.to_numpy().argsort()[0])  # what is not known comes last
    costs = ", ".join(
        f"{limit.name} {limit.shown(values.iloc[row])} (limit {limit.text})"
        for limit, values in measured.items()
        if values.iloc[row] > limit.value
    )
    return Miss(float(most.iloc[row]), f"{methods.iloc[row]}, {costs}")


def _difference(pairs: pd.DataFrame, top: pd.Series, taken: pd.Series) -> Difference | None:
    if top["method"] == taken["method"]:
        return None
    same = (pairs["method_a"] == top["method"]) & (pairs["method_b"] == taken["method"])
    if same.any():
        row = pairs[same].iloc[0]
        return Difference(float(row["difference"]), float(row["low"]), float(row["high"]))
    return Difference(float(top[MIOU] - taken[MIOU]), math.nan, math.nan)
