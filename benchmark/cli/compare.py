"""`compare`: what differs between two runs or two results folders."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError
from benchmark.core.format import points_text

if TYPE_CHECKING:
    from benchmark.analysis.compare import Change, Comparison, Difference, Pair
    from benchmark.cli.request import Request

CLASSES = 10
"""Classes that are shown of two runs: those that changed most."""


NAMES = {
    "method_traits.keeps_structure": "frozen blocks unchanged",
    "method_traits.mergeable": "mergeable into the backbone",
    "method_traits.identity_at_init": "same as the frozen backbone at start",
    "train.first_trainable_depth": "leading stages that need no gradient (of 4)",
    "execution.known_stages": "frozen stages read from the cache",
}
"""Of fields of the record that do not speak for themselves."""


@options.takes("results")
def compare(
    request: "Request",
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="Run id (or its first characters), or a results folder."),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; differences are B minus A.")],
    tolerance: Annotated[
        float,
        typer.Option(metavar="POINTS", min=0, help="Ignore losses smaller than this."),
    ] = 0.0,
) -> None:
    """Compare two runs, or all matching runs of two results folders.

    The difference in mIoU has a 95 % interval and a p value from a paired bootstrap over images,
    after Holm's correction over all pairs of runs. Variation between training runs is not included.

    Exit code 0: no significant loss from A to B. 1: a loss (p below 0.05). 2: bad request.
    """
    from benchmark.analysis.compare import compare_folders, compare_runs, find
    from benchmark.results.load import RECORD

    first, second = find(a, request.results), find(b, request.results)
    runs = [(folder / RECORD).exists() for folder in (first, second)]
    if runs[0] != runs[1]:
        raise UserError(f"{a!r} and {b!r}: compare two runs or two folders, not one of each")
    if runs[0]:
        pair = compare_runs(first, second)
        _print_runs(pair)
        pairs = [pair]
    else:
        comparison = compare_folders(first, second)
        _print_folders(comparison, tolerance)
        pairs = comparison.pairs
    if any(pair.difference and pair.difference.is_loss(tolerance) for pair in pairs):
        raise typer.Exit(1)


def _print_runs(pair: "Pair") -> None:
    from benchmark.analysis import compare as c

    a, b = pair.a, pair.b
    typer.echo(f"A: {a.run_id} {a.status}: {c.name(a)}")
    typer.echo(f"B: {b.run_id} {b.status}: {c.name(b)}")
    _section("what was run", c.spec_changes(a, b), _as_they_are)
    _section("environment", c.environment_changes(a, b), _as_they_are)
    _section("metrics", c.metric_changes(a, b), _as_they_are)
    _section("class IoU, points", c.class_changes(a, b)[:CLASSES], _points)
    _section("costs", c.cost_changes(a, b), _ratio)
    typer.echo("difference in mIoU, B minus A, points")
    typer.echo(f"  {_told(pair.difference) if pair.difference else pair.problem}")


def _print_folders(comparison: "Comparison", tolerance: float) -> None:
    from benchmark.analysis.compare import name
    from benchmark.analysis.uncertainty.family import ALPHA

    losses = gains = 0
    for pair in comparison.pairs:
        found = pair.difference
        if found is None:
            typer.echo(f"not comparable: {name(pair.a)}: {pair.problem}")
            continue
        loss, gain = found.is_loss(tolerance), found.miou > 0 and found.p_holm < ALPHA
        losses, gains = losses + loss, gains + gain
        typer.echo(f"{'loss' if loss else 'gain' if gain else 'same'}: {name(pair.a)}")
        typer.echo(f"  {_told(found)}")
    for letter, records in (("A", comparison.only_a), ("B", comparison.only_b)):
        for record in records:
            typer.echo(f"only in {letter}: {name(record)}")
    typer.echo(
        f"{len(comparison.pairs)} runs in both, {losses} significant losses, {gains} gains; "
        f"{len(comparison.only_a)} only in A, {len(comparison.only_b)} only in B"
    )


def _section(title: str, changes: "Sequence[Change]", show: Callable[[Any, Any], str]) -> None:
    from benchmark.results.validate import told

    typer.echo(title if changes else f"{title}: the same")
    for label, a, b in changes:
        typer.echo(f"  {NAMES.get(label) or told(label)}: {show(a, b)}")


def _as_they_are(a: Any, b: Any) -> str:
    return f"{_value(a)} -> {_value(b)}"


def _points(a: float, b: float) -> str:
    return f"{points_text(a)} -> {points_text(b)} ({100 * (b - a):+.1f})"


def _ratio(a: Any, b: Any) -> str:
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    ratio = f" (x {b / a:.3g})" if numbers and a and b else ""
    return f"{_as_they_are(a, b)}{ratio}"


def _value(value: Any) -> str:
    from benchmark.results.validate import told

    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else told(value)


def _told(found: "Difference") -> str:
    low, high = 100 * found.low, 100 * found.high
    return (
        f"{100 * found.miou:+.2f}, 95 % [{low:+.2f}, {high:+.2f}], p {found.p:.4f}, "
        f"p (Holm) {found.p_holm:.4f}, {found.images} images"
    )
