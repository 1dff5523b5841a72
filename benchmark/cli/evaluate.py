"""`evaluate`: finished runs again, as they were or on corrupted images."""

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError
from benchmark.core.format import points_text

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec
    from benchmark.results.robustness import Robustness

GROUPS = ("noise", "blur", "weather", "digital")


@options.takes(*options.without("workers"), finished=True)
def evaluate(
    request: "Request",
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Evaluate on corrupted images.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Corruptions or groups, as in noise,fog (default: all)."),
    ] = None,
    severities: Annotated[
        str | None, typer.Option(metavar="LIST", help="Severities 1 to 5 (default: 1,3,5).")
    ] = None,
    quiet: options.Quiet = False,
    executor: Annotated[str, typer.Option("--executor", hidden=True)] = "local",
) -> None:
    """Evaluate finished runs again from their stored weights.

    Without --corruptions: check that each run still reaches its recorded score. With it: measure
    mIoU under twelve corruptions and store it next to the record. Scores already stored are kept.

    Exit code 0: done. 1: a score differs from its record, or weights are missing. 2: bad request.
    """
    if executor != "local":
        # It leaves no record by which an engine's lost job could be told from one that is done.
        raise UserError(
            f"--executor {executor}: `evaluate` works in this process alone; run it in a job of "
            "your cluster, for some of the runs each"
        )
    if (only or severities) and not corruptions:
        raise UserError("--only and --severities need --corruptions")
    from rich.console import Console

    from benchmark.results import store

    cells = request.plan()
    done = [cell for cell in cells if store.has_result(request.results, cell)]
    console, progress = Console(), Console(quiet=quiet)
    progress.print(f"{len(done)} of {len(cells)} runs have finished", highlight=False)
    if not done:
        raise UserError(
            f"none of the selected runs has finished in {request.place}; `run` them first"
        )
    if corruptions:
        _stress(console, progress, done, request, only, _severities(severities))
    else:
        _again(console, done, request)


def _severities(text: str | None) -> tuple[int, ...]:
    from benchmark.execution.reevaluate import SEVERITIES

    if text is None:
        return SEVERITIES
    try:
        chosen = tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        chosen = ()
    if not chosen or not set(chosen) <= {1, 2, 3, 4, 5}:
        raise UserError(f"--severities {text!r}: write numbers from 1 to 5, as in 1,3,5")
    return chosen


def _again(console: "Console", cells: "list[RunSpec]", request: "Request") -> None:
    from benchmark.execution import reevaluate
    from benchmark.execution.environment import prepare

    environment = prepare(request.data, request.weights, request.device)
    sound = True
    for cell in cells:
        try:
            recorded, now = reevaluate.again(cell, request.results, environment)
        except UserError as error:
            _say(console, f"{_name(cell)}: {error}")
            sound = False
            continue
        same = abs(recorded - now) <= reevaluate.TOLERANCE
        text = f"{_name(cell)}: mIoU {100 * recorded:.2f} recorded, {100 * now:.2f} now"
        _say(console, text + ("" if same else ": DIFFERENT from the record"))
        sound &= same
    if not sound:
        raise typer.Exit(1)


def _stress(
    console: "Console",
    progress: "Console",
    cells: "list[RunSpec]",
    request: "Request",
    only: str | None,
    severities: tuple[int, ...],
) -> None:
    from rich.progress import Progress

    from benchmark.execution import reevaluate
    from benchmark.execution.environment import prepare

    names = reevaluate.choose(only)
    environment = prepare(request.data, request.weights, request.device)
    found: list[tuple[RunSpec, Robustness]] = []
    sound = True
    with Progress(console=progress, disable=progress.quiet or not progress.is_terminal) as bars:
        task = bars.add_task("", total=1)
        for cell in cells:

            def tell(what: str, done: int, total: int, cell: "RunSpec" = cell) -> None:
                text = f"{cell.benchmark} / {cell.method_label}: {what}".replace("[", r"\[")
                bars.update(task, completed=done, total=total, description=text)

            try:
                result = reevaluate.stress(
                    cell, request.results, environment, names, severities, tell
                )
            except UserError as error:
                _say(console, f"{_name(cell)}: {error}")
                sound = False
                continue
            found.append((cell, result))
            if not progress.is_terminal:
                clean, noisy = points_text(result.clean_miou), points_text(result.mean())
                _say(progress, f"{_name(cell)}: {clean} clean, {noisy} corrupted")
    if found:
        console.print(_table(found))
    if not sound:
        raise typer.Exit(1)


def _table(found: "list[tuple[RunSpec, Robustness]]") -> object:
    from rich.table import Table
    from rich.text import Text

    measured = sorted({score.severity for _, result in found for score in result.scores})
    table = Table(
        "benchmark",
        "method",
        "seed",
        *("clean", *GROUPS, *(f"sev. {s}" for s in measured), "mean", "drop"),
        title="mIoU on corrupted images, and the relative drop",
        title_justify="left",
        box=None,
    )
    for cell, result in found:
        numbers = [
            result.clean_miou,
            *(result.mean(group=group) for group in GROUPS),
            *(result.mean(severity=severity) for severity in measured),
            result.mean(),
        ]
        table.add_row(
            cell.benchmark,
            Text(cell.method_label),
            str(cell.seed),
            *(Text(points_text(number), justify="right") for number in numbers),
            Text(points_text(result.relative_drop) + " %", justify="right"),
        )
    return table


def _say(console: "Console", text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _name(cell: "RunSpec") -> str:
    return f"{cell.benchmark} / {cell.backbone} / {cell.method_label} / seed {cell.seed}"
