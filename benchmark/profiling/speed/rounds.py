"""Times loops in turns, so that other load affects all of them alike."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from benchmark.core.ratio import Times

if TYPE_CHECKING:  # what reads stored times needs no torch
    import torch

SETTLE = 3
"""First steps of each turn that are usually not timed: caches and allocators settle in them."""

Loop = Callable[[int, Callable[[], None]], None]
"""Trains for so many more steps, and reports after each of them."""


def take_turns(
    loops: Mapping[str, Loop],
    steps: int,
    rounds: int,
    device: "torch.device",
    told: Callable[[str], None] = lambda text: None,
    settle: int = SETTLE,
) -> Times:
    """Runs every loop in every round, after a round that is not timed.

    Args:
        loops: by name.
        steps: timed ones, a loop and round.
        rounds: looked at.
        device: where they compute.
        told: called with what is running.
        settle: first steps of a turn that are not timed, at least one.
    """
    times: Times = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            told(f"round {number} of {rounds}: {name}" if number else f"warming up: {name}")
            seconds = seconds_of_a_step(loop, steps, device, settle)
            if number:
                times[name].append(seconds)
    return times


def seconds_of_a_step(
    loop: Loop, steps: int, device: "torch.device", settle: int = SETTLE
) -> float:
    """The median over some timed steps, after some that settle."""
    marks: list[float] = []

    def mark() -> None:
        if device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
        marks.append(time.perf_counter())

    loop(settle + steps, mark)
    timed = marks[settle - 1 :]
    return median(after - before for before, after in pairwise(timed))
