"""checkpoint_activations: equal gradients, less memory, and no change to old protocols."""

from contextlib import nullcontext

import pytest
import torch

import methods
from benchmark.core.errors import UserError
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Compute, Protocol
from benchmark.data.batches import Batch
from benchmark.engine.activations import checkpointed, is_exact
from benchmark.engine.build import build_segmenter
from benchmark.engine.losses import Criterion
from benchmark.engine.memory import STEPS, step_memory
from benchmark.engine.train import train
from benchmark.execution import checks
from benchmark.execution.environment import prepare
from benchmark.planning.catalogue import build_method
from benchmark.planning.plan import Selection, plan
from methods.base import METHODS, Unsupported, register
from tests.helpers.tiny import Strange
from tests.unit.engine.conftest import tiny  # noqa: F401 - a fixture

OWN = [name for name in methods.METHODS.loaded() if ":" not in name]


def cell(method, backbone="test_vit", **protocol):
    sizes = {"crop": 64, "batch_size": 2, "steps": 3, "precision": "fp32"} | protocol
    choice = {"methods": method, "benchmarks": "streets", "backbones": backbone}
    return plan(Selection(**choice, weights="none", protocol=sizes))[0]


def built(spec):
    method = build_method(spec.method, spec.method_params)
    segmenter, _ = build_segmenter(spec, method, (), torch.device("cpu"))
    return segmenter, method


def batch(count=2, side=64, classes=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (count, side, side), generator=generator, dtype=torch.uint8)
    return Batch(images, labels, tuple(map(str, range(count))))


def gradients(segmenter, method, on):
    images, labels, _ = batch()
    labels = labels.long()
    segmenter.train()
    with torch_stream(0, "step"), checkpointed(segmenter) if on else nullcontext():
        loss = Criterion()(segmenter(images), labels)
        loss = loss + (method.auxiliary_loss(segmenter.backbone, labels) or 0)
        loss.backward()
    buffers = [buffer for _, buffer in segmenter.named_buffers()]
    return [parameter.grad for parameter in segmenter.parameters()], buffers


def compare(name, backbone):
    spec = cell(name, backbone)
    (segmenter, method), (again, _) = built(spec), built(spec)
    former = [vars(module).get("forward") for module in segmenter.modules()]
    found = gradients(segmenter, method, True), gradients(again, method, False)
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None and b is None) or torch.equal(a, b), name
    assert [vars(module).get("forward") for module in segmenter.modules()] == former


@pytest.mark.parametrize(
    ("method", "backbone"),
    [("full", "test_resnet"), ("full", "test_vit"), ("lora", "test_vit"), ("spm", "test_vit")],
)
def test_gradients_and_statistics_are_the_same_to_the_bit(method, backbone):
    compare(method, backbone)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext"])
def test_so_are_those_of_every_method(backbone):
    tried = 0
    for name in OWN:
        try:
            compare(name, backbone)
        except Unsupported:
            continue
        tried += 1
    assert tried > 5


def test_a_step_holds_less_and_is_the_same_step():
    found = {}
    for on in ("off", "on"):
        spec = cell("full", batch_size=8, checkpoint_activations=on)
        segmenter, method = built(spec)
        curve = []

        def loop(mark, segmenter=segmenter, method=method, spec=spec, curve=curve):
            def told(step, loss, _):
                curve.append(loss)
                mark()

            train(
                segmenter,
                method,
                iter([batch(8)] * STEPS),
                spec.protocol.shortened(STEPS),
                "fp32",
                told,
            )

        found[on] = step_memory(segmenter, loop), curve, segmenter.state_dict()
    (more, curve, state), (less, again, same) = found["off"], found["on"]
    assert less.activation_bytes < 0.5 * more.activation_bytes
    assert less.peak_bytes < more.peak_bytes
    assert curve == again and all(torch.equal(state[name], same[name]) for name in state)


def test_what_hands_on_from_inside_a_block_is_refused(strange, monkeypatch):
    class Handing(Strange):
        def _apply(self, backbone, num_classes):
            seen = []

            def count(x, y):
                seen.append(1)
                return y * len(seen)

            backbone.insert("layer", torch.nn.Linear(1, 1))
            backbone.model.requires_grad_(True)
            backbone.after(backbone.names("mlp")[0], count)

    register("handing")(Handing)
    try:
        segmenter, method = built(cell("handing"))
        images, labels, _ = batch()
        assert not is_exact(segmenter, method, images, labels.long(), Criterion())
        verdict = checks.check(
            cell("handing", checkpoint_activations="on"),
            prepare(None, (), "cpu", compute=Compute("fp32")),
        )
        assert "leave it out" in verdict.reason and verdict.status == "unsupported"
    finally:
        METHODS._loaded.pop("handing")


def test_protocols_without_it_keep_their_hash():
    assert "checkpoint_activations" not in Protocol().identity
    assert Protocol(checkpoint_activations="on").hash != Protocol().hash
    assert Protocol(checkpoint_activations=True).checkpoint_activations == "on"  # of YAML
    with pytest.raises(ValueError, match="checkpoint_activations"):
        Protocol(checkpoint_activations="yes")


def test_a_run_that_is_to_be_compiled_is_refused(tmp_path):
    from benchmark.execution.grid import run_cells

    with pytest.raises(UserError, match="--compile"):
        run_cells([cell("linear", checkpoint_activations="on")], tmp_path, compiling="always")
