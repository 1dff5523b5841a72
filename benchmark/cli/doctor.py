"""`doctor`: finds problems in a results folder."""

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
        bool, typer.Option("--repair", help="Move broken files to .set-aside in that folder.")
    ] = False,
) -> None:
    """Find broken records, missing files and leftovers. --repair moves broken files to .set-aside.

    Nothing is deleted, and files of running processes are not touched. If the working folder has a
    petseg.yaml, its settings are shown.

    Exit code 0: no problems, or all were set aside. 1: problems remain. 2: no such folder.
    """
    from benchmark.cli import petseg_yaml
    from benchmark.results.doctor import examine, set_aside
    from benchmark.results.validate import told

    root = request.results
    if read := petseg_yaml.in_words():
        typer.echo(told(read))
    findings = examine(root)
    for finding, others in _grouped(findings):
        more = f" and {others} more" if others else ""
        where = told(finding.path.relative_to(root))
        typer.echo(f"{finding.severity}: {where}{more}: {finding.what} -> {finding.fix}")
    faults = [finding for finding in findings if finding.severity == "fault"]
    notes = len(findings) - len(faults)
    typer.echo(f"{told(root)}: {_number(len(faults), 'fault')}, {_number(notes, 'note')}")
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


def _number(count: int, kind: str) -> str:
    return f"{count or 'no'} {kind}{'' if count == 1 else 's'}"


def _grouped(findings: "Sequence[Finding]") -> "list[tuple[Finding, int]]":
    """Every fault, and of notes that say the same the first, with the number of the others."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        note = finding.severity == "note"
        groups.setdefault((finding.what, finding.fix) if note else finding, []).append(finding)
    return [(group[0], len(group) - 1) for group in groups.values()]
