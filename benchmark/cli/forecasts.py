"""What runs will take, measured by a probe or told by earlier ones, as `plan` prints it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.core.format import counted, size_text, time_text

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.planning.forecast import Forecaster
    from benchmark.results.index import Entry

BUSY = 0.5
"""Load per core from which on a forecast says that the machine is busy."""

_PROBED: dict[tuple[str, str], "Entry"] = {}
"""What this process has measured, by run and device."""

MOST_KINDS = 40
"""Methods on benchmarks whose costs are listed."""


def probed(
    console: "Console",
    request: "Request",
    todo: "Sequence[RunSpec]",
    runs: "Sequence[Entry]",
    jobs: int | None,
) -> "list[Entry]":
    """Measures what no earlier run on this device tells, and says what it took.

    It uses as many threads as each of the processes of `run` will have.

    Args:
        console: where.
        request: device, data and weights.
        todo: runs to train.
        runs: earlier ones.
        jobs: runs at a time; None = as many as fit.

    Returns:
        One entry, as of a finished run, for each kind that could be measured.
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
        key = (cell.run_id, str(device))
        if key in _PROBED:  # by an earlier verb of `quickstart`
            found.append(_PROBED[key])
            continue
        label = f"two steps of {cell.method_label} on {cell.benchmark}".replace("[", r"\[")
        with threads_of(threads), busy(label):
            entry, problem = probe.probe(cell, environment)
        if entry is not None:
            found.append(entry)
            _PROBED[key] = entry
            problem = (
                f"{entry.images_per_second:.3g} images/s, {size_text(entry.memory_bytes or 0)}"
            )
        what = f"probe: {cell.method_label} on {cell.benchmark}, {cell.backbone}: {problem}"
        console.print(what, markup=False, soft_wrap=True)
    return found


def estimate(
    request: "Request",
    todo: "Sequence[RunSpec]",
    runs: "Sequence[Entry]",
    jobs: int | None,
    load: float | None,
) -> dict[str, Any]:
    """What the runs will take, and what there is room for.

    Args:
        request: device and results folder.
        todo: runs to train.
        runs: earlier ones, and probes.
        jobs: runs at a time; None = as many as fit.
        load: of the machine now, in processes that want a core; None = not known.

    Returns:
        Plain values, as `plan --json` prints them; seconds and bytes.
    """
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

    if len(each) > MOST_KINDS or all(one["seconds"] is None for one in each):
        return
    table = Table(box=None)
    several = [
        name
        for name in ("backbone", "benchmark", "fraction")
        if len({one[name] for one in each}) > 1
    ]
    for name in ("method", *several):
        table.add_column(name, overflow="fold")
    costs = {
        "a run takes": ("seconds", time_text),
        "memory": ("memory_bytes", size_text),
        "stores": ("stored_bytes", size_text),
    }
    known = {
        heading: cost
        for heading, cost in costs.items()
        if any(one[cost[0]] is not None for one in each)
    }
    for heading in known:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in each:
        table.add_row(
            *(str(one[name]) for name in ("method", *several)),
            *("?" if one[name] is None else text(one[name]) for name, text in known.values()),
        )
    console.print(table)


def print_forecast(console: "Console", found: dict[str, Any], probed: bool) -> None:
    """Prints what `estimate` found.

    Args:
        console: where.
        found: by `estimate`.
        probed: whether a probe was asked for.
    """
    _each(console, found["each"])
    if not probed and any(one["stored_bytes"] is None for one in found["each"]):
        console.print("What a run stores, and its memory: add --probe.", soft_wrap=True)
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
