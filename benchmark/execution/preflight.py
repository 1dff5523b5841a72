"""What would stop cells, found out before the first one is trained or anything is written."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import UserError
from benchmark.core.interrupt import Interrupted
from benchmark.core.spec import Compute, RunSpec
from benchmark.data.base import Finding
from benchmark.execution.pool import Lost, Workers, died
from benchmark.execution.tasks import Check, Choose, Decode, Listener, Opened, Task, Verdict
from benchmark.planning.catalogue import BENCHMARKS


@dataclass(frozen=True)
class Preflight:
    """What was found out, by run id.

    Attributes:
        verdicts: whether a cell can run.
        computes: how it will compute; those alone that can run.
        findings: what makes its results wrong, on one line each; accepted by the user.
    """

    verdicts: Mapping[str, Verdict]
    computes: Mapping[str, Compute]
    findings: Mapping[str, tuple[str, ...]]


def preflight(
    cells: Sequence[RunSpec],
    pool: Workers,
    listener: Listener,
    data: Path | None = None,
    threads: int | None = None,
    accept_audit: bool = False,
) -> Preflight:
    """Checks every kind of cell, chooses how it computes, and decodes its data.

    A cell that cannot run never stops the others.

    Args:
        cells: what is to be run.
        pool: where.
        listener: hears of splits that are not in the cache.
        data: data root.
        threads: that decode a split; None = one a core.
        accept_audit: train although results on the data would be wrong.

    Raises:
        Interrupted: a signal came; what was decoded in part is given up.
        UserError: no cell can run, and the user can fix that.
    """

    def kind(cell: RunSpec) -> tuple[object, ...]:
        protocol = cell.protocol
        size = protocol.crop, protocol.decoder, min(protocol.batch_size, 2)
        channels = BENCHMARKS.get(cell.benchmark).channels
        return cell.method_label, cell.backbone, cell.weights, channels, *size

    def shape(cell: RunSpec) -> tuple[object, ...]:
        protocol = cell.protocol
        size = protocol.batch_size, protocol.crop, protocol.precision
        return cell.backbone, cell.weights, *size

    def splits(cell: RunSpec) -> list[tuple[str, Any]]:
        return [(cell.benchmark, split) for split in ("train", cell.protocol.eval_split)]

    kinds = {kind(cell): Check(cell) for cell in reversed(cells)}
    shapes = {shape(cell): Choose(cell) for cell in reversed(cells)}
    parts = {part: Decode(*part, data, threads) for cell in cells for part in splits(cell)}
    # The data come last: they take longest, and the pool does the last first while it starts.
    tasks: deque[Task] = deque([*kinds.values(), *shapes.values(), *parts.values()])
    results = dict(pool.run(tasks, listener))
    for task, result in results.items():
        if isinstance(result, Lost):
            raise UserError(f"{task}: {died(result)}; try --jobs 1")
    if tasks:  # a signal came
        raise Interrupted("before anything was trained")
    verdicts, findings = {}, {}
    for cell in cells:
        opened = [results[parts[part]] for part in splits(cell)]
        findings[cell.run_id] = tuple(_lines(opened))
        verdicts[cell.run_id] = _verdict(
            results[kinds[kind(cell)]], cell.benchmark, opened, accept_audit
        )
    if cells and all(verdict.reason for verdict in verdicts.values()):
        for verdict in verdicts.values():
            if verdict.by_user:
                raise UserError(verdict.reason)
    computes = {cell.run_id: results[shapes[shape(cell)]] for cell in cells}
    able = {id for id, verdict in verdicts.items() if not verdict.reason}
    return Preflight(verdicts, {id: computes[id] for id in able}, findings)


def _verdict(
    checked: Verdict, benchmark: str, opened: Iterable[Opened], accept_audit: bool
) -> Verdict:
    """That of a cell by its model's and its data's."""
    if checked.reason:
        return checked
    for split in opened:
        if split.problem:
            return Verdict(split.problem, by_user=True)
        for finding in () if accept_audit else split.findings:
            reason = (
                f"{benchmark}: {finding.what}; {finding.fix}, or train anyway with --accept-audit"
            )
            return Verdict(reason, by_user=True)
    return checked


def _lines(opened: Iterable[Opened]) -> Iterable[str]:
    found: list[Finding] = [finding for split in opened for finding in split.findings]
    return dict.fromkeys(finding.what for finding in found)
