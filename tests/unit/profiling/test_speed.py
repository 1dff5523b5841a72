"""What the table of speeds is made of, on times that are known."""

import time

import pytest
import torch

from benchmark.core.ratio import Ratio, ratio
from benchmark.profiling.speed import trainer
from benchmark.profiling.speed.loops import usual_loss
from benchmark.profiling.speed.rounds import SETTLE, take_turns
from benchmark.profiling.speed.table import Row, write

CPU = torch.device("cpu")


def test_loops_take_turns_and_the_first_round_is_not_looked_at(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) ** 2.0)
    turns = []

    def loop(name, steps, mark):
        turns.append((name, steps))
        for _ in range(steps):
            mark()

    loops = {name: lambda steps, mark, name=name: loop(name, steps, mark) for name in "ab"}
    times = take_turns(loops, 2, 3, CPU)
    assert turns == [("a", SETTLE + 2), ("b", SETTLE + 2)] * 4
    # Mark number n is at n^2: the steps that end at marks n and n + 1 take 2n - 1 and 2n + 1.
    first = [(SETTLE + 2) * (2 + turn) for turn in range(6)]
    expected = [2 * (start + SETTLE) for start in first]
    assert [times["a"], times["b"]] == [expected[::2], expected[1::2]]


def test_a_ratio_is_of_rounds_and_above_one_where_it_is_faster():
    times = {"fast": [1.0, 2.0, 1.0], "slow": [2.0, 2.0, 3.0]}
    assert ratio(times, "fast", "slow") == Ratio(2.0, 1.0, 3.0)
    assert ratio(times, "slow", "fast") == Ratio(0.5, pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize(
    ("value", "at_most", "met"), [(1.0, False, True), (0.9, False, False), (0.9, True, True)]
)
def test_what_is_missed_says_so(value, at_most, met, tmp_path):
    row = Row("a", "1", "b", "2", Ratio(value, value, value), 1.0, at_most, "a note")
    assert row.met is met and ("missed" in row.texts[-1]) is not met
    page, _ = write([row], ["about."], tmp_path / "out")
    assert ("missed, a note" in page.read_text()) is not met and "about." in page.read_text()


def test_the_usual_loss_is_that_of_the_harness():
    from benchmark.engine.losses import segmentation_loss

    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=random)
    labels = torch.randint(0, 5, (2, 24, 28), generator=random)
    labels[0, :9] = 255
    torch.testing.assert_close(usual_loss(logits, labels), segmentation_loss(logits, labels))


def test_what_is_not_installed_is_named(monkeypatch):
    import sys

    from benchmark.core.errors import UserError

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"transformers, which is not installed.*\[speed\]"):
        trainer.HuggingFace.of(None, None)
