"""`plan`: what `run` would do, with estimates of time, memory and disk."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from benchmark.cli import options
from benchmark.cli.options import how
from benchmark.core.format import size_text

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.analysis.runs import Runs
    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.planning.staleness import State
    from benchmark.results.index import Entry

MANY = 200
"""Cells of which a table is still read."""

All = Annotated[bool, how("--all", help=f"List every cell, even if there are more than {MANY}.")]
Probe = Annotated[
    bool, how("--probe", help="Time two steps where no earlier run gives an estimate.")
]


Detect = Annotated[
    float | None,
    how(
        "--detect",
        metavar="POINTS",
        min=0.01,
        help="Seeds that would tell two methods apart that differ by so many points of mIoU.",
    ),
]


@options.takes(*options.without("workers"))
def plan(
    request: "Request",
    all_: All = False,
    probe: Probe = False,
    detect: Detect = None,
) -> None:
    """List the selected cells with their state, and estimate time, memory and disk space.

    done, unsupported: nothing to do. stale: the method, benchmark or weights changed after the run.
    interrupted: will resume from its checkpoint. failed, nan, oom, timeout: rerun only with
    --retry. missing: not run yet.
    """
    from rich.console import Console

    from benchmark.planning.staleness import CurrentHashes, state_of
    from benchmark.results.index import read_index

    cells = request.plan()
    held = read_index(request.results)
    present = CurrentHashes(request.data, request.weights)
    states = [state_of(cell, held, present) for cell in cells]
    todo = [
        cell
        for cell, state in zip(cells, states, strict=True)
        if state.name in ("missing", "interrupted")
    ]
    if todo:
        from benchmark.models.find_weights import check_names

        check_names(dict.fromkeys(cell.backbone for cell in cells), request.weights)
    console = Console(highlight=False)
    _weights(console, request, todo)
    if len(cells) <= MANY or all_:
        _table(console, cells, states)
    _tally(console, states)
    if len(cells) > MANY and not all_:
        console.print("add --all to list them")
    if todo:
        _forecast(console, request, todo, list(held.entries.values()), probe)
    if detect is not None:
        _detect(console, request, cells, detect)


def _weights(console: "Console", request: "Request", todo: "Sequence[RunSpec]") -> None:
    """Names backbones whose weights `run` would have to download."""
    from benchmark.models.find_weights import find_weights

    for name in dict.fromkeys(cell.backbone for cell in todo if cell.weights == "pretrained"):
        if find_weights(name, request.weights) is None:
            console.print(
                f"no weights file of {name} in --weights; `run` takes it from timm's cache, or "
                "downloads it",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )


def _table(console: "Console", cells: "Sequence[RunSpec]", states: "Sequence[State]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("state", "benchmark", "backbone", "method", "seed", "run", box=None)
    for cell, state in zip(cells, states, strict=True):
        label, seed = Text(cell.method_label), str(cell.seed)
        table.add_row(state.name, cell.benchmark, cell.backbone, label, seed, cell.run_id)
    console.print(table)


def _tally(console: "Console", states: "Sequence[State]") -> None:
    from benchmark.core.record import FINAL
    from benchmark.planning.staleness import STATES

    counts = Counter(state.name for state in states)
    text = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
    console.print(f"{len(states)} {_cells(len(states))}: {text}")
    for reason, number in Counter(r for state in states for r in state.reasons).items():
        console.print(f"stale: {number} {_cells(number)}, because {reason}", soft_wrap=True)
    if counts["stale"]:
        console.print("rerun stale cells with `run --rerun stale`")
    final = {*FINAL, "stale", "missing", "interrupted"}
    again = sum(number for name, number in counts.items() if name not in final)
    if again:
        console.print(f"{again} unsuccessful {_cells(again)}: rerun with --retry failed|oom|all")
    unsure = sum(state.unknown for state in states)
    if unsure:
        console.print(
            f"{unsure} done {_cells(unsure)} cannot be checked for changes: the record is old, "
            "or its data or weights are missing",
            soft_wrap=True,
        )


def _forecast(
    console: "Console",
    request: "Request",
    todo: "Sequence[RunSpec]",
    runs: "list[Entry]",
    measure: bool,
) -> None:
    from benchmark.core.machine import available_memory, device_name, find_device, free_disk
    from benchmark.planning.forecast import Forecaster, forecast, too_large

    device = find_device(request.device)
    name = device_name(device)
    available = available_memory(device)  # before a probe takes some
    if measure:
        from benchmark.execution import probe
        from benchmark.execution.environment import prepare

        environment = prepare(request.data, request.weights, device)
        known = {(r.method, r.backbone, r.benchmark, r.device) for r in runs if r.images_per_second}
        for cell in probe.kinds(todo):
            if (cell.method_label, cell.backbone, cell.benchmark, name) in known:
                continue
            entry, problem = probe.probe(cell, environment)
            what = f"probe: {cell.method_label} on {cell.benchmark}, {cell.backbone}:"
            if entry is None:
                console.print(what, problem, markup=False, soft_wrap=True)
                continue
            runs = [*runs, entry]
            console.print(
                f"{what} {entry.images_per_second:.3g} images/s, "
                f"{size_text(entry.memory_bytes or 0)}",
                markup=False,
                soft_wrap=True,
            )
    forecaster = Forecaster(runs, name)
    total = forecast(todo, forecaster)
    if total.without_basis < total.cells:
        console.print(
            f"{total.cells} {_cells(total.cells)} to run: time left "
            f"{time_text(total.seconds_left())} on one device "
            f"({total.device_seconds / 3600:.2g} device hours)"
            + (f", peak memory {size_text(total.memory_bytes)}" if total.memory_bytes else "")
            + (f", disk {size_text(total.disk_bytes)}" if total.disk_bytes else ""),
            soft_wrap=True,
        )
    if total.without_basis:
        hint = "" if measure else "; add --probe"
        few = total.without_basis < total.cells
        which = f" for {total.without_basis} of {total.cells} cells" if few else ""
        console.print(f"No time estimate yet{which}{hint}.", soft_wrap=True)
    large = too_large(todo, forecaster, available) if available is not None else []
    kinds: dict[str, int] = {}
    for cell, need in large:
        kinds[f"{cell.method_label} on {cell.benchmark}, {cell.backbone}"] = need
    for kind, need in kinds.items():
        console.print(
            f"will not fit: {kind}: {size_text(need)} of memory, "
            f"{size_text(available or 0)} available",
            markup=False,
            soft_wrap=True,
        )
    free = free_disk(request.results)
    if total.disk_bytes > free:
        console.print(
            f"will not fit: {size_text(total.disk_bytes)} on disk, {size_text(free)} free; make "
            "room or choose another folder with --results DIR",
            soft_wrap=True,
        )


def _cells(number: int) -> str:
    return "cell" if number == 1 else "cells"


def time_text(seconds: float) -> str:
    """A duration for people, to the minute where it is longer than two."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _detect(
    console: "Console", request: "Request", cells: "Sequence[RunSpec]", points: float
) -> None:
    """Prints how many seeds, or images, would tell a difference of so many points."""
    from rich.table import Table

    from benchmark.analysis.uncertainty import power

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
        table = Table("benchmark", "images", f"seeds for {what}", box=None)
        if seeds > 1:
            table.add_column(f"or, with {seeds} seeds, images")
        rows = [(name, [spread]) for name, spread in found.items()]
        if len(rows) > 1:
            rows.append((f"average of {len(rows)}", list(found.values())))
        for name, spreads in rows:
            needed = power.seeds_needed(spreads, points / 100)
            images = sum(one.images for one in spreads)
            texts = [name, str(images or "?"), str(needed or f"over {power.MOST_SEEDS}")]
            times = power.images_needed(spreads, points / 100, seeds)
            texts.append("none" if times is None else str(round(images * times)))
            table.add_row(*texts[: len(table.columns)])
        console.print(table)
        absent = sorted({cell.benchmark for cell in own} - found.keys())
        console.print(
            f"{backbone}: {what} between two typical methods, tested at 5 % with a power of "
            f"{100 * power.POWER:.0f} %; several pairs need more. From {source}."
            + (f" Nothing is known of {', '.join(absent)}." if absent else ""),
            markup=False,
            soft_wrap=True,
        )


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
