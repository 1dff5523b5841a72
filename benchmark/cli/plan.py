"""`plan`: what `run` would do, with estimates of time, memory and disk."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from benchmark.cli import executors, options
from benchmark.cli.options import how, where
from benchmark.core.errors import UserError
from benchmark.core.format import counted

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.planning.staleness import State

MANY = 200
"""Runs of which a table is still read."""

MEANING = {
    "unsupported": "the method cannot act there",
    "stale": "code, data or weights have changed since",
    "interrupted": "will resume",
    "nan": "diverged",
    "oom": "out of memory",
    "timeout": "over --max-seconds",
    "missing": "not run yet",
}
"""States that do not speak for themselves."""

All = Annotated[bool, how("--all", help=f"List every run, even if there are more than {MANY}.")]
Probe = Annotated[
    bool, how("--probe", help="Time two steps where no earlier run gives an estimate.")
]


Detect = Annotated[
    float | None,
    how(
        "--detect",
        metavar="POINTS",
        min=0.01,
        help="Seeds that would find a difference of so many points of mIoU between two methods.",
    ),
]


Jobs = Annotated[
    str,
    where(metavar="N|auto", help="Runs to train in parallel, as in `run`: for the estimate."),
]
Price = Annotated[
    str | None,
    how(metavar="AMOUNT/h", help="Price of an hour of a job's machine, as in 2.5/h."),
]


@options.takes(*options.without("workers"))
def plan(
    request: "Request",
    all_: All = False,
    probe: Probe = False,
    detect: Detect = None,
    jobs: Jobs = "auto",
    executor: executors.Name = "local",
    ray: executors.RayOptions = None,
    slurm: executors.SlurmOptions = None,
    price: Price = None,
    as_json: options.AsJson = False,
) -> None:
    """List the selected runs with their state, and estimate time, memory and disk space.

    A run is one method on one backbone, benchmark and seed.

    done, unsupported: nothing to do. stale: the method, benchmark or weights changed after the run.
    interrupted: will resume from its checkpoint. failed, nan, oom, timeout: rerun only with
    --retry. missing: not run yet.

    Where no earlier run in the results folder gives an estimate of the time, it is a rough one from
    published runs on another machine; --probe measures on this one.
    """
    from rich.console import Console

    from benchmark.cli import terminal
    from benchmark.cli.forecasts import estimate, print_forecast, probed
    from benchmark.cli.power import print_power
    from benchmark.core.machine import load_average
    from benchmark.planning.crops import notes
    from benchmark.planning.other_settings import run_otherwise
    from benchmark.planning.requirements import require
    from benchmark.planning.staleness import CurrentHashes, made_before, redescribed, state_of
    from benchmark.results.index import read_index

    trainer = executors.chosen(executor, None, ray, slurm, jobs)
    number, rate = trainer.jobs, _rate(price, trainer)
    # Before this command adds to it; of other machines nothing is known.
    load = load_average() if trainer.is_local else None
    with terminal.busy("looking for finished runs, weights and data"):
        cells = request.plan()
        held = read_index(request.results)
        present = CurrentHashes(request.data, request.weights)
        states = [state_of(cell, held, present) for cell in cells]
    todo = [
        cell
        for cell, state in zip(cells, states, strict=True)
        if state.name in ("missing", "interrupted")
    ]
    missing = [c for c, state in zip(cells, states, strict=True) if state.name == "missing"]
    told = redescribed(made_before(missing, request.results))
    if not any(state.name in ("done", "stale") for state in states):
        told += run_otherwise(cells, request.results)
    told += notes(todo, request.data)
    told += _training_now(request, todo)
    if detect is not None and as_json:
        raise UserError("--detect prints a table; leave out --json")
    refusals, downloads = require(todo, request.data, request.weights)
    todo = [cell for cell in todo if cell.run_id not in refusals]
    runs = list(held.entries.values())
    if probe:
        # Progress must not come between the lines of a document.
        errors = Console(stderr=as_json, highlight=False)
        runs += probed(errors, request, todo, runs, number)
    expected = estimate(request, todo, runs, number, load) if todo else None
    handed = None if trainer.is_local else _handed(request, todo, trainer, rate)
    if as_json:
        terminal.print_json(
            {
                "suite": request.selection.suite,
                "results": request.place,
                "runs": [_row(*pair) for pair in zip(cells, states, strict=True)],
                "counts": _counts(states),
                "notes": told,
                "cannot_run": [
                    {"reason": reason, "runs": number}
                    for reason, number in Counter(refusals.values()).items()
                ],
                "downloads": downloads,
                "forecast": expected,
                **({"submission": handed} if handed else {}),
            }
        )
    else:
        console = Console(highlight=False, markup=False)
        if len(cells) <= MANY or all_:
            _table(console, cells, states)
        for way in dict.fromkeys(terminal.training(c.protocol.model_dump()) for c in cells):
            console.print(f"training: {way}", soft_wrap=True)
        _tally(console, states)
        for text in told:
            console.print(text, style="yellow", soft_wrap=True)
        if len(cells) > MANY and not all_:
            console.print("add --all to list them")
        for name in downloads:
            text = f"the weights of {name} are not on this disk; `run` will download them"
            console.print(text, style="yellow", soft_wrap=True)
        for reason, number in Counter(refusals.values()).items() if todo else ():
            text = f"cannot run ({counted(number, 'run')}): {reason}"
            console.print(text, style="red", soft_wrap=True)
        if expected:
            print_forecast(console, expected, probe)
        if handed and todo:
            console.print(_submission(handed), soft_wrap=True)
        if detect is not None:
            print_power(console, request, cells, detect)
    if refusals and not todo:  # as `run`, which refuses to start
        raise UserError(next(iter(refusals.values())))


def _training_now(request: "Request", todo: "Sequence[RunSpec]") -> list[str]:
    """That another command has some of the runs; empty where none has."""
    from benchmark.results import lock

    number = 0
    for cell in todo:
        with contextlib.suppress(OSError):
            number += lock.is_held(lock.path_of(request.results, cell))
    if not number:
        return []
    which = "is" if number == 1 else "are"
    return [f"{number} of these runs {which} being trained by another command"]


def _rate(price: str | None, trainer: executors.Executor) -> float | None:
    """The price of an hour."""
    if price is None:
        return None
    if trainer.is_local:
        raise UserError("--price needs --executor ray or slurm; add it, or leave --price out")
    try:
        rate = float(price.removesuffix("/h"))
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float("inf"):
        raise UserError(f"--price {price!r}: write the price of an hour, as in 2.5/h")
    return rate


def _handed(
    request: "Request",
    todo: "Sequence[RunSpec]",
    trainer: executors.Executor,
    rate: float | None,
) -> dict[str, Any]:
    """What `run` would hand over, and what it costs."""
    from benchmark.execution.executors.needs import minutes_of, pack
    from benchmark.execution.executors.slurm_jobs import least_minutes, read_options

    cells = trainer.cells(request, todo)
    packs = [[cell] for cell in cells]
    if trainer.name == "slurm":
        packs = pack(cells, least_minutes(read_options(trainer.slurm)))
    unknown = sum(cell.needs.minutes is None for cell in cells)
    # A part of a GPU costs a part of its price.
    hours = sum(minutes_of(one) * (one[0].needs.gpus or 1.0) for one in packs) / 60
    return {
        "executor": trainer.name,
        "jobs": len(packs),
        "runs": len(cells),
        "hours": hours,
        "without_estimate": unknown,
        "cost": None if rate is None else rate * hours,
    }


def _submission(found: dict[str, Any]) -> str:
    runs = counted(found["runs"], "run")
    text = f"{found['executor']}: {counted(found['jobs'], 'job')} for {runs}"
    text += f", about {found['hours']:.3g} machine hours"
    if found["cost"] is not None:
        text += f", cost {found['cost']:.2f}"
    if found["without_estimate"]:
        text += f"; {counted(found['without_estimate'], 'run')} without an estimate not counted"
    return text


def _row(cell: "RunSpec", state: "State") -> dict[str, Any]:
    return {
        "run_id": cell.run_id,
        "state": state.name,
        "reasons": list(state.reasons),
        "benchmark": cell.benchmark,
        "backbone": cell.backbone,
        "weights": cell.weights,
        "method": cell.method_label,
        "seed": cell.seed,
        "fraction": cell.protocol.fraction,
    }


def _counts(states: "Sequence[State]") -> dict[str, int]:
    from benchmark.planning.staleness import STATES

    counts = Counter(state.name for state in states)
    return {name: counts[name] for name in STATES if counts[name]}


def _table(console: "Console", cells: "Sequence[RunSpec]", states: "Sequence[State]") -> None:
    from rich.table import Table

    # A table each: their names are so long that they would wrap in a column.
    for backbone in dict.fromkeys(cell.backbone for cell in cells):
        console.print(f"backbone {backbone}", soft_wrap=True)
        table = Table(box=None)
        for heading in ("state", "benchmark", "method", "seed", "run"):
            # Whole, however narrow the terminal: names and ids are copied from here.
            table.add_column(heading, overflow="fold", no_wrap=heading in ("state", "run"))
        for cell, state in zip(cells, states, strict=True):
            if cell.backbone == backbone:
                label, seed = cell.method_label, str(cell.seed)
                table.add_row(state.name, cell.benchmark, label, seed, cell.run_id)
        console.print(table)


def _tally(console: "Console", states: "Sequence[State]") -> None:
    from benchmark.core.record import FINAL

    counts = _counts(states)
    told = {name: f" ({MEANING[name]})" if name in MEANING else "" for name in counts}
    text = ", ".join(f"{number} {name}{told[name]}" for name, number in counts.items())
    console.print(f"{counted(len(states), 'run')}: {text}", soft_wrap=True)
    for reason, number in Counter(r for state in states for r in state.reasons).items():
        console.print(f"stale: {counted(number, 'run')}, because {reason}", soft_wrap=True)
    if "stale" in counts:
        console.print("to repeat stale runs, use `run --rerun stale`")
    final = {*FINAL, "stale", "missing", "interrupted"}
    again = sum(number for name, number in counts.items() if name not in final)
    if again:
        console.print(
            f"{counted(again, 'unsuccessful run')}: repeat with --retry failed, oom or all"
        )
    unsure = sum(state.unknown for state in states)
    if unsure:
        console.print(
            f"{counted(unsure, 'finished run')} cannot be checked for changes: the record is old, "
            "or its data or weights are missing",
            soft_wrap=True,
        )
