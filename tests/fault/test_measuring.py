"""What was trained is never lost to a later measurement."""

import pytest

from benchmark.engine import measure
from benchmark.planning.plan import plan
from benchmark.results import index, store
from benchmark.results.validate import check_run
from methods import METHODS
from tests.helpers.tiny import run, select

pytestmark = pytest.mark.usefixtures("tiny")


def broken(*_, **__):
    raise RuntimeError("it is broken")


@pytest.mark.parametrize("what", ["flops", "forward", "merge"])
def test_a_run_counts_though_a_cost_could_not_be_measured(tmp_path, monkeypatch, what):
    if what == "flops":
        monkeypatch.setattr(measure, "count_flops", broken)
    elif what == "forward":
        monkeypatch.setattr(measure.Forward, "__call__", broken)
    else:
        monkeypatch.setattr(METHODS["lora"], "merge", broken)
    (record,) = run(tmp_path, select("lora", steps=2))
    (cell,) = plan(select("lora", steps=2))
    assert record.status == "done" and record.metrics is not None
    assert store.record_of(tmp_path, cell) == record
    assert [found for found in check_run(tmp_path / cell.folder) if found.severity == "fault"] == []
    infer, merged = record.costs.infer, record.costs.infer_merged
    told = merged.problems if what == "merge" else infer.problems
    assert told and all("it is broken" in problem for problem in told)
    assert (infer.flops is None) is (what == "flops")
    assert (infer.latency_ms_p50 is None) is (what == "forward")
    assert (infer.memory is None) is (what == "forward")
    assert merged.latency8_ms_p50 is None or what == "flops"
    (entry,) = index.read_index(tmp_path).entries.values()
    assert entry.memory_bytes > 0
