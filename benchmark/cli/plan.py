"""`plan`: what `run` would do."""

from benchmark.cli import options


def plan(
    suite: options.Suite = None,
    methods: options.Methods = None,
    benchmarks: options.Benchmarks = None,
    backbones: options.Backbones = None,
    seeds: options.Seeds = None,
    fraction: options.Fraction = None,
    set_: options.Set = None,
    config: options.Config = None,
    weights: options.Weights = None,
    plugin: options.Plugin = None,
    results: options.Results = None,
) -> None:
    """List the cells that `run` with the same options would run, and which are done."""
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
        data=None,
        plugin=plugin,
        results=results,
        device=None,
        workers=None,
    )
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from benchmark import planner, store

    cells = planner.plan(request.selection)
    if any(not store.is_done(request.results, cell) for cell in cells):
        from benchmark.models.weights import check_name

        for name in {cell.backbone for cell in cells}:
            check_name(name, request.weights)
    table = Table("state", "benchmark", "backbone", "method", "seed", "run", box=None)
    counts: dict[str, int] = {}
    for cell in cells:
        record = store.read_record(request.results / cell.folder)
        state = record.status if record else "missing"
        counts[state] = counts.get(state, 0) + 1
        table.add_row(
            state,
            cell.benchmark,
            cell.backbone,
            Text(cell.method_label),
            str(cell.seed),
            cell.run_id,
        )
    console = Console()
    console.print(table)
    tally = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    console.print(f"{len(cells)} cells: {tally}", highlight=False)
