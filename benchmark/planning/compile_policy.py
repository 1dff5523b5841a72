"""Whether compiling the network saves time, judged by what it cost and gained in earlier runs.

A run starts uncompiled, which also shows its own pace. After a few steps it may be compiled:
always, never, or when earlier runs in the same results folder, on the same kind of device, show
that it saves time over the remaining steps. On a device on which nothing was compiled yet, nothing
is known.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from benchmark.core.errors import UserError
from benchmark.core.spec import RunSpec
from benchmark.results.index import Entry, read_index

CHOICES = ("auto", "always", "never")

LIKE = (("method", "backbone", "crop"), ("method", "backbone"), ("backbone",), ())
"""What earlier runs on the device have to share with a cell, the best basis first."""

Pays = Callable[[float, int], bool]
"""Whether compiling pays, by the seconds of a step as it is written and the steps that are left."""


def check(wanted: str) -> None:
    """Raises a UserError where this is no choice."""
    if wanted not in CHOICES:
        raise UserError(f"--compile {wanted!r}: choose from {', '.join(CHOICES)}")


def payback(wanted: str, cell: RunSpec, results: Path, device: str) -> Pays:
    """The forecast for a cell.

    Args:
        wanted: one of `CHOICES`.
        cell: that is about to train.
        results: folder with earlier runs.
        device: that it trains on, as records name it.
    """
    if wanted != "auto":
        return lambda *_: wanted == "always"
    seconds, gain = experience(read_index(results).entries.values(), cell, device)
    return lambda step, left: left * step * (gain - 1) > seconds * gain


def experience(runs: Iterable[Entry], cell: RunSpec, device: str) -> tuple[float, float]:
    """What compiling cost, in seconds, and how many times as fast steps were then.

    The medians over the runs that are most like the cell; without any, a cost of 0 and a gain of 1,
    which never pays.
    """
    compiled = [run for run in runs if run.device == device and run.compile_gain is not None]
    own = {
        "method": cell.method_label,
        "backbone": cell.backbone,
        "crop": cell.protocol.crop,
    }
    for keys in LIKE:
        alike = [run for run in compiled if all(getattr(run, key) == own[key] for key in keys)]
        if alike:
            return (
                median(run.compile_seconds or 0.0 for run in alike),
                median(run.compile_gain or 1.0 for run in alike),
            )
    return 0.0, 1.0
