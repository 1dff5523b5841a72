"""What executors cost: the measurement with an executor in this process, and the simulation."""

from pathlib import Path

import pytest

from benchmark.execution.environment import Environment
from benchmark.execution.executors.here import Here
from benchmark.profiling.executors.overhead import Pause, measure
from benchmark.profiling.executors.simulate import HOUR, lengths_of, simulate

ROOT = Path(__file__).resolve().parents[3]


def test_cells_that_wait_are_measured():
    found = measure(Here(Environment()), [Pause(str(n), 0.01) for n in range(5)], 1)
    assert found["cells"] == 5 and found["seconds"] >= 0.05 and 0 < found["efficiency"] <= 1
    assert found["mean_overhead_ms"] >= 0
    assert measure(Here(Environment()), [Pause(str(n)) for n in range(5)], 1)["overhead_ms"] >= 0


def test_workers_share_cells_without_failures():
    one = simulate([10.0] * 8, 1, 0.0, 0.0)
    assert (one.seconds, one.efficiency, one.failures) == (80.0, 1.0, 0)
    four = simulate([10.0] * 8, 4, 0.0, 1.0)
    assert four.seconds == 22.0 and four.efficiency == pytest.approx(80 / 88)
    many = simulate([10.0] * 8, 100, 0.0, 0.0)
    assert many.seconds == 10.0 and many.efficiency == pytest.approx(0.08)


def test_failures_cost_what_was_not_saved():
    calm, rough = (simulate([HOUR] * 20, 4, rate, 0.0) for rate in (0.0, 0.5))
    assert rough.failures > 0
    # Each costs at most a minute of work and the minutes until its worker is back.
    assert calm.seconds < rough.seconds <= calm.seconds + rough.failures * (60 + 300)
    assert simulate([HOUR] * 20, 4, 0.5, 0.0) == rough


def test_lengths_are_those_of_recorded_runs():
    drawn = lengths_of(ROOT / "results" / "published", 50, 100.0)
    assert len(drawn) == 50 and sum(drawn) / 50 == pytest.approx(100.0) and min(drawn) > 0
