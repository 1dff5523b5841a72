"""`plan`: what `run` would do, with estimates of time, memory and disk."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from benchmark.cli import executors, options
from benchmark.cli.options import how, where
from benchmark.core.errors import UserError
from benchmark.core.format import counted, size_text, time_text

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.analysis.runs import Runs
    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.planning.forecast import Forecaster
    from benchmark.planning.staleness import State
    from benchmark.results.index import Entry

MANY = 200
"""Runs of which a table is still read."""

BUSY = 0.5
"""Load per core from which on a forecast says that the machine is busy."""

MOST_KINDS = 40
"""Methods on benchmarks whose costs are listed."""

MOST_METHODS = 6
"""That are named in a sentence."""

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
    if detect is not None and as_json:
        raise UserError("--detect prints a table; leave out --json")
    refusals, downloads = require(todo, request.data, request.weights)
    todo = [cell for cell in todo if cell.run_id not in refusals]
    runs = list(held.entries.values())
    if probe:
        # Progress must not come between the lines of a document.
        errors = Console(stderr=as_json, highlight=False)
        runs += _probed(errors, request, todo, runs, number)
    estimate = _estimate(request, todo, runs, number, load) if todo else None
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
                "forecast": estimate,
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
        if estimate:
            _each(console, estimate["each"])
            _forecast(console, estimate, probe)
        if handed and todo:
            console.print(_submission(handed), soft_wrap=True)
        if detect is not None:
            _detect(console, request, cells, detect)
    if refusals and not todo:  # as `run`, which refuses to start
        raise UserError(next(iter(refusals.values())))


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


def _probed(
    console: "Console",
    request: "Request",
    todo: "Sequence[RunSpec]",
    runs: "Sequence[Entry]",
    jobs: int | None,
) -> "list[Entry]":
    """Measures what no earlier run on this device tells, and says what it took.

    It uses as many threads as each of the processes of `run` will have.
    """
    from benchmark.cli.terminal import busy
    from benchmark.core.machine import device_name, find_device
    from benchmark.execution import probe
    from benchmark.execution.environment import prepare
    from benchmark.execution.executors.worker import threads_of
    from benchmark.execution.jobs import share

    device = find_device(request.device)
    environment, name = prepare(request.data, request.weights, device), device_name(device)
    known = {(r.method, r.backbone, r.benchmark, r.device) for r in runs if r.images_per_second}
    found = []
    threads = share(jobs, max(1, len(todo)), request.device).threads
    for cell in probe.kinds(todo):
        if (cell.method_label, cell.backbone, cell.benchmark, name) in known:
            continue
        label = f"two steps of {cell.method_label} on {cell.benchmark}".replace("[", r"\[")
        with threads_of(threads), busy(label):
            entry, problem = probe.probe(cell, environment)
        if entry is not None:
            found.append(entry)
            problem = (
                f"{entry.images_per_second:.3g} images/s, {size_text(entry.memory_bytes or 0)}"
            )
        what = f"probe: {cell.method_label} on {cell.benchmark}, {cell.backbone}: {problem}"
        console.print(what, markup=False, soft_wrap=True)
    return found


def _estimate(
    request: "Request",
    todo: "Sequence[RunSpec]",
    runs: "Sequence[Entry]",
    jobs: int | None,
    load: float | None,
) -> dict[str, Any]:
    """What the runs will take, and what there is room for."""
    from benchmark.core.machine import available_memory, cores, device_name, find_device, free_disk
    from benchmark.execution.jobs import carried, share
    from benchmark.planning import published_costs
    from benchmark.planning.forecast import Forecaster, forecast, side_by_side, too_large

    device = find_device(request.device)
    available = available_memory(device)
    elsewhere, published = published_costs.read()
    rough = Forecaster(published, elsewhere)
    forecaster = Forecaster(runs, device_name(device), rough)
    total = forecast(todo, forecaster)
    jobs = carried(share(jobs, len(todo), request.device).jobs, total.memory_bytes, available)
    large: dict[tuple[str, str, str], int] = {}
    for cell, need in too_large(todo, forecaster, available) if available is not None else ():
        large[cell.method_label, cell.benchmark, cell.backbone] = need
    return {
        "runs": total.cells,
        "without_estimate": total.without_basis,
        "rough": total.rough,
        "rough_from": elsewhere if total.rough else None,
        "device": device_name(device),
        "device_seconds": total.device_seconds,
        "jobs": jobs,
        "wall_seconds": side_by_side(todo, forecaster, jobs),
        "load": load if device == "cpu" else None,
        "cores": cores(),
        "memory_bytes": total.memory_bytes,
        "available_memory_bytes": available,
        "disk_bytes": total.disk_bytes,
        "free_disk_bytes": free_disk(request.results),
        "each": _kinds(todo, forecaster),
        "too_large": [
            {"method": method, "benchmark": benchmark, "backbone": backbone, "memory_bytes": need}
            for (method, benchmark, backbone), need in large.items()
        ],
    }


def _kinds(todo: "Sequence[RunSpec]", forecaster: "Forecaster") -> list[dict[str, Any]]:
    """What one run of each method, benchmark, backbone and protocol takes; None is not known."""
    kinds = {(c.backbone, c.benchmark, c.method_label, c.protocol.hash): c for c in todo}
    return [
        {
            "benchmark": cell.benchmark,
            "backbone": cell.backbone,
            "method": cell.method_label,
            "fraction": cell.protocol.fraction,
            **forecaster.expected(cell)._asdict(),
        }
        for cell in kinds.values()
    ]


def _each(console: "Console", each: list[dict[str, Any]]) -> None:
    """What a run of each method takes and stores: a limit rules methods out before they train."""
    from rich.table import Table

    if len(each) > MOST_KINDS or all(one["stored_bytes"] is None for one in each):
        return
    table = Table(box=None)
    several = [
        name
        for name in ("backbone", "benchmark", "fraction")
        if len({one[name] for one in each}) > 1
    ]
    for name in ("method", *several):
        table.add_column(name, overflow="fold")
    for name in ("a run takes", "memory", "stores"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in each:
        taken, sizes = one["seconds"], (one["memory_bytes"], one["stored_bytes"])
        table.add_row(
            *(str(one[name]) for name in ("method", *several)),
            "?" if taken is None else time_text(taken),
            *("?" if size is None else size_text(size) for size in sizes),
        )
    console.print(table)


def _forecast(console: "Console", found: dict[str, Any], probed: bool) -> None:
    runs, unknown, rough = found["runs"], found["without_estimate"], found["rough"]
    hint = "" if probed else "; add --probe"
    if unknown < runs:
        taken = time_text(found["wall_seconds"])
        jobs = found["jobs"]
        how = f"{jobs} at a time" if jobs > 1 else "one after another"
        console.print(
            f"{counted(runs, 'run')} to train: at least {taken}, {how} on an idle machine"
            + (
                f"; peak memory of a run {size_text(found['memory_bytes'])}"
                if found["memory_bytes"]
                else ""
            )
            + (f", disk {size_text(found['disk_bytes'])}" if found["disk_bytes"] else ""),
            soft_wrap=True,
        )
    if rough:
        which = "" if rough == runs else f" for {rough} of {counted(runs, 'run')}"
        console.print(
            f"Rough estimate{which}, from published runs on {found['rough_from']}; "
            "for one of this machine, add --probe.",
            soft_wrap=True,
        )
    if unknown < runs and found["load"] is not None and found["load"] > BUSY * found["cores"]:
        console.print(
            f"This machine is busy now (load {found['load']:.1f} on "
            f"{counted(found['cores'], 'core')}), so it may take several times as long.",
            style="yellow",
            soft_wrap=True,
        )
    if unknown:
        which = f" for {unknown} of {counted(runs, 'run')}" if unknown < runs else ""
        console.print(f"No time estimate yet{which}{hint}.", soft_wrap=True)
    for one in found["too_large"]:
        console.print(
            f"will not fit: {one['method']} on {one['benchmark']}, {one['backbone']}: "
            f"{size_text(one['memory_bytes'])} of memory, "
            f"{size_text(found['available_memory_bytes'])} available",
            soft_wrap=True,
        )
    if found["disk_bytes"] > found["free_disk_bytes"]:
        console.print(
            f"will not fit: {size_text(found['disk_bytes'])} on disk, "
            f"{size_text(found['free_disk_bytes'])} free; make room or choose another folder with "
            "--results DIR",
            soft_wrap=True,
        )


def _detect(
    console: "Console", request: "Request", cells: "Sequence[RunSpec]", points: float
) -> None:
    """Prints how many seeds, or images, would find a difference of so many points."""
    from rich.table import Table

    from benchmark.analysis.uncertainty import power
    from benchmark.reporting.commands import MORE_SEEDS, more_seeds

    seeds = len({cell.seed for cell in cells})
    what = f"{points:g} {'point' if points == 1 else 'points'}"
    for backbone in dict.fromkeys(cell.backbone for cell in cells):
        own = [cell for cell in cells if cell.backbone == backbone]
        runs, source = _runs_like(request, own)
        found = power.spreads(runs) if runs is not None else {}
        console.print()
        if not found:
            console.print(
                f"{backbone}: no runs from which to tell how much seeds differ; run two methods "
                "with two seeds first",
                markup=False,
                soft_wrap=True,
            )
            continue
        assert runs is not None
        done = runs.cells[runs.cells["status"] == "done"]
        methods = sorted(map(str, done["method"].unique()))
        ran = int(done.loc[done["seeds"] > 1, "seeds"].min())
        few = ran <= power.FEW_SEEDS
        table = Table("benchmark", "images", f"seeds for {what}", box=None)
        if seeds > 1:
            table.add_column(f"or, with {seeds} seeds, images")
        rows = [(name, [spread]) for name, spread in found.items()]
        if len(rows) > 1:
            rows.append((f"average of {len(rows)}", list(found.values())))
        for name, spreads in rows:
            needed = power.seeds_needed(spreads, points / 100) or math.inf
            images = sum(one.images for one in spreads)
            known = power.is_known(ran, needed)
            many = f"over {power.MOST_SEEDS}" if math.isinf(needed) else str(needed)
            texts = [name, str(images or "?"), many if known else "not known"]
            times = power.images_needed(spreads, points / 100, seeds) if known else None
            more = "needs more seeds" if known else "not known"
            texts.append(more if times is None else str(round(images * times)))
            table.add_row(*texts[: len(table.columns)])
        console.print(table)
        absent = sorted({cell.benchmark for cell in own} - found.keys())
        console.print(
            f"{backbone}: {what} between a typical pair of {_named(methods)}, tested at 5 % and "
            f"found in {100 * power.POWER:.0f} % of the cases; several pairs need more. "
            f"From {source}." + (f" Nothing is known of {', '.join(absent)}." if absent else ""),
            markup=False,
            soft_wrap=True,
        )
        if few:
            add = more_seeds(runs) if runs.root == request.results else ""
            rough = "give a rough estimate only"
            too_few = "are too few for an estimate"
            console.print(
                f"{counted(ran, 'seed')} {rough if ran >= power.FEWEST_SEEDS else too_few}"
                + (f"; to add {MORE_SEEDS}: {add}" if add else ""),
                markup=False,
                soft_wrap=True,
            )


def _named(methods: "Sequence[str]") -> str:
    if len(methods) > MOST_METHODS:
        return f"{len(methods)} methods"
    return f"{', '.join(methods[:-1])} and {methods[-1]}"


def _runs_like(request: "Request", cells: "Sequence[RunSpec]") -> "tuple[Runs | None, str]":
    """Runs whose seeds show the spread, and what they are: one's own, else published ones."""
    from benchmark.analysis.runs import Runs
    from benchmark.core.record import PUBLISHED
    from benchmark.results.load import load_results

    first, methods = cells[0], {cell.method_label for cell in cells}
    published = Path(__file__).parents[2] / "results" / PUBLISHED
    for root in (request.results, published):
        frame = load_results(root, first.suite) if root.is_dir() else None
        if frame is None or frame.empty:
            continue
        mine = root is not published
        frame = frame[
            (frame["backbone"] == first.backbone)
            & (frame["weights"] == first.weights)
            & frame["benchmark"].isin({cell.benchmark for cell in cells})
        ]
        if mine:
            frame = frame[frame["protocol_hash"] == first.protocol.hash]
        chosen = frame[frame["method"].isin(methods)]
        for part in (chosen,) if mine else (chosen, frame):
            seeds = part.groupby(["protocol_hash", "benchmark", "method"])["seed"].nunique()
            several = seeds[seeds > 1].reset_index().groupby("protocol_hash")["method"]
            enough = several.nunique()
            if len(enough) and enough.max() > 1:
                protocol = several.size()[enough > 1].idxmax()
                part = part[part["protocol_hash"] == protocol]
                whose = "runs in" if mine else "PUBLISHED runs of"
                where = str(root) if mine else first.suite
                other = "" if protocol == first.protocol.hash else ", whose protocol differs"
                return Runs(part, root), f"{len(part)} {whose} {where}{other}"
    return None, ""
