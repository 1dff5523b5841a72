"""Counted memory: exact for small loops, the allocator's own for real ones, and repeatable."""

import json
from itertools import accumulate, repeat

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.profiler import ProfilerActivity, profile, record_function

from benchmark.core.interrupt import OutOfMemory
from benchmark.engine import memory
from benchmark.engine.memory import Count, forward_memory, step_memory, training_memory
from benchmark.engine.train import train
from benchmark.execution.environment import prepare
from benchmark.execution.probe import Rehearsal
from benchmark.planning.plan import Selection, plan

CPU = torch.device("cpu")


def rehearsal(label, **protocol):
    sizes = {"batch_size": 4, "crop": 48, "precision": "fp32"} | protocol
    (cell,) = plan(Selection(methods=label, benchmarks="cells", seeds=(0,), protocol=sizes))
    return Rehearsal.of(cell, prepare(None, (), "cpu", 0), 2)


def of(label, **protocol):
    return rehearsal(label, **protocol).memory()


def test_storages_count_once_and_while_they_live():
    with Count(CPU) as count:
        a = torch.ones(100)
        b = a.view(10, 10)[:5]
        b.add_(1)
        assert count.held == 400
        del a
        assert count.held == 400
        c = (b * 2).sum()  # 50 numbers in between
        assert count.held == 404 and count.peak == 604
        del b
        assert count.held == 4
        count.restart()
        c.resize_(25)
        assert count.held == count.peak == 100
    assert count.add([c, c.view(5, 5)]) is None and count.held == 100


def test_what_exists_before_counts_once_it_is_used():
    used, unused = torch.ones(10), torch.ones(1000)
    with Count(CPU) as count:
        used.mul_(2)
        assert count.held == 40
    del unused
    assert count.held == 40


class Cube(torch.autograd.Function):
    """Keeps more for its backward pass than an operator would say."""

    @staticmethod
    def forward(ctx, x):
        ctx.square = x * x
        return ctx.square * x

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.square * gradient


@pytest.mark.parametrize("parts", [1, 2])
def test_the_parts_of_a_step(parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.BatchNorm1d(4).eval())
    model[0].requires_grad_(False)
    optimiser = AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    x = torch.randn(32, 8)

    def loop(mark):
        for _ in range(memory.STEPS):
            optimiser.zero_grad()
            for piece in x.chunk(parts):
                loss = Cube.apply(model[:3](piece)).sum()
                with record_function("backward"):
                    loss.backward()
            del loss
            optimiser.step()
            mark()

    found = step_memory(model, loop)
    trained = 16 * 4 + 4
    assert found.parameter_bytes == 4 * (8 * 16 + 16 + trained + 2 * 4)
    assert found.buffer_bytes == 4 * 2 * 4 + 8
    assert found.gradient_bytes == 4 * trained
    assert found.optimiser_bytes == 2 * 4 * trained + 2 * 4  # two moments, and a counter a tensor
    assert found.other_bytes == 4 * 32 * 8  # the batch
    # The input of the layer that is trained, what the cube keeps, and the loss.
    assert found.activation_bytes == 4 * (32 * 16 + 32 * 4) // parts + 4
    kept = found.parameter_bytes + found.buffer_bytes + found.optimiser_bytes + found.other_bytes
    assert found.peak_bytes > kept + found.activation_bytes
    assert found.allocated_bytes is None


def test_a_loop_that_stops_early_has_no_step_to_tell_of():
    with pytest.raises(ValueError, match="1 steps instead of 2"):
        step_memory(nn.Linear(2, 2), lambda mark: mark())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_order_of_methods_makes_sense(precision):
    names = ("linear", "lst", "vpt", "adapter", "lora", "full")
    peak = {name: of(name, precision=precision).peak_bytes for name in names}
    assert peak["linear"] <= peak["lst"] < min(peak["vpt"], peak["adapter"], peak["lora"])
    assert max(peak["vpt"], peak["adapter"], peak["lora"]) < peak["full"]


@pytest.mark.parametrize("label", ["spm", "peft:lora[lora_dropout=0.1]"])
def test_equal_to_the_byte_on_repetition(label):
    own = rehearsal(label)
    fresh = own.memory()
    assert own.memory() == fresh  # of a segmenter that was trained meanwhile
    assert of(label) == fresh


def test_equal_with_any_number_of_threads_but_for_their_buffers():
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(of("lora", crop=24, batch_size=2))
    finally:
        torch.set_num_threads(threads)
    one, two = (each.model_dump() for each in found)
    # Kernels that sum over rows may give each thread a buffer of its own.
    assert two.pop("peak_bytes") == pytest.approx(one.pop("peak_bytes"), rel=2e-3)
    assert two.pop("activation_bytes") == pytest.approx(one.pop("activation_bytes"), rel=0.02)
    assert one == two


def test_the_allocator_hands_out_as_much(tmp_path):
    """All that torch's allocator gives and takes in a step, by its own profiler."""
    own = rehearsal("lora", crop=96)
    batch = next(own.batches())
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)

    def mark(step, *_):
        profiler.__enter__() if step == 1 else profiler.__exit__(None, None, None)

    with memory.uncollected():
        train(own.segmenter, own.method, repeat(batch), own.protocol, "fp32", mark)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    events = sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])
    allocated = max(accumulate(event["args"]["Bytes"] for event in events))
    found = of("lora", crop=96)
    kept = found.parameter_bytes + found.buffer_bytes + found.optimiser_bytes + found.other_bytes
    assert found.peak_bytes - kept == pytest.approx(allocated, rel=0.02)


def test_a_batch_in_parts_holds_less_and_no_smaller_part_passes_for_it(monkeypatch):
    whole = of("lora")
    own = rehearsal("lora")
    halved = training_memory(own._feed, own.method, micro_batch=2)
    assert 0.4 < halved.activation_bytes / whole.activation_bytes < 0.6
    assert halved.parameter_bytes == whole.parameter_bytes
    real = own.segmenter.forward

    def forward(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(images)

    monkeypatch.setattr(own.segmenter, "forward", forward)
    assert own.memory() == halved
    with pytest.raises(OutOfMemory, match="4 images"):
        training_memory(own._feed, own.method, micro_batch=4)


def test_random_streams_and_modules_are_left_as_they_were():
    own = rehearsal("peft:lora[lora_dropout=0.1]")
    before, hooks = torch.get_rng_state(), len(_global_optimizer_post_hooks)
    own.memory()
    assert torch.equal(torch.get_rng_state(), before)
    assert len(_global_optimizer_post_hooks) == hooks
    assert not own.segmenter.training
    assert all(p.grad is None for p in own.segmenter.parameters())


def test_known_stages_are_part_of_the_batch_and_make_no_activations(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    known = of("linear", views=2)
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    computed = of("linear", views=2)
    assert known.activation_bytes <= computed.activation_bytes
    assert known.other_bytes > computed.other_bytes
    assert known.peak_bytes < computed.peak_bytes


def test_inference_holds_the_weights_and_the_largest_moment():
    model = nn.Sequential(nn.Linear(10, 1000, bias=False), nn.Linear(1000, 10, bias=False))
    x = torch.zeros(1, 10)
    with torch.inference_mode():
        found = forward_memory(model, lambda: model(x))
    assert found.peak_bytes == 4 * (2 * 10_000 + 10 + 1000 + 10)
    assert found == forward_memory(model.requires_grad_(False), lambda: model(x))
