"""`timing`: measures the methods of a group side by side, for the report."""

import contextlib
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.results.timing import Timing

STEPS, ROUNDS, THREADS = 3, 5, 1

WIDTH = 120
"""Columns that the table needs."""

WORDS = {
    "training": "training step",
    "latency": "latency, 1 image",
    "latency8": "latency, 8 images",
    "latency_merged": "merged, 1 image",
    "latency8_merged": "merged, 8 images",
}
"""What is measured, as it is printed."""


@options.takes(*options.without("seeds", "fraction", "workers"), finished=True)
def timing(
    request: "Request",
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=1, help="Threads on a CPU.")
    ] = THREADS,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, help="Timed steps per method and round.")
    ] = STEPS,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", metavar="N", min=1, help="Rounds; every method runs once per round."
        ),
    ] = ROUNDS,
    quiet: options.Quiet = False,
) -> None:
    """Measure training steps and latency of methods side by side; the report shows the ratios.

    Methods with the same backbone, weights and protocol take turns in one process, so other load on
    the machine affects all of them equally. By default, all methods with finished runs in the
    results folder are timed. Options narrow this down; --methods adds methods without runs. Methods
    timed before are timed again.
    """
    measure_groups(request, _groups(request), steps, rounds, threads, quiet)


def measure_groups(
    request: "Request",
    groups: "list[list[RunSpec]]",
    steps: int = STEPS,
    rounds: int = ROUNDS,
    threads: int = THREADS,
    quiet: bool = False,
) -> None:
    """Measures and stores each group, and prints a table of it.

    Args:
        request: where data, weights and results are.
        groups: cells, as `benchmark.profiling.timing.groups.groups` returns them.
        steps: timed training steps a turn.
        rounds: in which all methods take turns.
        threads: on a CPU.
        quiet: do not show what is being measured.
    """
    from rich.console import Console

    from benchmark.execution.environment import prepare
    from benchmark.execution.executors.here import Here
    from benchmark.execution.executors.worker import threads_of
    from benchmark.execution.preflight import preflight
    from benchmark.execution.tasks import Silent
    from benchmark.profiling.timing.groups import complete, former
    from benchmark.profiling.timing.measure import measure
    from benchmark.results import store
    from benchmark.results.timing import write

    store.check_writable(request.results)
    environment = prepare(request.data, request.weights, request.device, 0)
    console, errors = Console(), Console(stderr=True)

    def note(text: str) -> None:
        errors.print(text, markup=False, highlight=False, soft_wrap=True)

    for group in groups:
        before = former(request.results, group[0])
        cells = complete(group, before, note)
        with threads_of(threads):
            verdicts = preflight(
                cells, Here(environment), Silent(), request.data, accept_audit=True
            ).verdicts
        for cell in cells:
            if verdicts[cell.run_id].reason:
                note(f"{cell.method_label} is skipped: {verdicts[cell.run_id].reason}")
        cells = [cell for cell in cells if not verdicts[cell.run_id].reason]
        with _progress(Console(stderr=True, quiet=quiet)) as tell:
            found, problems = measure(
                cells, environment, steps=steps, rounds=rounds, threads=threads, tell=tell
            )
        for label, problem in problems.items():
            note(f"{label} could not be measured: {problem}")
        lost = set(before.methods if before else ()) - set(found.methods)
        if before and lost:
            raise UserError(
                f"{request.results / before.path} has times of {', '.join(sorted(lost))}, which "
                "could not be measured again; the file is unchanged. To continue, remove it"
            )
        path = write(request.results, found)
        _print(console, found)
        console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)


def suggest(console: "Console", request: "Request", cells: "list[RunSpec]") -> None:
    """Prints how to measure groups whose methods were not all measured side by side."""
    from benchmark.analysis.runs import Runs
    from benchmark.core.format import time_text
    from benchmark.profiling.timing.groups import unmeasured
    from benchmark.reporting.timing_notes import seconds
    from benchmark.results import store
    from benchmark.results.load import load_results

    suite = request.selection.suite
    done = [cell for cell in cells if store.has_result(request.results, cell)]
    if any(True for _ in unmeasured(request.results, done)):
        table = load_results(request.results, suite)
        own = Runs(table[table["run_id"].isin([cell.run_id for cell in done])])
        known = [seconds(group.frame) for group in own.groups.values()]
        took = sum(filter(None, known))
        console.print(
            "training time and latency are not compared yet; to compare them"
            + (f" (at least {time_text(took)} on an idle machine)" if took else "")
            + f", run `python -m benchmark timing --suite {suite}{request.repeated}"
            f"{request.sources}`",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def measure_cells(request: "Request", cells: "list[RunSpec]", quiet: bool = False) -> None:
    """Measures the finished ones of these cells, each group side by side."""
    from benchmark.profiling.timing.groups import groups
    from benchmark.results import store

    done = [cell for cell in cells if store.has_result(request.results, cell)]
    measure_groups(request, groups(done), quiet=quiet)


def _groups(request: "Request") -> "list[list[RunSpec]]":
    """The groups that are asked for: of the named methods, else of what the results hold."""
    from benchmark.planning.remembered import recall
    from benchmark.profiling.timing.groups import finished, groups

    asked = request.selection
    if asked.methods:
        return groups(request.plan())
    cells = list(finished(request.results, asked.suite))
    problems = recall(request.results, dict.fromkeys(cell.benchmark for cell in cells))
    for name, problem in problems.items():
        raise UserError(f"benchmark {name!r} {problem}")
    narrowed = asked.backbones or asked.benchmarks or asked.protocol
    planned = request.plan() if narrowed else []
    limits = {
        "backbone": asked.backbones,
        "benchmark": asked.benchmarks,
        "protocol": asked.protocol,
    }
    for name in (name for name, limit in limits.items() if limit):
        wanted = [getattr(cell, name) for cell in planned]
        cells = [cell for cell in cells if getattr(cell, name) in wanted]
    if asked.weights == "none":
        cells = [cell for cell in cells if cell.weights == "none"]
    if not cells:
        raise UserError(
            f"no matching finished runs in {request.place}/{asked.suite}; run them first, "
            "or name methods with --methods"
        )
    return groups(cells)


@contextlib.contextmanager
def _progress(console: "Console") -> "Iterator[Callable[[str], None]]":
    """What is running: in place on a terminal, else a line where something begins."""
    from rich.markup import escape

    if console.is_terminal and not console.quiet:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    former = ""

    def line(text: str) -> None:
        nonlocal former
        stage = text.partition(":")[0]
        if stage != former:
            console.print(stage, markup=False, highlight=False)
        former = stage

    yield line


def _print(console: "Console", timing: "Timing") -> None:
    from rich.markup import escape
    from rich.table import Table

    from benchmark.reporting.timing_notes import how
    from benchmark.results.timing_columns import references

    console.print(how(timing), markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None)
    known = [name for name in references() if name in timing.methods]
    for heading in ("method", "", "ms", *(f"x {name}" for name in known)):
        table.add_column(heading, no_wrap=True)
    for label, one in timing.methods.items():
        for place, (kind, seconds) in enumerate(one.seconds.items()):
            ratios = [timing.ratio(label, kind, name) for name in known]
            texts = [f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})" if r else "" for r in ratios]
            name = "" if place else escape(label)
            table.add_row(name, WORDS[kind], f"{1000 * median(seconds):.1f}", *texts)
    # In full, however narrow the terminal: figures that are cut off say nothing.
    type(console)(width=max(console.width, WIDTH)).print(table)
    console.print(
        "ms: median over the rounds. x: median of the ratios within each round (lowest to "
        "highest), on which other load weighs less; it may differ from the ratio of the ms.",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
