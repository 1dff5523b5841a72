"""What would stop cells, found out before the first one is trained or anything is written."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import UserError
from benchmark.core.interrupt import Interrupted
from benchmark.core.spec import Compute, RunSpec
from benchmark.data.audit.near_duplicates import Alike
from benchmark.data.audit.presence import serious_across
from benchmark.data.base import Split
from benchmark.execution.executors.base import Executor, Lost, died
from benchmark.execution.tasks import (
    Check,
    Choose,
    Compare,
    Decode,
    Listener,
    Opened,
    Task,
    Verdict,
)
from benchmark.planning.catalogue import BENCHMARKS


@dataclass(frozen=True)
class Preflight:
    """What was found out, by run id.

    Attributes:
        verdicts: whether a cell can run.
        computes: how it will compute; those alone that can run.
        findings: what makes its results wrong, on one line each; accepted by the user.
        near_copies: see `Record.near_copies`.
    """

    verdicts: Mapping[str, Verdict]
    computes: Mapping[str, Compute]
    findings: Mapping[str, tuple[str, ...]]
    near_copies: Mapping[str, int | None]


def preflight(
    cells: Sequence[RunSpec],
    pool: Executor,
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
        size = protocol.crop, min(protocol.batch_size, 2)
        passes = protocol.decoder, protocol.checkpoint_activations
        channels = BENCHMARKS.get(cell.benchmark).channels
        return cell.method_label, cell.backbone, cell.weights, channels, *size, *passes

    def shape(cell: RunSpec) -> tuple[object, ...]:
        protocol = cell.protocol
        size = protocol.batch_size, protocol.crop, protocol.precision
        return cell.backbone, cell.weights, *size

    def splits(cell: RunSpec) -> list[tuple[str, Any]]:
        return [(cell.benchmark, split) for split in cell.protocol.splits]

    kinds = {kind(cell): Check(cell) for cell in reversed(cells)}
    shapes = {shape(cell): Choose(cell) for cell in reversed(cells)}
    parts = {part: Decode(*part, data, threads) for cell in cells for part in splits(cell)}
    compared = {cell.benchmark: Compare(cell.benchmark, data) for cell in cells}
    # The data come last: they take longest, and the pool does the last first while it starts.
    tasks: deque[Task] = deque(
        [*kinds.values(), *shapes.values(), *compared.values(), *parts.values()]
    )
    results = dict(pool.run(tasks, listener))
    for task, result in results.items():
        if isinstance(result, Lost):
            raise UserError(f"{task}: {died(result)}; try --jobs 1")
    if tasks:  # a signal came
        raise Interrupted("before anything was trained")
    verdicts, findings, near_copies = {}, {}, {}
    audited: dict[tuple[object, ...], Opened] = {}
    for cell in cells:
        pair = tuple(splits(cell))
        if pair not in audited:
            audited[pair] = _joined({split: results[parts[name, split]] for name, split in pair})
        opened = audited[pair]
        findings[cell.run_id] = tuple(dict.fromkeys(finding.what for finding in opened.findings))
        near_copies[cell.run_id] = _near_copies(results[compared[cell.benchmark]], opened)
        verdicts[cell.run_id] = _verdict(
            results[kinds[kind(cell)]], cell.benchmark, opened, accept_audit
        )
    if cells and all(verdict.reason for verdict in verdicts.values()):
        for verdict in verdicts.values():
            if verdict.by_user:
                raise UserError(verdict.reason)
    computes = {cell.run_id: results[shapes[shape(cell)]] for cell in cells}
    able = {id for id, verdict in verdicts.items() if not verdict.reason}
    return Preflight(verdicts, {id: computes[id] for id in able}, findings, near_copies)


def _joined(splits: Mapping[Split, Opened]) -> Opened:
    """All splits of a cell as one, with what is wrong between them."""
    problem = next((opened.problem for opened in splits.values() if opened.problem), "")
    across = serious_across({split: list(opened.seen) for split, opened in splits.items()})
    findings = [finding for opened in splits.values() for finding in opened.findings]
    seen = tuple(seen for opened in splits.values() for seen in opened.seen)
    return Opened(problem, (*findings, *across), seen)


def _near_copies(found: Alike | None, opened: Opened) -> int | None:
    """How many of the images that are scored are equal, or nearly so, to one of train."""
    if found is None or opened.problem:
        return None
    train = {seen.id for seen in opened.seen if seen.split == "train"}
    scored = {seen.id for seen in opened.seen if seen.split != "train"}
    return len(found.having_twin(scored, train))


def _verdict(checked: Verdict, benchmark: str, opened: Opened, accept_audit: bool) -> Verdict:
    """That of a cell by its model's and its data's."""
    if checked.reason:
        return checked
    if opened.problem:
        return Verdict(opened.problem, by_user=True)
    if opened.findings and not accept_audit:
        finding = opened.findings[0]
        reason = f"{benchmark}: {finding.what}; {finding.fix}, or train anyway with --accept-audit"
        return Verdict(reason, by_user=True)
    return checked
