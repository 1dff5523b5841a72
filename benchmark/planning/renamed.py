"""Sets of a user's own whose classes were only given other names since their runs were made.

Names decide no pixel. So the set keeps the version that its runs were made under: their ids hold,
nothing is trained again, and new runs are ranked with them. Tables show the present names.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.record import RECORD, Record
from benchmark.core.spec import plain_name
from benchmark.planning import own_sets
from benchmark.planning.catalogue import BENCHMARKS
from benchmark.results import store

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.data.custom.described import DescribedBenchmark

_CLASS = "metrics.class_iou."
_MOST_NAMES = 3


def keep_versions(root: Path) -> list[str]:
    """Gives loaded sets the version of their runs where only names of classes differ.

    Args:
        root: folder of the results.

    Returns:
        What was renamed, a sentence a set.
    """
    from benchmark.data.custom.described import DescribedBenchmark

    said = []
    for name in own_sets.given():
        kind = BENCHMARKS.get(name)
        if not issubclass(kind, DescribedBenchmark):
            continue
        found: Record | None = None
        for record in _records(root, name):
            if record.benchmark_version == kind.version:
                found = None
                break  # runs of this very description count, whatever others are there
            if found is None and _is_renamed(record, kind):
                found = record
        if found is not None:
            kind.version = found.benchmark_version
            pairs = zip(_names(found), kind.classes, strict=True)
            changed = [f"{then} -> {now}" for then, now in pairs if then != now]
            more = [f"{len(changed) - _MOST_NAMES} more"] if len(changed) > _MOST_NAMES else []
            said.append(
                f"{name}: classes were renamed ({', '.join([*changed[:_MOST_NAMES], *more])}); "
                "finished runs still count"
            )
    return said


def versions() -> dict[str, str]:
    """The versions of the sets of one's own, for processes that load them anew."""
    return {name: BENCHMARKS.get(name).version for name in own_sets.given()}


def take_versions(known: Mapping[str, str]) -> None:
    """Gives sets the versions that they have in the process that planned the runs."""
    for name in own_sets.given():
        if name in known:
            BENCHMARKS.get(name).version = known[name]


def load(root: Path, suite: str | None = None) -> "pd.DataFrame":
    """Records as `load_results` gives them, with the names that the loaded sets give classes now.

    Args:
        root: folder of the results.
        suite: load this suite only; None loads all.
    """
    import pandas as pd

    from benchmark.results.load import load_results

    frame = load_results(root, suite)
    for name in own_sets.given() if len(frame) else ():
        kind = BENCHMARKS.get(name)
        mine = frame["benchmark"].eq(name) & frame["benchmark_version"].eq(kind.version)
        shown, former = dict[object, dict[str, object]](), set[str]()
        for row, folder in frame.loc[mine, "folder"].items():
            record = store.read_record(root / str(folder))
            iou = record.metrics.class_iou if record and record.metrics else {}
            if len(iou) == len(kind.classes) and list(iou) != list(kind.classes):
                names = [f"{_CLASS}{now}" for now in kind.classes]
                shown[row] = dict(zip(names, iou.values(), strict=True))
                former |= {f"{_CLASS}{then}" for then in iou}
        if not shown:
            continue
        frame.loc[list(shown), sorted(former)] = math.nan
        for column, scores in pd.DataFrame.from_dict(shown, orient="index").items():
            before = frame[column] if column in frame else pd.Series(math.nan, frame.index)
            frame[column] = scores.astype(float).reindex(frame.index).combine_first(before)
    return frame


def _records(root: Path, name: str) -> Iterator[Record]:
    for path in sorted(root.glob(f"*/{plain_name(name)}/*/*/[!.]*/{RECORD}")):
        record = store.read_record(path.parent)
        if record is not None and record.benchmark == name and record.metrics is not None:
            yield record


def _is_renamed(record: Record, kind: "type[DescribedBenchmark]") -> bool:
    names = _names(record)
    return len(names) == len(kind.classes) and (
        kind.description.version_named(names) == record.benchmark_version
    )


def _names(record: Record) -> Sequence[str]:
    assert record.metrics is not None
    return list(record.metrics.class_iou)
