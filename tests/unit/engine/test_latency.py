"""Latency, throughput and FLOPs of a record: bounded in time, and never a reason to lose a run."""

import pytest
import torch

from benchmark.contract.models import tiny_segmenter
from benchmark.core.record import InferCost
from benchmark.core.spec import Protocol
from benchmark.engine import latency, measure
from benchmark.engine.latency import percentiles, repeated
from benchmark.engine.measure import count_flops, measure_inference
from methods import METHODS

PROTOCOL = Protocol(crop=32, batch_size=2)


def segmenter_of(name, family="vit", **fields):
    method = METHODS[name](**fields)
    return method, tiny_segmenter(family, method).eval()


@pytest.mark.parametrize(
    ("seconds", "timed"), [(1e-4, 30), (0.11, 10), (3.0, 5)], ids=["quick", "usual", "slow"]
)
def test_passes_are_bounded_by_number_and_time(monkeypatch, seconds, timed):
    for name, value in (("MOST", 30), ("LEAST", 5), ("SECONDS", 1.0)):
        monkeypatch.setattr(latency, name, value)
    made = []
    times = repeated(lambda: made.append(seconds) or seconds)
    assert times == [seconds] * timed
    warm = len(made) - timed
    assert warm == (3 if seconds < 0.01 else 1)


def test_percentiles_are_in_milliseconds():
    assert percentiles([k / 1000 for k in range(101)]) == pytest.approx((5, 50, 95))


def test_one_and_eight_images_are_measured_with_their_spread(monkeypatch):
    monkeypatch.setattr(latency, "MOST", 6)
    method, segmenter = segmenter_of("lora")
    plain = measure_inference(segmenter, PROTOCOL, "fp32")
    merged = measure_inference(segmenter, PROTOCOL, "fp32", merging=method)
    for found in (plain, merged):
        assert found.problems == ()
        assert 0 < found.latency_ms_p5 <= found.latency_ms_p50 <= found.latency_ms_p95
        assert 0 < found.latency8_ms_p5 <= found.latency8_ms_p50 <= found.latency8_ms_p95
        assert found.images_per_second > 0 and found.memory.peak_bytes > 0
    assert merged.flops < plain.flops


def test_a_batch_of_eight_is_measured_once(monkeypatch):
    monkeypatch.setattr(measure, "_throughput", None)
    _, segmenter = segmenter_of("linear")
    found = measure_inference(segmenter, PROTOCOL.model_copy(update={"batch_size": 8}), "fp32")
    assert found.images_per_second == pytest.approx(8000 / found.latency8_ms_p50)


def test_what_cannot_be_measured_is_none_and_says_why(monkeypatch):
    def broken(*_):
        raise RuntimeError("no\ncounter")

    monkeypatch.setattr(measure, "count_flops", broken)
    method, segmenter = segmenter_of("lora")
    found = measure_inference(segmenter, PROTOCOL, "fp32")
    assert found.flops is None and found.problems == ("FLOPs: RuntimeError: no counter",)
    assert found.latency_ms_p50 > 0

    def full(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return torch.zeros(())

    segmenter.forward = full
    found = measure_inference(segmenter, PROTOCOL, "fp32")
    assert found.latency8_ms_p50 is None and found.latency_ms_p50 > 0
    assert found.images_per_second > 0
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "latency of 8 images",
        "FLOPs",
    ]
    monkeypatch.setattr(type(method), "merge", broken)
    found = measure_inference(segmenter, PROTOCOL, "fp32", merging=method)
    assert found == InferCost(problems=("merging: RuntimeError: no counter",))


def test_flops_are_counted_where_a_module_is_given_a_bare_parameter():
    """The counter cannot attach its hooks to such a parameter, as prompts in windows are."""
    _, prompted = segmenter_of("vpt", "swin")
    _, plain = segmenter_of("linear", "swin")
    trained = [p.requires_grad for p in prompted.parameters()]
    assert count_flops(prompted, PROTOCOL) > count_flops(plain, PROTOCOL) > 0
    assert any(trained) and trained == [p.requires_grad for p in prompted.parameters()]
