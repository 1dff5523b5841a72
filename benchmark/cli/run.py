"""`run`: runs the cells that are not done."""

from typing import TYPE_CHECKING

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.spec import RunSpec


def run(
    suite: options.Suite = None,
    methods: options.Methods = None,
    benchmarks: options.Benchmarks = None,
    backbones: options.Backbones = None,
    seeds: options.Seeds = None,
    fraction: options.Fraction = None,
    set_: options.Set = None,
    config: options.Config = None,
    weights: options.Weights = None,
    data: options.Data = None,
    plugin: options.Plugin = None,
    results: options.Results = None,
    device: options.Device = None,
    workers: options.Workers = None,
) -> None:
    """Run every selected cell of method x backbone x benchmark x seed that is not done yet.

    Exit code 0: all cells are done. 1: a cell failed. 2: the request or the files are at fault.
    """
    request = options.resolve(
        config,
        suite=suite,
        methods=methods,
        benchmarks=benchmarks,
        backbones=backbones,
        seeds=seeds,
        fraction=fraction,
        set=set_,
        weights=weights,
        data=data,
        plugin=plugin,
        results=results,
        device=device,
        workers=workers,
    )
    from rich.console import Console

    from benchmark import grid, planner
    from benchmark.cli.progress import listener

    console = Console()
    cells = planner.plan(request.selection)
    todo = grid.pending(cells, request.results)
    skipped = len(cells) - len(todo)
    console.print(
        f"{len(cells)} cells, {skipped} done already, {len(todo)} to run", highlight=False
    )
    records = []
    if todo:
        with listener(console, len(todo)) as watcher:
            records = grid.run_cells(
                todo,
                request.results,
                request.data,
                request.weights,
                request.device,
                watcher,
                request.workers,
            )
    failed = [record for record in records if record.status == "failed"]
    _summary(console, request, cells)
    for record in failed:
        console.print(
            f"failed: {record.method} on {record.benchmark}, seed {record.seed}: {record.reason}",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if failed:
        console.print("the same command runs the failed cells again", highlight=False)
        raise typer.Exit(1)


def _summary(console: "Console", request: options.Request, cells: "list[RunSpec]") -> None:
    from benchmark.reporting.report import print_report
    from benchmark.results import load_results

    runs = load_results(request.results, request.selection.suite)
    print_report(runs[runs["run_id"].isin([cell.run_id for cell in cells])], console)
