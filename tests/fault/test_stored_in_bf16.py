"""Whole runs in bf16, with frozen weights kept in it, stored as those without."""

from contextlib import nullcontext

import pytest

from benchmark.engine import compute, evaluate, measure, train
from benchmark.planning.plan import plan
from tests.helpers.tiny import run, same, select

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize("method", ["lora", "bitfit"])
def test_a_run_stores_what_plain_autocast_stores(tmp_path, monkeypatch, method):
    selection = select(method, steps=3, precision="bf16")
    (kept,) = run(tmp_path / "kept", selection)
    for module in (compute, evaluate, measure):
        monkeypatch.setattr(module, "cast_frozen", lambda *_: nullcontext())
    (plain,) = run(tmp_path / "plain", selection)
    assert kept.status == plain.status == "done" and kept.provenance.precision == "bf16"
    assert kept.costs.params == plain.costs.params and kept.costs.stored == plain.costs.stored
    assert kept.costs.infer.flops == plain.costs.infer.flops
    same(tmp_path / "kept", tmp_path / "plain", *plan(selection))


@pytest.mark.slow
@pytest.mark.parametrize("looked_at", [{}, {"cpu": 3}])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch, looked_at):
    chosen = select("lora", steps=5, precision="bf16")
    run(tmp_path / "calm", chosen)
    monkeypatch.setattr(train, "LOOKED_AT", looked_at)
    for _ in range(3):
        (record,) = run(tmp_path / "again", chosen, max_seconds=0.001, retry="all")
        assert record.status == "timeout"
    (record,) = run(tmp_path / "again", chosen, retry="all")
    assert record.execution.resumed_at == (1, 2, 3)
    same(tmp_path / "again", tmp_path / "calm", *plan(chosen))
