"""Which methods are measured side by side: those of a results folder, or of a selection."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.spec import RunSpec
from benchmark.planning.catalogue import SUITES, build_method, method_label
from benchmark.results import store
from benchmark.results.load import run_folders
from benchmark.results.timing import Timing, path_of, read
from benchmark.results.timing_columns import references
from benchmark.results.validate import spec_of

Key = tuple[str, str, str, str]
"""Suite, backbone, weights, protocol hash: what is compared with each other."""


def key_of(cell: RunSpec) -> Key:
    """The group of a cell."""
    return cell.suite, cell.backbone, cell.weights, cell.protocol.hash


def finished(root: Path, suite: str) -> Iterator[RunSpec]:
    """The finished runs of a suite in a results folder, benchmarks in the order of the suite."""
    known = SUITES.get(suite).benchmarks
    cells = []
    for folder in run_folders(root / suite):
        record = store.read_record(folder)
        if record is not None and record.status == "done":
            try:
                cells.append(spec_of(record))
            except ValueError:
                continue  # of a protocol that this version does not know
    places = {name: place for place, name in enumerate(known)}
    order = lambda cell: (places.get(cell.benchmark, len(places)), cell.seed)  # noqa: E731
    return iter(sorted(cells, key=order))


def groups(cells: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """One cell a method of each group, all on the group's first benchmark and of its first seed."""
    found: dict[Key, dict[str, RunSpec]] = {}
    for cell in cells:
        found.setdefault(key_of(cell), {}).setdefault(cell.method_label, cell)
    return [
        [_beside(first, cell) for cell in group.values()]
        for group in found.values()
        for first in [next(iter(group.values()))]
    ]


def former(root: Path, cell: RunSpec) -> Timing | None:
    """What was measured before of the group of a cell."""
    return read(root / path_of(*key_of(cell)))


def complete(
    cells: Sequence[RunSpec], timing: Timing | None, tell: Callable[[str], None]
) -> list[RunSpec]:
    """Adds the references, and what was measured of the group before.

    Args:
        cells: of one group, on one benchmark.
        timing: that is to be replaced.
        tell: called with what is left out, and why.

    Raises:
        UserError: a method that was measured before cannot be built any more.
    """
    first, found = cells[0], {}
    for cell in cells:
        try:
            build_method(cell.method, cell.method_params)
        except UserError as error:
            tell(f"{cell.method_label} is left out: {error}")
            continue
        found[cell.method_label] = cell
    for name in references():
        method = build_method(name, {})
        fields = {"method": name, "method_params": dataclasses.asdict(method)}
        found.setdefault(method_label(method), _changed(first, method_label(method), fields))
    for label, one in timing.methods.items() if timing else ():
        fields = {"method": one.method, "method_params": one.method_params}
        try:
            build_method(one.method, one.method_params)
        except UserError as error:
            assert timing is not None
            raise UserError(
                f"{timing.path} has times of {label}, which cannot be measured again ({error}); "
                "name its file with --plugin, or remove the timing"
            ) from error
        found.setdefault(label, _changed(first, label, fields))
    return list(found.values())


def unmeasured(root: Path, cells: Iterable[RunSpec]) -> Iterator[Key]:
    """Groups of several methods of which one or more were not measured side by side."""
    labels: dict[Key, set[str]] = {}
    firsts: dict[Key, RunSpec] = {}
    for cell in cells:
        labels.setdefault(key_of(cell), set()).add(cell.method_label)
        firsts.setdefault(key_of(cell), cell)
    for key, names in labels.items():
        timing = former(root, firsts[key])
        known: Collection[str] = timing.methods if timing else ()
        if len(names) > 1 and not names <= set(known):
            yield key


def _beside(first: RunSpec, cell: RunSpec) -> RunSpec:
    fields = {"method": cell.method, "method_params": cell.method_params}
    return _changed(first, cell.method_label, fields)


def _changed(cell: RunSpec, label: str, fields: dict) -> RunSpec:
    """The cell with another method; not `model_copy`, which would keep its run id."""
    return RunSpec.model_validate(cell.model_dump() | fields | {"method_label": label})
