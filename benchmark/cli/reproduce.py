"""`reproduce`: repeats a recorded run and compares the results."""

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from benchmark.cli.request import Request

_SAID = {
    "same": "identical bit for bit in every count of every image",
    "inside": "not identical, but inside the recorded interval",
    "outside": "OUTSIDE the recorded interval",
}


@options.takes("results", "data", "weights", "device", "plugin")
def reproduce(
    request: "Request",
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="Run id, or its first characters.")
    ],
) -> None:
    """Repeat a recorded run and compare the counts of every image. The record is not changed.

    On the same kind of CPU results are identical bit for bit; on a GPU, up to rounding.

    Exit code 0: identical, or inside the 95 % interval of the recorded mIoU. 1: outside, or the run
    did not finish. 2: bad request or files. 130, 143: stopped by a signal.
    """
    from rich.console import Console

    from benchmark.execution import reproduce as again
    from benchmark.planning.remembered import require
    from benchmark.results import remote, store

    console = Console(highlight=False, soft_wrap=True)
    folder, record = store.find_one(request.results, run_id)
    remote.fetch(folder, [folder])
    recorded = again.read_recorded(folder, record)
    require(record, request.results)
    spec = again.respecify(record)
    from benchmark.core.interrupt import Interrupted, StopSignal

    watch = StopSignal()
    try:
        made, counts = again.rerun(
            spec, record, request.data, request.weights, request.device, watch
        )
    except Interrupted as error:
        console.print(f"{error}; repeat the command to start again", markup=False)
        raise typer.Exit(watch.exit_code) from None
    for difference in again.differences(record.provenance, made.provenance):
        console.print(f"differs: {difference}", markup=False)
    for name in again.unchecked(record.provenance, made.provenance):
        console.print(
            f"cannot check {name}: an earlier version computed the hash in the record differently"
        )
    if made.status != "done":
        console.print(f"{record.run_id}: {made.status}: {made.reason}", markup=False)
        raise typer.Exit(1)
    found = again.judge(recorded, counts)
    low, high = found.interval
    console.print(
        f"{record.run_id}: {record.method} on {record.benchmark}, seed {record.seed}: "
        f"{_SAID[found.verdict]}",
        markup=False,
    )
    console.print(
        f"mIoU {found.again:.4f}, recorded {found.recorded:.4f} "
        f"(95 % interval over images {low:.4f} to {high:.4f}); "
        f"{found.images_apart} of {len(counts['ids'])} images differ"
    )
    if found.verdict == "outside":
        raise typer.Exit(1)
