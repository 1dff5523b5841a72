"""The answer in words: derived from the numbers by rules that know no method and no data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.analysis.costs import STORED, with_numbers
from benchmark.analysis.groups import random_weights
from benchmark.analysis.leaderboard import GROUP, MIOU, Key
from benchmark.analysis.pareto import pareto_front
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.analysis.uncertainty.power import FEW_SEEDS, MOST_SEEDS, is_known
from benchmark.core.format import below_text, counted, human, human_limit
from benchmark.core.spec import load_suites
from benchmark.reporting import commands
from benchmark.reporting.html.payload import AVERAGE
from benchmark.reporting.html.points import score_points
from benchmark.reporting.seed_notes import seed_range
from benchmark.reporting.timing_notes import BUSY
from benchmark.results.timing_columns import PREFIX, TRAINING, references

CLOSE = 0.01
"""Fraction of mIoU that counts as close where nothing was tested."""
_MOST_BUDGETS, _MOST_NAMES = 3, 6


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        label: the question, such as "Under 500 kB per task".
        methods: that answer it, in order.
        text: the numbers.
        more: methods that answer it, too, and are not named.
    """

    label: str
    methods: tuple[str, ...]
    text: str
    more: int = 0

    @property
    def others(self) -> str:
        """Says that there are `more`; empty where there are none."""
        return f" and {self.more} more" if self.more else ""

    def __str__(self) -> str:
        named = ", ".join(self.methods) + self.others
        return f"{self.label}: {', '.join(filter(None, [named, self.text]))}."


@dataclass(frozen=True)
class Answer:
    """What the numbers of one group say.

    Attributes:
        findings: lines of the answer, the most important first.
        caveats: sentences that a reader must know along with the findings.
        about: what it is about: backbone, weights, and over how many benchmarks.
    """

    findings: tuple[Finding, ...]
    caveats: tuple[str, ...]
    about: str = ""


def answers(runs: Runs, found: Assessment, points: pd.DataFrame | None = None) -> dict[Key, Answer]:
    """The answer of each group, on average over its benchmarks.

    Terminal, README, JSON and page show it, so all say the same.

    Args:
        runs: the records.
        found: the tests.
        points: as `points.score_points` returns them; None = made here.
    """
    if points is None:
        points = score_points(runs, found) if len(runs.frame) else pd.DataFrame()
    result = {}
    for key, own in runs.groups.items():
        mine = points[_is(points, key)]
        board = mine[(mine["scope"] == AVERAGE) & mine["rank"].notna()]
        pairs = found.pairs[_is(found.pairs, key)]
        average = pairs["benchmark"] == "average"
        # With one benchmark there is no mean over benchmarks.
        number = own.frame["benchmark"].nunique()
        pairs = pairs[average] if average.any() or number > 1 else pairs
        more = commands.more_seeds(own)
        status = _grid_status(mine, own.frame)
        said = answer(with_rounds(board, own.frame), pairs, status, more)
        limits = (*about_grid(own), *said.caveats)
        result[key] = Answer(said.findings, limits, _about(key, number))
    return result


def headed(runs: Runs, found: Assessment) -> list[tuple[str, Answer]]:
    """The answers, each under what it is about, which tells several groups apart."""
    said = answers(runs, found)
    several = len(said) > 1
    return [
        (f"{runs.names[key].label}: {own.about}" if several else own.about, own)
        for key, own in said.items()
    ]


def about_grid(runs: Runs) -> list[str]:
    """What a reader must know of the runs of one group, whatever their scores: a sentence each."""
    return [*_partial(runs), *_uneven(runs), *shortened(runs)]


def _partial(runs: Runs) -> list[str]:
    """That not all of a grid is finished; empty where it is."""
    finished, wanted = runs.progress
    return [f"Partial: {finished} of {wanted} runs are finished."] if finished < wanted else []


def _uneven(runs: Runs) -> list[str]:
    """Who leads on the seeds that all methods have, where some have others, too.

    A seed draws the same batches and decoder for all methods, so that means over different seeds
    differ by the luck of their seeds as well.
    """
    complete = runs.leaderboard.dropna(subset=[MIOU])["method"]
    done = runs.current[runs.current["status"] == "done"]
    done = done[done["method"].isin(complete)]
    cells = done.groupby(["benchmark", "seed"])["method"].nunique()
    shared = cells[cells == done["method"].nunique()].index
    here = pd.MultiIndex.from_frame(done[["benchmark", "seed"]]).isin(shared)
    if here.all():
        return []
    alike, says = done[here], "Some methods have more seeds than others"
    if alike["benchmark"].nunique() < done["benchmark"].nunique():
        return [f"{says}, and no seed is shared by all, so part of a difference may be chance."]
    means = alike.groupby(["method", "benchmark"])[MIOU].mean().groupby("method").mean()
    top = means.sort_values(ascending=False, kind="stable")
    number = seed_range(alike.groupby("benchmark")["seed"].nunique())
    first, second = (human(value, "points") for value in top.iloc[:2])
    order = (
        f"{top.index[0]} and {top.index[1]} are level (mIoU {first})"
        if first == second
        else f"{top.index[0]} leads (mIoU {first}; {top.index[1]} {second})"
    )
    return [f"{says}; on the {number} that all have, {order}."]


def shortened(runs: Runs) -> list[str]:
    """That a group was trained for fewer steps than its suite states; empty where it was not."""
    if not {"suite", "protocol.steps"} <= set(runs.frame):
        return []
    suites, found = load_suites(), []
    pairs = runs.frame[["suite", "protocol.steps"]].dropna().drop_duplicates()
    for suite, steps in pairs.itertuples(index=False):
        usual = suites[suite].protocol.steps if suite in suites else 0
        if steps < usual:
            found.append(
                f"Trained for {int(steps)} of the usual {usual} steps: longer training may change "
                "scores and order."
            )
    return found


def not_run(runs: Runs) -> str:
    """How many runs of a grid have not run yet; empty where all have ended in some way."""
    number = runs.not_run
    if not number:
        return ""
    verb = "has" if number == 1 else "have"
    return f"{number} of {counted(runs.progress.wanted, 'run')} {verb} not run yet."


def _about(key: Key, benchmarks: int) -> str:
    average = f"; average over {benchmarks} benchmarks" if benchmarks > 1 else ""
    return f"{key[0]}, {' '.join(random_weights(key[1])) or 'pretrained weights'}{average}"


def with_rounds(points: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Adds how far training times varied over the rounds, and what else the machine did.

    Args:
        points: rows of methods of one group.
        frame: the runs of the group.
    """
    known = with_numbers(frame, _ROUNDS)
    found = known.groupby("method")[list(_ROUNDS)].first()  # the same in all records of a method
    return points.assign(**{name: points["method"].map(found[name]) for name in _ROUNDS})


_LOW, _HIGH, _OTHERS = f"{TRAINING}.low", f"{TRAINING}.high", f"{PREFIX}others"
_ROUNDS = (_LOW, _HIGH, _OTHERS)


def answer(
    points: pd.DataFrame, pairs: pd.DataFrame | None, status: pd.DataFrame, more: str = ""
) -> Answer:
    """Answers which method to take.

    Args:
        points: the ranked methods of one group in one scope: method, `metrics.miou`, low, high,
            seeds, and the costs, with the columns of `with_rounds` where times were measured; may
            be empty.
        pairs: of the same group and scope, as `Assessment` has them; None where no test was made.
        status: one row a pair of benchmark and method that was asked for: benchmark, method,
            status, seeds.
        more: how to add seeds, as `commands.more_seeds` says it; empty where it is not known.

    Returns:
        Facts and caveats. "Not significantly worse" is only said where there was a test.
    """
    scored = points.dropna(subset=[MIOU]).sort_values([MIOU, "method"], ascending=[False, True])
    if scored.empty:
        return Answer((), (_why_empty(status),))
    best = scored.iloc[0]
    rivals, tested = rivals_of_best(scored, pairs)
    findings = best_and_rivals(scored, rivals, pairs if tested else None)
    findings += [
        finding for finding in _under_budgets(scored) if finding.methods != (str(best["method"]),)
    ]
    limits = caveats(scored, status, tested)
    if len(scored) == 1:
        limits.insert(0, "Only one method has finished, so there is nothing to compare it with.")
    if more and tested and pairs is not None and not _beats_all(scored, pairs):
        limits += _add_seeds(pairs, _tested_seeds(scored), more)
    return Answer(tuple(findings), tuple(limits))


def rivals_of_best(scored: pd.DataFrame, pairs: pd.DataFrame | None) -> tuple[pd.DataFrame, bool]:
    """The methods that may be as good as the best: by the test, else by closeness.

    Where the best has several seeds, methods with one seed are left out: they are not tested.

    Args:
        scored: methods with a score, the best first: method, `metrics.miou`, seeds.
        pairs: of the same group and scope: method_a, method_b, significant; None where no test
            was made.

    Returns:
        The rows of the best and of its rivals, and whether they were tested.
    """
    # With one seed nothing is tested: images say nothing of how training varies.
    several = scored["seeds"] > 1
    tested = pairs is not None and len(pairs) > 0 and bool(several.iloc[0] and several.sum() > 1)
    return (_rivals(scored[several], pairs) if tested else _rivals(scored, None)), tested


def best_and_rivals(
    scored: pd.DataFrame,
    rivals: pd.DataFrame,
    pairs: pd.DataFrame | None,
    lone: str = "The only finished method",
) -> list[Finding]:
    """What is most accurate, what may be as good, and what of that is cheapest.

    Args:
        scored: as `rivals_of_best` takes it, with the columns that `answer` takes.
        rivals: what it returned.
        pairs: the tests; None where it says that none was made.
        lone: what a method is called that is the only one.
    """
    near = _near(scored, rivals, pairs) if len(scored) > 1 else []
    return [_most_accurate(scored, lone), *near]


def corrected_away(pairs: pd.DataFrame) -> str:
    """Which differences only the correction for the number of pairs makes not significant.

    Args:
        pairs: tests of one or more groups, as `Assessment` has them.

    Returns:
        A sentence for the table of pairs; empty where there are none.
    """
    beyond = pairs[(pairs["low"] > 0) & ~pairs["significant"].fillna(False).astype(bool)]
    beyond = beyond[beyond["p_holm"].notna()]
    if beyond.empty:
        return ""
    number = counted(len(beyond), "pair")
    first = beyond.iloc[0]
    example = f"{first['method_a']} - {first['method_b']} on {first['benchmark']}"
    which = example if len(beyond) == 1 else f"such as {example}"
    return (
        f"In {number} ({which}) the 95 % interval excludes 0, and the difference is still not "
        "significant: the interval is for one pair alone, the test corrects for the number of "
        "pairs (Holm)."
    )


def budgets(costs: Sequence[float]) -> list[float]:
    """Round limits (1, 2, 5 times a power of ten) that separate the costs.

    Args:
        costs: in base units; those that are not positive are below every limit.

    Returns:
        Ascending; each admits a cost, none admits all of them.
    """
    known = [cost for cost in costs if cost > 0 and math.isfinite(cost)]
    if not known:
        return []
    low, high = min(known), max(known)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    limits = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    return [limit for limit in limits if low <= limit < high]


def _most_accurate(scored: pd.DataFrame, lone: str) -> Finding:
    row = scored.iloc[0]
    text = f"mIoU {human(row[MIOU], 'points')}{_interval(row)}"
    text += f"; stores {human(row[STORED], 'bytes')} per task"
    if pd.notna(row[TRAINING]):
        text += f", a training step takes {human(row[TRAINING], 'ratio')} that of {references()[0]}"
    label = "Most accurate" if len(scored) > 1 else lone
    return Finding(label, (str(row["method"]),), text)


def _rivals(scored: pd.DataFrame, pairs: pd.DataFrame | None) -> pd.DataFrame:
    """The methods that may be as good as the best: by the test, else by closeness."""
    best = scored.iloc[0]
    if pairs is None:
        return scored[scored[MIOU] >= best[MIOU] - CLOSE]
    place = {str(name): number for number, name in enumerate(scored["method"])}
    apart = pairs.loc[_significant(pairs), ["method_a", "method_b"]].astype(str).to_numpy()
    # Those that may have rank 1, as `open_ranks` has it.
    worse = {max(a, b, key=place.__getitem__) for a, b in apart if {a, b} <= place.keys()}
    tested = _tested(pairs, str(best["method"]))[0] | {str(best["method"])}
    return scored[scored["method"].isin(tested - worse)]


def as_good(rivals: pd.DataFrame, pairs: pd.DataFrame | None) -> pd.DataFrame:
    """Those of the best method and its rivals that its lead does not speak against.

    The correction for the number of pairs guards against calling a method better by chance. To call
    one as good takes more: the 95 % interval of its own difference must not exclude that.

    Args:
        rivals: of `rivals_of_best`, the best one first.
        pairs: the tests; None where none was made.
    """
    if pairs is None:
        return rivals
    best = str(rivals["method"].iloc[0])
    ahead = (pairs["method_a"].astype(str) == best) & (pairs["low"] > 0)
    return rivals[~rivals["method"].isin(set(pairs["method_b"][ahead]))]


def _beats_all(scored: pd.DataFrame, pairs: pd.DataFrame) -> bool:
    """Whether the best method is significantly better than every other one."""
    worse = _tested(pairs, str(scored["method"].iloc[0]))[1]
    return set(map(str, scored["method"].iloc[1:])) <= worse


def _tested(pairs: pd.DataFrame, best: str) -> tuple[set[str], set[str]]:
    """The methods that were compared with the best one, and those of them that are worse."""
    a, b = pairs["method_a"].astype(str), pairs["method_b"].astype(str)
    others = b.where(a == best, a)[(a == best) | (b == best)]
    return set(others), set(others[_significant(pairs)])


def _tested_seeds(scored: pd.DataFrame) -> int:
    """The fewest seeds of a method that was tested."""
    return int(scored.loc[scored["seeds"] > 1, "seeds"].min())


def _significant(pairs: pd.DataFrame) -> "pd.Series[bool]":
    return pairs["significant"].fillna(False).astype(bool)


def _seeds_for_point(pairs: pd.DataFrame, seeds: int) -> str:
    """How many seeds would have found a difference of a point, where that is known.

    Args:
        pairs: the tests.
        seeds: that there are.
    """
    needed = _needed(pairs)
    if math.isnan(needed) or not is_known(seeds, needed):
        return ""
    what = "a difference of 1 point between a typical pair of methods"
    if needed <= seeds:
        return "; a difference of 1 point would most likely have shown"
    if math.isinf(needed):
        return f"; not even {MOST_SEEDS} seeds would find {what} on so few test images"
    rough = f", roughly estimated from {seeds}," if seeds <= FEW_SEEDS else ""
    return f"; about {int(needed)} seeds{rough} would find {what}"


def _add_seeds(pairs: pd.DataFrame, seeds: int, more: str) -> list[str]:
    """How to add seeds where there are few, and whether those would be enough.

    Args:
        pairs: the tests.
        seeds: that there are.
        more: the command that adds `commands.MORE_SEEDS`.
    """
    needed, added = _needed(pairs), commands.MORE_SEEDS
    if seeds > FEW_SEEDS or needed <= seeds:
        return []
    if math.isnan(needed) or not is_known(seeds, needed):
        return [
            f"To tell more apart, or learn how many seeds that takes, add {added} seeds: {more}."
        ]
    if needed <= seeds + added:
        return [f"To tell more apart, add {added} seeds: {more}."]
    return [
        f"{added} more seeds narrow the intervals, but about {int(needed)} in all would be needed "
        f"to find 1 point: {more}."
    ]


def _needed(pairs: pd.DataFrame) -> float:
    """Seeds that would find a point; NaN where that is not known, infinite where none do."""
    column = pairs["seeds_for_point"]
    return math.nan if column.isna().any() else float(column.max())


def _near(scored: pd.DataFrame, rivals: pd.DataFrame, pairs: pd.DataFrame | None) -> list[Finding]:
    others = rivals.iloc[1:]
    tested = pairs is not None
    label = "Not significantly worse than any method" if tested else "Within 1 point of it"
    if others.empty:
        best = str(scored["method"].iloc[0])
        if pairs is not None:
            worse = _tested(pairs, best)[1]
            unsure = [str(name) for name in scored["method"][1:] if name not in worse]
            label, says = "Ahead of all", "significantly better than every other method"
            if unsure:
                label, says = "Ahead", f"significantly better than all but {', '.join(unsure)}"
            return [Finding(label, (best,), f"{says}, after Holm's correction")]
        one_seed = int(scored["seeds"].min()) == 1
        says = "with one seed, which is too few for a test" if one_seed else "not tested"
        return [Finding("More than 1 point ahead", (best,), says)]
    names = tuple(str(name) for name in others["method"])
    low, high = (human(others[MIOU].agg(end), "points") for end in ("min", "max"))
    text = f"mIoU {low}" if low == high else f"mIoU {low} to {high}"
    if pairs is not None:
        if len(names) == 1:
            text += _span(pairs, str(rivals["method"].iloc[0]), names[0])
        text += _seeds_for_point(pairs, _tested_seeds(scored))
    findings = [Finding(label, names[:_MOST_NAMES], text, more=len(names[_MOST_NAMES:]))]
    among = "that may be as good" if tested else "within 1 point of it"
    level = as_good(rivals, pairs)
    findings += _smallest(level, pairs, f"Smallest {among}")
    return findings + _fastest(level, pairs, f"Fastest to train {among}")


def _pair(pairs: pd.DataFrame, best: str, other: str) -> pd.Series | None:
    found = pairs[(pairs["method_a"] == best) & (pairs["method_b"] == other)]
    return found.iloc[0] if len(found) else None


def _span(pairs: pd.DataFrame, best: str, other: str) -> str:
    """How far a method may be behind the best one; empty where this was not tested."""
    pair = _pair(pairs, best, other)
    if pair is None or pd.isna(pair["low"]):
        return ""
    return f", {below_text(float(pair['low']), float(pair['high']))} {best}"


def _behind(pairs: pd.DataFrame | None, best: str, other: str) -> str:
    """`_span`, and that it is not significant."""
    span = _span(pairs, best, other) if pairs is not None else ""
    return f"{span} (not significant)" if span else ""


def _smallest(rivals: pd.DataFrame, pairs: pd.DataFrame | None, label: str) -> list[Finding]:
    known = rivals.dropna(subset=[STORED])
    if known.empty:
        return []
    row, best = known.sort_values(STORED, kind="stable").iloc[0], rivals.iloc[0]
    name, first = str(row["method"]), str(best["method"])
    if name == first:
        return []
    mine, its = human(row[STORED], "bytes"), human(best[STORED], "bytes")
    saving = f" instead of {its}" if mine != its else ""
    score = f"mIoU {human(row[MIOU], 'points')}{_behind(pairs, first, name)}"
    return [Finding(label, (name,), f"{score}; {mine}{saving}")]


def _fastest(rivals: pd.DataFrame, pairs: pd.DataFrame | None, label: str) -> list[Finding]:
    """Those that train faster than the best one in every round, on a machine that was not busy."""
    if not {TRAINING, *_ROUNDS} <= set(rivals):
        return []
    known, best = rivals.dropna(subset=[TRAINING, _LOW, _HIGH]), rivals.iloc[0]
    if known.empty or best["method"] not in set(known["method"]):
        return []
    row = known.sort_values(TRAINING, kind="stable").iloc[0]
    first = str(best["method"])
    if row["method"] == first:
        return []
    alike = known[known[_LOW] <= row[_HIGH]].sort_values(TRAINING, kind="stable")
    names = tuple(map(str, alike["method"]))
    busy = bool((known[_OTHERS] >= BUSY).any())
    if busy:
        told = "measured on a busy machine, so which method trains fastest is not told"
        return [Finding("Training times", (), told)]
    if first in names:
        told = f"do not differ clearly among {', '.join(names)} (ranges over the rounds overlap)"
        return [Finding("Training times", (), told)]
    low, high = (human(alike[TRAINING].agg(end), "ratio") for end in ("min", "max"))
    times = low if low == high else f"{low} to {high}, which do not differ clearly,"
    behind = _behind(pairs, first, names[0]) if len(names) == 1 else ""
    scores = " and ".join(human(value, "points") for value in alike[MIOU])
    return [
        Finding(
            label,
            names,
            f"mIoU {scores}{behind}; {times} instead of {human(best[TRAINING], 'ratio')}",
        )
    ]


def _under_budgets(scored: pd.DataFrame) -> list[Finding]:
    """The best method under each of a few limits, where a higher limit buys another method."""
    known = scored.dropna(subset=[STORED])
    front = known[pareto_front(known[STORED], known[MIOU])]
    found: dict[str, tuple[float, pd.Series]] = {}
    for limit in budgets(known[STORED].tolist()):
        affordable = front[front[STORED] <= limit]
        if len(affordable):
            row = affordable.sort_values(MIOU, kind="stable").iloc[-1]
            found.setdefault(str(row["method"]), (limit, row))
    spread = list(found.items())
    if len(spread) > _MOST_BUDGETS:
        step = (len(spread) - 1) / (_MOST_BUDGETS - 1)
        spread = [spread[round(step * place)] for place in range(_MOST_BUDGETS)]
    return [
        Finding(
            f"Under {human_limit(limit, 'bytes')} per task",
            (name,),
            f"mIoU {human(row[MIOU], 'points')}{_interval(row)}, {human(row[STORED], 'bytes')}",
        )
        for name, (limit, row) in spread
    ]


def caveats(scored: pd.DataFrame, status: pd.DataFrame, tested: bool) -> list[str]:
    """What a reader must know along with the findings, a sentence each; see `answer`."""
    result = []
    finished = status[(status["status"] == "done") & status["method"].isin(scored["method"])]
    low, high = int(scored["seeds"].min()), int(finished["seeds"].max())
    if low == 1 and tested:
        once = [str(name) for name in scored["method"][scored["seeds"] == 1]]
        others = f" and {len(once) - _MOST_NAMES} more" if len(once) > _MOST_NAMES else ""
        named = ", ".join(once[:_MOST_NAMES])
        result.append(f"From one seed, so not tested: {named}{others}.")
    elif low == 1 and len(scored) > 1:
        which = "One seed" if high == 1 else "Some results are from one seed"
        result.append(
            f"{which}: differences between methods are not tested. Another seed would change these "
            "numbers and could swap neighbours in the ranking."
        )
    elif not tested and len(scored) > 1:
        result.append(
            f"{seed_range(finished['seeds'])} each; intervals are 95 % t intervals over seeds. "
            "Differences were not tested, so do not call methods with overlapping intervals "
            "different."
        )
    left = status["method"].nunique() - len(scored)
    if left > 0:
        which, verb = counted(left, "method"), "is" if left == 1 else "are"
        result.append(
            f"{which} did not finish every benchmark and {verb} not ranked on the average; see the "
            "scores on each benchmark."
            if status["benchmark"].nunique() > 1
            else f"{which} did not finish and {verb} not ranked."
        )
    return result


def _why_empty(status: pd.DataFrame) -> str:
    done = int((status["status"] == "done").sum())
    if done == 0:
        return "No run finished, so there is nothing to compare."
    return (
        "No method has finished every benchmark, so there is no average; see the scores on each "
        "benchmark."
    )


def _interval(row: pd.Series) -> str:
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return ""
    return f" ({human(row['low'], 'points')} to {human(row['high'], 'points')})"


def _is(table: pd.DataFrame, key: Key) -> pd.Series:
    return (table[GROUP].astype(str) == list(key)).all(axis=1)


def _grid_status(points: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Every cell of a group's grid (benchmark, method, status, seeds), also those never started."""
    rows = points[points["scope"].map(lambda scope: isinstance(scope, str))]
    names = [sorted(runs["benchmark"].unique()), sorted(runs["method"].unique())]
    grid = pd.MultiIndex.from_product(names, names=["scope", "method"]).to_frame(index=False)
    known = rows[["scope", "method", "status", "seeds"]]
    grid = grid.merge(known, on=["scope", "method"], how="left")
    return grid.rename(columns={"scope": "benchmark"}).fillna({"status": "missing", "seeds": 0})
