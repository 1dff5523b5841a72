"""`doctor`: what is not as it should be in a results folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options

if TYPE_CHECKING:
    from benchmark.cli.request import Request
    from benchmark.results.validate import Finding


@options.takes("results")
def doctor(
    request: "Request",
    repair: Annotated[
        bool, typer.Option("--repair", help="Move what is broken to .set-aside in that folder.")
    ] = False,
) -> None:
    """List torn records, missing parts and leftovers in a results folder; --repair clears the way.

    Nothing is ever deleted, and what belongs to a process that lives is left alone.

    Exit code 0: nothing is wrong, or all was set aside. 1: something is. 2: there is no folder.
    """
    from benchmark.results.doctor import examine, set_aside
    from benchmark.results.validate import told

    root = request.results
    findings = examine(root)
    for finding, others in _grouped(findings):
        more = f" and {others} more" if others else ""
        where = told(finding.path.relative_to(root))
        typer.echo(f"{finding.severity}: {where}{more}: {finding.what} -> {finding.fix}")
    faults = [finding for finding in findings if finding.severity == "fault"]
    notes = len(findings) - len(faults)
    typer.echo(f"{told(root)}: {len(faults)} faults, {notes} notes")
    if repair and faults:
        moved, faults = set_aside(root, findings)
        for source, target in moved:
            shown = (told(path.relative_to(root)) for path in (source, target))
            typer.echo(f"set aside: {' -> '.join(shown)}")
        for left in faults:
            where = told(left.path.relative_to(root))
            typer.echo(f"left: {where}: {left.what} -> {left.fix}")
    if faults:
        raise typer.Exit(1)


def _grouped(findings: "Sequence[Finding]") -> "list[tuple[Finding, int]]":
    """Every fault, and of notes that say the same the first, with the number of the others."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        note = finding.severity == "note"
        groups.setdefault((finding.what, finding.fix) if note else finding, []).append(finding)
    return [(group[0], len(group) - 1) for group in groups.values()]
