"""`show`: everything about one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.cli.request import Request
    from benchmark.core.record import Record


@options.takes("results")
def show(
    request: "Request",
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="Run id, or its first characters.")
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Print the whole record, in colours on a terminal.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the whole record as one JSON object, with the run's folder in it."
        ),
    ] = False,
) -> None:
    """Print what a run was, its score with interval, its costs and where its files are."""
    from rich.console import Console

    from benchmark.results.store import find_one

    folder, record = find_one(request.results, run_id)
    if as_json:
        import json

        content = {"folder": folder.as_posix()} | record.model_dump(mode="json")
        print(json.dumps(content, allow_nan=False))
        return
    console = Console()
    if full:
        console.print(str(folder), highlight=False, soft_wrap=True)
        console.print_json(record.model_dump_json())
        return
    for name, text in _summary(folder, record, request.results):
        if text:
            console.print(f"{name:<9} {text}", highlight=False, markup=False, soft_wrap=True)


def _summary(folder: Path, record: "Record", root: Path) -> "Iterator[tuple[str, str]]":
    """Names and what is to be said, in the order of interest; empty where there is nothing."""
    import shlex

    from benchmark.core.format import counted, human, interval_text, time_text
    from benchmark.reporting import commands

    made, protocol = record.provenance, record.protocol
    yield "run", f"{record.run_id}: {record.status}{record.reason and f' ({record.reason})'}"
    weights = "random weights" if record.weights == "none" else "pretrained weights"
    yield (
        "what",
        (
            f"{record.method} on {record.backbone} ({weights}), {record.benchmark}, "
            f"seed {record.seed}"
        ),
    )
    yield "settings", ", ".join(f"{name} {value}" for name, value in record.method_params.items())
    shown = ("steps", "batch_size", "crop", "decoder", "loss", "eval_split")
    yield (
        "protocol",
        (
            ", ".join(f"{name} {protocol[name]}" for name in shown if name in protocol)
            + f" (suite {record.suite}, {record.protocol_hash})"
        ),
    )
    if record.metrics is not None:
        found, (low, high) = record.metrics, _over_images(folder)
        within = interval_text(low, high)
        number = counted(found.images, "image")
        yield (
            "mIoU",
            human(found.miou, "points")
            + (f" (95 % over {number}: {within})" if within else f" on {number}"),
        )
        scores = {k: v for k, v in found.class_iou.items() if v is not None}
        yield "IoU", ", ".join(f"{name} {human(v, 'points')}" for name, v in scores.items())
        absent = ", ".join(found.absent_classes)
        yield "", f"not in the labels of the split: {absent}" if absent else ""
    if record.costs is not None:
        costs = record.costs
        trained = human(costs.params.total_trainable, "count")
        decoder = human(costs.params.decoder, "count")
        yield "costs", f"{trained} trained parameters, {decoder} of them in the decoder"
        yield (
            "",
            (
                f"{human(costs.stored.bytes, 'bytes')} stored a task"
                + (
                    f", {human(costs.train.memory.peak_bytes, 'bytes')} memory in training"
                    if costs.train.memory
                    else ""
                )
                + f", trained in {time_text(costs.train.seconds)} under the load of that time"
            ),
        )
    yield (
        "made",
        ", ".join(
            filter(
                None,
                [
                    made.started[:16].replace("T", " ") + " UTC",
                    made.device,
                    counted(made.threads, "thread"),
                    made.precision,
                    f"commit {made.git_commit[:12]}" if made.git_commit else "",
                ],
            )
        ),
    )
    options, more = commands.sources(record.backbone, record.weights, root, record.suite)
    again = record.command
    yield "again", again and f"{' '.join([again, *map(shlex.quote, options)])}{more}"
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    yield "files", f"{folder}: {names}"
    yield "more", "--full or --json: the whole record"


def _over_images(folder: Path) -> tuple[float, float]:
    """The 95 % interval of a run's mIoU over test images, as in a report of it alone."""
    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import assess
    from benchmark.results.load import load_results

    row = assess(Runs(load_results(folder), folder)).cells.iloc[0]
    return float(row["low"]), float(row["high"])
