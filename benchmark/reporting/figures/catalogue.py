"""Every figure of a report, from the modules of this package; a new one is a new module here.

A module with figures has `ORDER` (its place in the report) and one of `pictures(view)`, the figures
of a group, and `pictures_across(inputs)`, those over several protocols.
"""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmark.analysis.leaderboard import Key
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.inputs import ReportInputs


def pictures(inputs: ReportInputs, key: Key) -> Iterator[Picture]:
    """The figures of a group that have something to show.

    Args:
        inputs: of the report.
        key: of one of its groups.
    """
    view = GroupView(inputs, key)
    for module in _modules():
        if hasattr(module, "pictures"):
            yield from module.pictures(view)


def pictures_across(inputs: ReportInputs) -> Iterator[Picture]:
    """The figures that join several protocols."""
    for module in _modules():
        if hasattr(module, "pictures_across"):
            yield from module.pictures_across(inputs)


@cache
def _modules() -> list[ModuleType]:
    # On demand: Matplotlib is slow to load, and a table in the terminal needs none of it.
    names = [path.stem for path in Path(__file__).parent.glob("*.py") if path != Path(__file__)]
    found = [import_module(f"{__package__}.{name}") for name in sorted(names)]
    return sorted((one for one in found if hasattr(one, "ORDER")), key=lambda one: one.ORDER)
