"""Finished runs of what is asked for under other settings: `--set` may have been forgotten."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmark.core.format import counted
from benchmark.core.record import RECORD, Record
from benchmark.core.spec import Protocol, RunSpec
from benchmark.results import store

_MOST_FIELDS = 4


def run_otherwise(cells: Iterable[RunSpec], results: Path) -> list[str]:
    """Says which finished runs differ from cells in their protocol alone, a line a benchmark.

    Args:
        cells: that are asked for.
        results: folder of the results.

    Returns:
        Nothing where a cell is finished, or where they have several protocols on purpose.
    """
    cells = list(cells)
    if len({cell.protocol.hash for cell in cells}) != 1:
        return []
    protocol = cells[0].protocol
    ids = {cell.run_id for cell in cells}
    asked = {(cell.weights, cell.method_label) for cell in cells}
    found: dict[str, list[Record]] = {}
    for place in sorted({(results / cell.folder).parent for cell in cells}):
        for path in sorted(place.glob(f"[!.]*/{RECORD}")):
            record = store.read_record(path.parent)
            if record is None or record.status != "done":
                continue
            if record.run_id in ids:
                return []
            if (record.weights, record.method) in asked and record.protocol_hash != protocol.hash:
                found.setdefault(record.benchmark, []).append(record)
    return list(filter(None, (_line(name, own, protocol) for name, own in found.items())))


def _line(benchmark: str, records: list[Record], protocol: Protocol) -> str:
    """Of the protocol that most of the records have, what differs; empty where no field does."""
    (usual, number), *others = Counter(one.protocol_hash for one in records).most_common()
    then = next(one.protocol for one in records if one.protocol_hash == usual)
    now = protocol.model_dump()
    differing = [name for name in now if name in then and then[name] != now[name]]
    if not differing:
        return ""
    shown = differing[:_MOST_FIELDS]
    had = _listed([f"{name} {then[name]}" for name in shown])
    have = _listed([str(now[name]) for name in shown])
    more = "" if shown == differing else f" (and {len(differing) - len(shown)} more differ)"
    rest = f"; {sum(count for _, count in others)} more have others" if others else ""
    verb = "has" if number == 1 else "have"
    return (
        f"{counted(number, 'finished run')} of {benchmark} {verb} {had}; these have {have}{more} "
        f"(--set){rest}"
    )


def _listed(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]
