"""How times were measured, in words beside the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.analysis.runs import Runs
from benchmark.core.format import time_text
from benchmark.reporting import commands
from benchmark.results.timing import Timing, about
from benchmark.results.timing_columns import PREFIX, RATIOS, TRAINING, references

BUSY = 0.1
"""Share of the CPU time from which on other processes are called a load."""


def how(timing: Timing) -> str:
    """One sentence on what was measured where, when, and beside what else."""
    return _sentence(about(timing))


def explained(runs: Runs) -> str:
    """How a group's times were measured, or how to measure them.

    Args:
        runs: of one group.
    """
    done = runs.frame[runs.frame["status"] == "done"]
    known = _timed_rows(done)
    run = f"run {commands.timing(runs)}{_takes(done)}"
    if known.empty:
        return f"Training time and latency were not compared; to compare them, {run}."
    text = (
        f"Training and latency: time per step and per image, as a multiple of that of "
        f"`{references()[0]}`. {_sentence(known.iloc[0])}"
    )
    left = sorted(set(done["method"]) - set(known["method"]))
    if left:
        text += f" Not measured: {', '.join(left)}; to measure all, {run}."
    elif _busy(known.iloc[0]):
        text += f" To measure again without other load, {run}."
    return text


def seconds(done: pd.DataFrame) -> float | None:
    """About how long `timing` takes for a group, in seconds; None where its runs do not tell.

    Args:
        done: its finished runs.
    """
    speed, batch = "costs.train.images_per_second", "protocol.batch_size"
    if speed not in done or batch not in done:
        return None
    # The fastest run of each: other load and other runs can only have slowed it down.
    steps = (done[batch] / done[speed]).groupby(done["method"]).min().dropna()
    if steps.empty:
        return None
    others = set(references()) - set(steps.index)
    return float(_STEPS * (steps.sum() + len(others) * steps.median()) + _START)


_STEPS, _START = 30, 10
"""What `timing` takes: training steps for each method, and seconds before the first.

By its own clock a method takes about 50 steps: in published timings the duration is 43 to 59 times
the sum of the steps. But runs that shared the machine with others are about half as fast."""


def _takes(done: pd.DataFrame) -> str:
    about = seconds(done)
    return "" if about is None else f" (about {time_text(about)})"


def _busy(row: "Mapping[str, Any] | pd.Series") -> bool:
    others = row.get(f"{PREFIX}others")
    return others is not None and others == others and others >= BUSY


def measured(runs: pd.DataFrame) -> str:
    """How a group's times were measured; empty if they were not."""
    known = _timed_rows(runs[runs["status"] == "done"])
    return "" if known.empty else _sentence(known.iloc[0])


def conditions(runs: pd.DataFrame) -> str:
    """With what a group's times were measured: "1 thread, fp32, Some CPU"; empty if they were not.

    Times of groups for which this differs are not comparable, not even as ratios.
    """
    known = _timed_rows(runs[runs["status"] == "done"])
    if known.empty:
        return ""
    row = known.iloc[0]
    return ", ".join([_threads(row), *(str(row[f"{PREFIX}{name}"]) for name in _WITH)])


def timed(runs: pd.DataFrame) -> Sequence[str]:
    """The ratios that these runs have."""
    return [name for name in RATIOS if name in runs and runs[name].notna().any()]


_WITH = ("precision", "device")


def _timed_rows(done: pd.DataFrame) -> pd.DataFrame:
    return done.dropna(subset=[TRAINING]) if TRAINING in done else done.head(0)


def _threads(row: "Mapping[str, Any] | pd.Series") -> str:
    threads = int(row[f"{PREFIX}threads"])
    return f"{threads} thread{'' if threads == 1 else 's'}"


def _sentence(row: "Mapping[str, Any] | pd.Series") -> str:
    def of(name: str) -> Any:
        value = row.get(f"{PREFIX}{name}")
        return None if value is None or value != value else value

    rounds, batch = int(of("rounds")), of("batch_size")
    training = f"batch {int(batch)} in training, " if batch else ""
    where = [_threads(row), *(str(of(name)) for name in _WITH), str(of("measured"))[:10]]
    text = (
        f"All methods took turns in one process, in {rounds} round{'' if rounds == 1 else 's'} on "
        f"{of('benchmark')}, {training}batch 1 for latency ({', '.join(where)}"
    )
    others = of("others")
    if others is not None:
        busy = "under load: " if _busy(row) else ""
        text += f"; {busy}{100 * others:.0f} % of the CPU time taken by other processes"
    elif of("load_before") is not None and of("load_after") is not None:
        text += f"; load average {of('load_before'):.1f} to {of('load_after'):.1f}"
    if (of("stolen") or 0.0) >= 0.005:
        text += f", {100 * of('stolen'):.0f} % by other machines on the host"
    return f"{text})."
