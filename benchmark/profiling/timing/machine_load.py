"""Other load of the machine during a measurement."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.core.machine import load_average
from benchmark.results.timing import Load

STAT = Path("/proc/stat")


@dataclass(frozen=True)
class _Snapshot:
    """Seconds since the start, over all cores; None where the system does not report them."""

    own: float
    total: float | None = None
    busy: float | None = None
    stolen: float | None = None
    average: float | None = None


class Watcher:
    """Compares the machine's time with this process's, from its creation on."""

    def __init__(self) -> None:
        self._before = _now()

    def load(self) -> Load:
        """What other processes did until now."""
        before, after = self._before, _now()
        others = stolen = None
        if after.total is not None and before.total is not None and after.total > before.total:
            assert after.busy is not None and before.busy is not None
            assert after.stolen is not None and before.stolen is not None
            passed = after.total - before.total
            foreign = after.busy - before.busy - (after.own - before.own)
            # The clocks of the system and of a process are read a moment apart.
            others = round(min(max(foreign / passed, 0.0), 1.0), 4)
            stolen = round((after.stolen - before.stolen) / passed, 4)
        return Load(before=before.average, after=after.average, others=others, stolen=stolen)


def _now() -> _Snapshot:
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    average = load_average()
    found = list(_ticks())
    if len(found) < 8:
        return _Snapshot(own, average=average)
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
    unit = os.sysconf("SC_CLK_TCK")
    total, idle, stolen = (sum(part) / unit for part in (found[:8], found[3:5], found[7:8]))
    return _Snapshot(own, total, total - idle - stolen, stolen, average)


def _ticks() -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):
        words = STAT.read_text().splitlines()[0].split()
        yield from map(int, words[1:] if words[0] == "cpu" else ())
