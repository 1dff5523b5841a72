"""`tune`: chooses the settings of methods on validation splits."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import executors, options
from benchmark.cli.options import how, where
from benchmark.cli.run import AcceptAudit, Jobs
from benchmark.core.errors import UserError
from benchmark.core.format import counted

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.interrupt import StopSignal
    from benchmark.core.spec import RunSpec
    from benchmark.execution.tasks import Listener
    from benchmark.execution.tune import Progress
    from benchmark.planning.trials import Cells, Rung, Study

Trials = Annotated[int, how("--trials", metavar="N", min=1, help="Settings to try per method.")]
Pruning = Annotated[
    str,
    how(
        "--pruning",
        metavar="halving|none",
        help="halving: after each round of benchmarks, drop the worse half of the trials.",
    ),
]
Out = Annotated[Path, where("--out", metavar="FILE", help="File of the chosen settings.")]
Plan = Annotated[bool, how("--plan", help="Only print the trials and the time they will take.")]


@options.takes(*options.without("fraction", "settings"))
def tune(
    request: "Request",
    trials: Trials = 8,
    pruning: Pruning = "halving",
    out: Out = Path("settings.yaml"),
    plan: Plan = False,
    jobs: Jobs = "auto",
    accept_audit: AcceptAudit = False,
    executor: executors.Name = "local",
    address: executors.Address = None,
    ray: executors.RayOptions = None,
    slurm: executors.SlurmOptions = None,
) -> None:
    """Choose the settings of methods on validation splits; the test splits stay closed.

    Every method gets the same number of trials at the same learning rates, and the trial with the
    best mean mIoU over the benchmarks is chosen. `run --settings` then uses the result. A setting
    that diverges counts as a trial that scores 0. Trials are stored in tuning/ of the results
    folder; to resume, repeat the command. With --executor ray or slurm, other machines train them,
    as in `run`.

    Exit code 0: all methods have a setting, or are unsupported. 1: some have none. 2: bad request
    or files. 130, 143: stopped by a signal.
    """
    from benchmark.planning import trials as planning
    from benchmark.planning.settings import check_replaceable

    if pruning not in planning.PRUNING:
        raise UserError(f"--pruning {pruning!r}: choose from {', '.join(planning.PRUNING)}")
    trainer = executors.chosen(executor, address, ray, slurm, jobs)
    check_replaceable(out)
    from rich.console import Console

    from benchmark.core.record import TUNING
    from benchmark.core.selectors import split_selectors
    from benchmark.models.find_weights import expand
    from benchmark.planning.catalogue import SUITES
    from benchmark.planning.own_sets import backbones_of
    from benchmark.results import remote

    console, selection = Console(highlight=False), request.selection
    suite = SUITES.get(selection.suite)
    named = split_selectors(selection.backbones or "")
    usual = named or list(backbones_of(suite, selection.weights, request.weights))
    backbones = expand(usual, request.weights)
    studies = planning.studies(selection.methods or suite.methods, backbones, trials)
    cells = planning.cells(selection, studies)
    rungs = planning.rungs(trials, len(cells.benchmarks), pruning)
    _check_validation(cells, request.data)
    results = remote.within(request.results, TUNING)
    _check_stale(request, cells, results)
    _announce(console, studies, cells, rungs)
    if plan:
        _forecast(console, request, studies, cells, rungs, results)
        return
    from benchmark.cli.progress import leaving, stopping
    from benchmark.core.interrupt import StopSignal

    watch = StopSignal(None, leaving if trainer.detaches else stopping)
    inner = dataclasses.replace(request, results=results)

    def train(todo: "Sequence[RunSpec]", watcher: "Listener") -> None:
        trainer.train(inner, todo, watcher, watch, accept_audit=accept_audit)

    every = _run(console, results, studies, cells, rungs, pruning, train, watch)
    left = _finish(console, results, every, cells, rungs, out)
    if left:
        raise typer.Exit(1)


def _check_validation(cells: "Cells", data: Path | None) -> None:
    """Raises UserError for a benchmark that has no validation images."""
    from benchmark.data.base import seal_test
    from benchmark.execution.splits import open_benchmark

    with seal_test():
        for name in cells.benchmarks:
            if not open_benchmark(name, data).ids("val"):
                raise UserError(
                    f"{name} has no validation images, on which `tune` chooses; give it a val "
                    "split, or choose others with --benchmarks"
                )


def _check_stale(request: "Request", cells: "Cells", results: Path) -> None:
    """Raises UserError where trials were run with other code, data or weights."""
    from benchmark.execution import grid

    every = [cell for own in cells.every.values() for cell in own]
    outdated = grid.stale(every, results, request.data, request.weights)
    if outdated:
        why = ", ".join(dict.fromkeys(why for whys in outdated.values() for why in whys))
        raise UserError(
            f"{counted(len(outdated), 'run')} of earlier trials in {results} "
            f"cannot be compared with new ones ({why}); choose another folder with --results DIR"
        )


def _announce(
    console: "Console", studies: "Sequence[Study]", cells: "Cells", rungs: "Sequence[Rung]"
) -> None:
    """Prints what is tried on what."""
    sets, seeds = cells.benchmarks, len(cells.seeds)
    console.print(
        f"{counted(len(studies), 'method')}, {counted(rungs[0].trials, 'trial')} each, "
        f"validation splits of {', '.join(sets)}" + (f", {seeds} seeds" if seeds > 1 else ""),
        soft_wrap=True,
    )
    for study in studies:
        varied = ", ".join(_range(field, values) for field, values in study.space.items())
        console.print(
            f"  {study.name}: {varied or 'nothing to vary'}", markup=False, soft_wrap=True
        )
    if len(rungs) > 1:
        rounds = "; ".join(
            f"{rung.trials} on {', '.join(sets[: rung.benchmarks])}" for rung in rungs
        )
        console.print(f"rounds: trials {rounds}", soft_wrap=True)


def _range(field: str, values: "tuple[object, ...]") -> str:
    if field == "lr":
        return f"lr {values[0]} to {values[1]}"
    return f"{field} {'|'.join(map(str, values))}"


def _forecast(
    console: "Console",
    request: "Request",
    studies: "Sequence[Study]",
    cells: "Cells",
    rungs: "Sequence[Rung]",
    results: Path,
) -> None:
    """Prints the number of cells that are left, and their time by earlier runs."""
    from benchmark.core.format import time_text
    from benchmark.core.machine import device_name, find_device
    from benchmark.planning import published_costs
    from benchmark.planning.forecast import Forecaster, forecast
    from benchmark.results import store
    from benchmark.results.index import read_index

    # Which trials go on is not known yet: the first ones stand for them.
    planned: dict[str, RunSpec] = {
        cell.run_id: cell
        for rung in rungs
        for study in studies
        for trial in range(rung.trials)
        for cell in cells.of(study, trial, rung.benchmarks)
    }
    done = sum(store.record_of(results, cell) is not None for cell in planned.values())
    runs = [
        entry for root in (request.results, results) for entry in read_index(root).entries.values()
    ]
    elsewhere, published = published_costs.read()
    device = device_name(find_device(request.device))
    forecaster = Forecaster(runs, device, Forecaster(published, elsewhere))
    total = forecast(list(planned.values()), forecaster)
    text = counted(total.cells, "run")
    if total.without_basis < total.cells:
        text += f", about {time_text(total.device_seconds)} one after another"
        text += " (rough: from published runs on another machine)" if total.rough else ""
    if total.without_basis:
        text += f"; no time estimate for {total.without_basis} of them, since no run is like them"
    console.print(text + (f"; {done} have a result already" if done else ""), soft_wrap=True)


def _run(
    console: "Console",
    results: Path,
    studies: "Sequence[Study]",
    cells: "Cells",
    rungs: "Sequence[Rung]",
    pruning: str,
    train: "Callable[[Sequence[RunSpec], Listener], None]",
    watch: "StopSignal",
) -> "list[Progress]":
    """Runs the trials by `train`; a signal ends the command with its exit code."""
    from benchmark.cli.progress import listener
    from benchmark.data.base import seal_test
    from benchmark.execution.journal import opened
    from benchmark.execution.tune import Stopped
    from benchmark.execution.tune import tune as choose

    def run(todo: "Sequence[RunSpec]") -> "Mapping[str, str]":
        with listener(console, len(todo)) as watcher:
            train(todo, watcher)
        if watch.signal:
            raise Stopped
        return watcher.refusals

    try:
        with opened(results / cells.first.suite) as journal, seal_test():
            return choose(studies, cells, rungs, journal, results, run, pruning)
    except Stopped:
        console.print(f"stopped by {watch.signal}; to resume, repeat the command")
        raise typer.Exit(watch.exit_code) from None


def _finish(
    console: "Console",
    results: Path,
    every: "Sequence[Progress]",
    cells: "Cells",
    rungs: "Sequence[Rung]",
    out: Path,
) -> bool:
    """Writes settings, tables and figure, and prints them; whether a method has no setting."""
    from benchmark.analysis.regret import regret
    from benchmark.execution.tune import common_scores, trials_table, tuning_of
    from benchmark.planning.settings import Settings, write_settings
    from benchmark.reporting.figures.pareto import save_figure
    from benchmark.reporting.figures.regret import regret_figure

    for one in every:
        if one.problem:
            word = "unsupported" if one.unsupported else "not tuned"
            console.print(
                f"{word}: {one.study.name}: {one.problem}",
                style="red",
                markup=False,
                soft_wrap=True,
            )
    left = any(one.problem and not one.unsupported for one in every)
    if left:
        console.print("to try these again, repeat the command")
    suite = cells.first.suite
    trials = trials_table(every, cells, results)
    if trials.empty:
        console.print(f"nothing to choose from, so {out} was not written")
        return left
    common = cells.benchmarks[: rungs[0].benchmarks]
    curve = regret(common_scores(trials, common))
    chosen: dict[str, dict[str, dict[str, int | float | str]]] = {}
    for one in every:
        if not one.problem:
            own = chosen.setdefault(one.study.backbone, {})
            own[one.study.label] = dict(one.study.chosen[one.best])
    tuning, first = tuning_of(cells, rungs[0].trials), cells.first
    write_settings(out, Settings(suite=suite, weights=first.weights, tuning=tuning, methods=chosen))
    folder = results / suite
    trials.to_csv(folder / "trials.csv", index=False)
    curve.to_csv(folder / "regret.csv", index=False)
    over = ", ".join(common)
    save_figure(regret_figure(curve, over), folder / "regret")
    _print_tables(console, trials, curve, over)
    failed = int((trials["problem"] != "").sum())
    if failed:
        count = counted(failed, "trial")
        console.print(
            f"{count} could not be trained everywhere and score 0 there; see trials.csv",
            style="yellow",
        )
    console.print(
        f"settings in {out}, trials and figure in {folder}; `python -m benchmark run --settings "
        f"{out}` runs them",
        markup=False,
        soft_wrap=True,
    )
    return left


def _print_tables(
    console: "Console", trials: "pd.DataFrame", curve: "pd.DataFrame", over: str
) -> None:
    from rich.table import Table
    from rich.text import Text

    from benchmark.core.format import points_text

    best = trials[trials["outcome"] == "chosen"]
    for backbone, own in best.groupby("backbone", sort=False):
        scores = curve[curve["backbone"] == backbone]
        counts = sorted(scores["trials"].unique())
        table = Table("chosen", "val mIoU", *(f"best of {n}" for n in counts), box=None)
        table.columns[0].overflow = "fold"
        for row in own.sort_values("score", ascending=False, kind="stable").itertuples():
            line = scores[scores["method"] == row.method].set_index("trials")["score"]
            texts = (points_text(number) for number in [row.score, *line[counts]])
            table.add_row(Text(str(row.setting)), *texts)
        console.print(f"\n{backbone}", markup=False)
        console.print(table)
        console.print(
            "val mIoU: of the chosen setting, mean over all benchmarks; best of N: of N trials in "
            f"random order, on average, on {over}\n",
            soft_wrap=True,
        )
