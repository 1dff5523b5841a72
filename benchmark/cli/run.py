"""`run`: trains what is not done."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import executors, options
from benchmark.cli.options import how, where
from benchmark.cli.timing import measure_cells, suggest
from benchmark.core.errors import UserError
from benchmark.core.format import counted

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.execution.loggers.events import Logger

Retry = Annotated[
    str | None,
    how(
        metavar="failed|oom|all",
        help="Repeat unsuccessful runs: failed (or nan, timeout), oom (out of memory) or all.",
    ),
]
Rerun = Annotated[
    str | None,
    how(metavar="stale", help="Repeat finished runs whose code, data or weights have changed."),
]
MaxSeconds = Annotated[
    float | None, how(metavar="N", min=0, help="Time limit per run in seconds (default: none).")
]
Checkpoint = Annotated[
    float | None,
    how(metavar="SECONDS", min=0, help="Seconds between checkpoints (default: 60)."),
]
Compile = Annotated[
    str,
    how(
        "--compile",
        metavar="auto|always|never",
        help="Use torch.compile; auto: when earlier runs show that it saves time.",
    ),
]
Timing = Annotated[
    bool,
    how("--timing", help="Afterwards, time all methods side by side, as `timing` does."),
]
AcceptAudit = Annotated[
    bool,
    how(
        "--accept-audit",
        help="Train even if the audit finds that results would be wrong.",
    ),
]
Log = Annotated[
    list[str] | None,
    how(
        metavar="tensorboard|mlflow|wandb",
        help="Also log curves, scores, costs and sample predictions there; repeatable.",
    ),
]
Jobs = Annotated[
    str,
    where(
        metavar="N|auto",
        help="Runs to train in parallel; auto: one per core or per GPU.",
    ),
]


Devices = Annotated[
    str,
    where(
        metavar="N",
        help="Devices that train each run together: GPUs, or processes with --device cpu.",
    ),
]

Shard = Annotated[
    bool,
    where(
        "--shard",
        help="With --devices: spread the network, too (FSDP), where all of it is trained.",
    ),
]


@options.takes(*options.ALL)
def run(
    request: "Request",
    jobs: Jobs = "auto",
    devices: Devices = "1",
    shard: Shard = False,
    retry: Retry = None,
    rerun: Rerun = None,
    max_seconds: MaxSeconds = None,
    checkpoint: Checkpoint = None,
    compiling: Compile = "auto",
    timing: Timing = False,
    log: Log = None,
    accept_audit: AcceptAudit = False,
    executor: executors.Name = "local",
    address: executors.Address = None,
    ray: executors.RayOptions = None,
    slurm: executors.SlurmOptions = None,
    quiet: options.Quiet = False,
) -> None:
    """Train every selected combination that is unfinished.

    A run is one method on one backbone, benchmark and seed. Runs are trained in parallel, one per
    core. Several commands may share one results folder. Ctrl-C (SIGINT) and SIGTERM save a
    checkpoint; to resume, repeat the command.

    With --devices 4, four devices share the batches of each run; the results are those of one, to
    rounding.

    With --executor ray or slurm, other machines train the runs. Ctrl-C then leaves them running:
    the same command waits for them again, and `status` shows them. A second Ctrl-C cancels them.

    Exit code 0: all runs are done or unsupported. 1: some are not, or were not uploaded. 2: bad
    request or files. 130, 143: stopped by a signal.
    """
    from benchmark.planning.compile_policy import check

    if retry not in (None, "failed", "oom", "all"):
        raise UserError(f"--retry {retry!r}: choose from failed, oom, all")
    if rerun not in (None, "stale"):
        raise UserError(f"--rerun {rerun!r}: choose stale")
    check(compiling)
    trainer = executors.chosen(executor, address, ray, slurm, jobs, devices, compiling, shard)
    loggers = _loggers(log or [])
    from rich.console import Console

    from benchmark.cli.progress import leaving, listener, stopping
    from benchmark.core import answer_cache
    from benchmark.core.record import FINAL
    from benchmark.execution import grid
    from benchmark.execution.executors.worker import start_server
    from benchmark.execution.loggers.events import logged
    from benchmark.results import asked, store

    console, progress = Console(), Console(quiet=quiet)
    spawns = trainer.is_local and trainer.jobs != 1
    if spawns and not answer_cache.are_there():
        start_server()  # planning will take as long as this does
    cells = request.plan()
    outdated = grid.stale(cells, request.results, request.data, request.weights)
    todo = grid.pending(cells, request.results, retry)
    if rerun:
        todo += [cell for cell in cells if cell.run_id in outdated]
    for text in _notes(request, cells, todo, {} if rerun else outdated):
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    wanted = {cell.run_id for cell in todo}
    grid.tidy([cell for cell in cells if cell.run_id not in wanted], request.results)
    if request.selection.settings:
        for cell in cells:
            if cell.run_id not in wanted:
                store.note_tuning(request.results, cell)
    skipped = len(cells) - len(todo)
    progress.print(
        f"{counted(len(cells), 'run')} selected: {skipped} already done, {len(todo)} to train",
        highlight=False,
    )
    records, signal, refusals = [], 0, dict[str, str]()
    if todo:
        from benchmark.core.interrupt import StopSignal

        if spawns:
            start_server()
            # The summary needs these, and a core is idle while the server starts.
            for name in ("benchmark.reporting.terminal", "scipy.stats"):
                importlib.import_module(name)
        watch = StopSignal(max_seconds, leaving if trainer.detaches else stopping)
        with (
            listener(progress, len(todo)) as watcher,
            logged(watcher, loggers, request.results, request.data) as listening,
        ):
            records = trainer.train(
                request,
                todo,
                listening,
                watch,
                checkpoint_seconds=60.0 if checkpoint is None else checkpoint,
                compiling=compiling,
                rerun=outdated if rerun else (),
                accept_audit=accept_audit,
                grid=cells,
            )
        refusals = watcher.refusals
        signal = watch.exit_code
    else:
        asked.note(request.results, cells, asked.Folders(request.weights, request.data))
    if timing and not signal:
        measure_cells(request, cells, quiet)
    _summary(console, request, cells)
    suggest(console, request, cells)
    left = _unsuccessful(console, request, cells, refusals)
    # Where a cell that was finished is run again, the former result stays, and an error does, too.
    unfinished = [record for record in records if record.status not in FINAL]
    if signal and (left or unfinished):
        raise typer.Exit(signal)
    if left or unfinished:
        raise typer.Exit(1)


def _notes(
    request: "Request",
    cells: "list[RunSpec]",
    todo: "list[RunSpec]",
    stale: "Mapping[str, list[str]]",
) -> list[str]:
    """What a user should know before the training starts, a sentence each.

    Args:
        request: names the results and the data.
        cells: all that were selected.
        todo: those that will be trained.
        stale: why finished runs that stay are stale, by run id.
    """
    from benchmark.planning.crops import notes
    from benchmark.planning.other_settings import run_otherwise
    from benchmark.planning.staleness import made_before, redescribed

    found = []
    if stale:
        why = ", ".join(dict.fromkeys(why for whys in stale.values() for why in whys))
        verb = "is" if len(stale) == 1 else "are"
        what = f"{counted(len(stale), 'finished run')} {verb}"
        found.append(f"{what} stale: {why}; to repeat, add --rerun stale")
    found += redescribed(made_before(todo, request.results))
    if len(todo) == len(cells):
        found += run_otherwise(cells, request.results)
    return [*found, *notes(todo, request.data)]


def _loggers(names: list[str]) -> "dict[str, Logger]":
    """Those that are asked for; UserError where one is unknown, or its package is missing."""
    from benchmark.execution.loggers import open_logger

    return {name: open_logger(name) for name in dict.fromkeys(names)}


def _unsuccessful(
    console: "Console", request: "Request", cells: "list[RunSpec]", refusals: "dict[str, str]"
) -> "set[str]":
    """Prints the cells that are neither done nor unsupported, and what to do.

    Args:
        console: where.
        request: names the results.
        cells: all of them.
        refusals: why cells were not run, by run id.

    Returns:
        Their states.
    """
    from benchmark.results import store

    alike: dict[tuple[str, str], list[RunSpec]] = {}
    for cell in cells:
        if store.is_done(request.results, cell):
            continue
        record = store.record_of(request.results, cell)
        state: tuple[str, str]
        if record:
            state = record.status, record.reason
        elif cell.run_id in refusals:
            state = "refused", refusals[cell.run_id]
        else:
            state = "missing", "not run yet"
        alike.setdefault(state, []).append(cell)
    for (status, reason), some in alike.items():
        first = f"{some[0].method_label} on {some[0].benchmark}, seed {some[0].seed}"
        more = f" and {len(some) - 1} more" if len(some) > 1 else ""
        console.print(
            f"{status}: {first}{more}: {reason}",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    left = {status for status, _ in alike}
    if left & {"interrupted", "missing"}:
        console.print("to resume, repeat the command", highlight=False)
    if left - {"interrupted", "missing", "refused"}:
        console.print("repeat unsuccessful runs with --retry failed, oom or all", highlight=False)
    return left


def _summary(console: "Console", request: "Request", cells: "list[RunSpec]") -> None:
    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import assess
    from benchmark.planning.renamed import load
    from benchmark.reporting.seed_notes import only_some
    from benchmark.reporting.terminal import print_report

    table = load(request.results, request.selection.suite)
    own = table["run_id"].isin([cell.run_id for cell in cells])
    runs = Runs(table[own], request.results)
    if text := only_some(runs.frame, table):
        console.print(
            f"{text}; `python -m benchmark report --suite {request.selection.suite}"
            f"{request.repeated}` shows all",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    print_report(runs, assess(runs), console, reasons="see below")
    if own.any():
        suite = request.selection.suite
        console.print(
            f"records in {request.place}/{suite}; `python -m benchmark report --suite {suite}"
            f"{request.repeated}` makes the report",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
