"""What `speed --parts tasks` measures."""

import pytest

from benchmark.execution.environment import Environment
from benchmark.planning.plan import Selection, plan
from benchmark.profiling.speed.tasks import SAME, SWITCHED, measure

pytestmark = pytest.mark.slow


def test_tasks_on_one_backbone_take_less_than_models_of_their_own():
    sizes = {"steps": 1, "crop": 36, "batch_size": 2, "precision": "fp32"}
    chosen = Selection(methods="linear,lora", benchmarks="cells", seeds=(0,), protocol=sizes)
    told = []
    found = measure(plan(chosen), 4, Environment(), 2, told.append)
    assert len(told) == 4
    backbone = found.separate_bytes / 4
    assert backbone < found.shared_bytes < 1.5 * backbone
    if found.shared_process is not None:
        assert found.separate_process > 0
    assert found.switch_seconds < found.load_seconds
    assert {name: len(times) for name, times in found.times.items()} == {SWITCHED: 2, SAME: 2}
