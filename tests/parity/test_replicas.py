"""A batch that threads share makes the step that one thread makes, to rounding, every time."""

import contextlib

import pytest
import torch

from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Compute
from benchmark.engine import replicas
from benchmark.engine.build import build_segmenter
from benchmark.engine.replicas import Replicas, is_divisible, replicate
from benchmark.engine.train import train
from benchmark.execution.environment import prepare
from benchmark.execution.probe import Rehearsal
from benchmark.planning.catalogue import build_method
from benchmark.planning.plan import Selection, plan

STEPS = 3


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Makes copies for two threads, though a test has one."""
    monkeypatch.setattr(replicas.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(replicas.torch, "set_num_threads", lambda count: None)


def cell(label, **protocol):
    sizes = {"precision": "fp32", "crop": 48, "batch_size": 4, "steps": STEPS} | protocol
    return plan(Selection(methods=label, benchmarks="streets", protocol=sizes))[0]


def trained(spec, shared=True):
    """Copies that took part, the curve, and all tensors after training."""
    environment = prepare(None, (), "cpu")
    own = Rehearsal.of(spec, environment, STEPS)
    those = own.replicas if shared else Replicas(own.segmenter)
    crops = own.batches()
    with (
        those.sharing(own.compute),
        torch_stream(0, "training"),
        contextlib.closing(crops),
    ):
        found = train(
            own.segmenter, own.method, crops, own.protocol, own.compute.precision, replicas=those
        )
    return len(those.segmenters), found.state.curve, own.segmenter.state_dict()


@pytest.mark.parametrize("label", ["full", "linear", "lora", "spm", "vpt", "adapter[form=houlsby]"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("bf16", 3e-2)])
def test_threads_that_share_a_batch_make_the_same_steps(label, precision, tolerance):
    spec = cell(label, precision=precision)
    count, curve, state = trained(spec)
    assert count == 2
    _, again, same = trained(spec)
    assert curve == again and all(torch.equal(state[name], same[name]) for name in state)
    _, alone, _ = trained(spec, shared=False)
    for ours, theirs in zip(curve, alone, strict=True):
        assert ours["total"] == pytest.approx(theirs["total"], rel=tolerance)


def test_a_batch_of_odd_size_and_without_a_label_is_shared_out(monkeypatch):
    spec = cell("spm", batch_size=5)
    count, curve, _ = trained(spec)
    _, alone, _ = trained(spec, shared=False)
    assert count == 2
    assert [p["total"] for p in curve] == pytest.approx([p["total"] for p in alone], rel=1e-4)


@pytest.mark.parametrize(
    ("label", "copies"), [("linear", 2), ("peft:adalora", 1), ("peft:lora[lora_dropout=0.1]", 1)]
)
def test_what_keeps_a_state_or_draws_numbers_is_not_shared_out(label, copies):
    spec, environment = cell(label), prepare(None, (), "cpu")
    method = build_method(spec.method, spec.method_params)

    def build():
        return build_segmenter(spec, method, environment.weights, environment.device)[0]

    state = torch.random.get_rng_state()
    with torch_stream(0, "build"):
        found = replicate(build().train(), build, method, spec.protocol)
    assert len(found.segmenters) == copies
    assert torch.equal(state, torch.random.get_rng_state())


def test_images_that_depend_on_each_other_are_not_shared_out():
    class Norm(torch.nn.Sequential):
        pass

    sample = torch.zeros(2, 3, 8, 8)
    norm = Norm(torch.nn.BatchNorm2d(3))
    assert not is_divisible(norm.train(), sample)
    assert is_divisible(norm.eval(), sample)


def test_an_error_of_one_thread_ends_the_step_after_all_have_ended():
    spec, environment = cell("linear"), prepare(None, (), "cpu")
    method = build_method(spec.method, spec.method_params)
    parts = [
        build_segmenter(spec, method, environment.weights, environment.device)[0] for _ in range(2)
    ]
    ended = []

    def work(number, segmenter):
        if number == 0:
            raise MemoryError
        ended.append(number)

    both = Replicas(parts[0], parts[1:])
    with both.sharing(Compute("fp32")), pytest.raises(MemoryError):
        both.each(work)
    assert ended == [1]
