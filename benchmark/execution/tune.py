"""Runs the trials of methods, rung by rung, and chooses the best of each.

A trial's cells are ordinary cells that evaluate the validation split, in a results folder of their
own. What is chosen follows from their records alone, so a command that was killed and repeated
chooses what an undisturbed one does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.record import Record, Status
from benchmark.core.spec import RunSpec, Tuning
from benchmark.execution.journal import Journal
from benchmark.planning.trials import Cells, Rung, Study
from benchmark.results import store

WORST: tuple[Status, ...] = ("nan", "oom", "unsupported")
"""How a setting fails by itself: it counts as a trial that scores 0."""

Run = Callable[[Sequence[RunSpec]], Mapping[str, str]]
"""Runs cells, and returns why some could not run, by run id; raises `Stopped` at a signal."""


class Stopped(Exception):
    """A signal came; the same command resumes."""


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        study: its trials.
        alive: numbers of those that go on.
        reached: by trial, on how many benchmarks it has run.
        scores: by trial, the mean mIoU on these.
        problem: why nothing can be chosen; empty = something can.
        unsupported: whether that is because the method cannot act on the backbone.
    """

    study: Study
    alive: list[int]
    reached: dict[int, int] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    problem: str = ""
    unsupported: bool = False

    @property
    def best(self) -> int:
        """The number of the chosen trial: of equal ones the first."""
        return self.alive[0]


def tune(
    studies: Sequence[Study],
    cells: Cells,
    rungs: Sequence[Rung],
    journal: Journal,
    results: Path,
    run: Run,
    pruning: str,
) -> list[Progress]:
    """Runs all trials and chooses; all methods go through the same rungs.

    Args:
        studies: a method on a backbone each.
        cells: of all their trials.
        rungs: the rounds.
        journal: where it is written down.
        results: folder of the trials' records.
        run: runs cells that have no result.
        pruning: which of the ways of dropping trials the rungs are of.

    Raises:
        Stopped: a signal came.
        UserError: the journal is of other studies, or no cell can run.
    """
    first = cells.first
    asked = {
        "trials": rungs[0].trials,
        "pruning": pruning,
        "benchmarks": cells.benchmarks,
        "seeds": cells.seeds,
        "weights": first.weights,
        **{f"protocol.{name}": value for name, value in first.protocol.identity.items()},
    }
    for study in studies:
        journal.begin(study, asked)
    every = [Progress(study, list(range(rungs[0].trials))) for study in studies]
    for rung in rungs:
        for one in every:
            _drop(one, rung, journal)
        going = [one for one in every if not one.problem]
        todo = {
            cell.run_id: cell
            for one in going
            for trial in one.alive
            for cell in cells.of(one.study, trial, rung.benchmarks)
            if not _is_over(store.record_of(results, cell))
        }
        refusals = run(list(todo.values())) if todo else {}
        for one in going:
            _score(one, rung, cells, results, journal, refusals)
    for one in every:
        if not one.problem:
            for trial in one.alive:
                journal.end(one.study, trial, one.scores[trial], pruned=False)
    return every


def _drop(one: Progress, rung: Rung, journal: Journal) -> None:
    """Leaves the best trials alone, of equal ones the first."""
    for trial in one.alive[rung.trials :]:
        journal.end(one.study, trial, one.scores[trial], pruned=True)
    one.alive = one.alive[: rung.trials]


def _score(
    one: Progress,
    rung: Rung,
    cells: Cells,
    results: Path,
    journal: Journal,
    refusals: Mapping[str, str],
) -> None:
    """Scores the trials of a rung and puts the best first."""
    wanted = {trial: cells.of(one.study, trial, rung.benchmarks) for trial in one.alive}
    records = {t: [store.record_of(results, cell) for cell in own] for t, own in wanted.items()}
    pairs = [
        (cell, record)
        for trial, own in wanted.items()
        for cell, record in zip(own, records[trial], strict=True)
    ]
    for cell, record in pairs:
        if not _is_over(record):
            why = record.reason if record else refusals.get(cell.run_id, "it did not run")
            one.problem = f"{cell.method_label} on {cell.benchmark}: {why}"
            return
    reasons = [record.reason for _, record in pairs if record and record.status == "unsupported"]
    if len(reasons) == len(pairs):
        one.problem, one.unsupported = reasons[0], True
        return
    for trial, found in records.items():
        one.reached[trial] = rung.benchmarks
        one.scores[trial] = sum(map(score_of, found)) / len(found)
        journal.report(one.study, trial, rung.benchmarks, one.scores[trial])
    one.alive.sort(key=lambda trial: (-one.scores[trial], trial))
    if one.scores[one.best] == 0:
        why = next((record.reason for _, record in pairs if record and record.reason), "mIoU 0")
        one.problem = f"no setting could be trained: {why}"


def _is_over(record: Record | None) -> bool:
    """Whether a cell is decided: it has a score, or its setting could not be trained."""
    return record is not None and (record.metrics is not None or record.status in WORST)


def score_of(record: Record | None) -> float:
    """MIoU of a cell; 0 where its setting could not be trained."""
    return record.metrics.miou if record is not None and record.metrics is not None else 0.0


def tuning_of(cells: Cells, trials: int) -> Tuning:
    """What records of runs with the chosen settings say about how these were chosen."""
    return Tuning(
        trials=trials,
        benchmarks=cells.benchmarks,
        seeds=cells.seeds,
        protocol_hash=cells.first.protocol.hash,
    )


def trials_table(every: Sequence[Progress], cells: Cells, results: Path) -> pd.DataFrame:
    """One row a trial, by study and number.

    Returns:
        backbone, method, trial, setting, outcome (chosen, complete, pruned), benchmarks (how many
        it ran on), score (the mean over these), the mean over seeds on each benchmark (missing
        where it did not run), and `problem`, why a cell scores 0.
    """
    rows: list[dict[str, Any]] = []
    for one in every:
        if one.problem:
            continue
        for trial, label in enumerate(one.study.labels):
            row: dict[str, Any] = {
                "backbone": one.study.backbone,
                "method": one.study.label,
                "trial": trial,
                "setting": label,
                "outcome": "complete" if trial in one.alive else "pruned",
                "benchmarks": one.reached[trial],
                "score": one.scores[trial],
            }
            if trial == one.best:
                row["outcome"] = "chosen"
            problems = []
            for place, name in enumerate(cells.benchmarks):
                row[name] = None
                if place < one.reached[trial]:
                    own = [
                        store.record_of(results, cell)
                        for cell in cells.every[one.study.backbone, label, name]
                    ]
                    row[name] = sum(map(score_of, own)) / len(own)
                    problems += [f"{name}: {r.reason}" for r in own if r and r.metrics is None]
            rows.append(row | {"problem": "; ".join(problems)})
    return pd.DataFrame(rows)


def common_scores(table: pd.DataFrame, benchmarks: Sequence[str]) -> pd.DataFrame:
    """Scores for `analysis.regret`: means over benchmarks that every trial ran on.

    Args:
        table: as `trials_table` gives it.
        benchmarks: of the first rung.
    """
    means = table[list(benchmarks)].astype(float).mean(axis=1)
    return table[["backbone", "method", "trial"]].assign(score=means)
