"""How times were measured, in a sentence beside the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.results.timing import Timing, about
from benchmark.results.timing_columns import PREFIX, RATIOS, TRAINING, references


def how(timing: Timing) -> str:
    """One sentence on what was measured where, when, and beside what else."""
    return _sentence(about(timing))


def explained(runs: pd.DataFrame) -> str:
    """How a group's times were measured, or how to measure them.

    Args:
        runs: of one group, one row a record.
    """
    done = runs[runs["status"] == "done"]
    known = done.dropna(subset=[TRAINING]) if TRAINING in done else done.head(0)
    suite = runs["suite"].iloc[0] if "suite" in runs else "NAME"
    verb = f"`python -m benchmark timing --suite {suite}`"
    if known.empty:
        return f"Training time and latency were not compared; to compare them, run {verb}."
    text = (
        f"Training and latency: time per step and per image, as a multiple of that of "
        f"`{references()[0]}`. {_sentence(known.iloc[0])}"
    )
    left = sorted(set(done["method"]) - set(known["method"]))
    if left:
        text += f" Not measured: {', '.join(left)}; to measure all, run {verb}."
    return text


def _sentence(row: "Mapping[str, Any] | pd.Series") -> str:
    def of(name: str) -> Any:
        value = row.get(f"{PREFIX}{name}")
        return None if value is None or value != value else value

    threads, rounds = int(of("threads")), int(of("rounds"))
    where = [
        str(of("device")),
        f"{threads} thread{'' if threads == 1 else 's'}",
        str(of("precision")),
        str(of("measured"))[:10],
    ]
    text = (
        f"All methods took turns in one process, in {rounds} round{'' if rounds == 1 else 's'} on "
        f"{of('benchmark')} ({', '.join(where)}"
    )
    if of("load_before") is not None and of("load_after") is not None:
        text += f"; load average {of('load_before'):.1f} to {of('load_after'):.1f}"
    if of("others") is not None:
        text += f", {100 * of('others'):.0f} % of the CPU time taken by other processes"
    if (of("stolen") or 0.0) >= 0.005:
        text += f", {100 * of('stolen'):.0f} % by other machines on the host"
    return f"{text})."


def timed(runs: pd.DataFrame) -> Sequence[str]:
    """The ratios that these runs have."""
    return [name for name in RATIOS if name in runs and runs[name].notna().any()]
