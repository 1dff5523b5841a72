"""What a protocol may ask of a training beside its steps: averages, validation, decay by depth."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Protocol
from benchmark.data.base import Example
from benchmark.engine.evaluate import coarse_logits, evaluate
from benchmark.engine.train import optimisation, train
from benchmark.execution.environment import prepare
from benchmark.execution.probe import Rehearsal
from benchmark.planning.plan import plan
from tests.helpers.tiny import run, same, select

pytestmark = pytest.mark.usefixtures("tiny", "strange")

STEPS = 6


def rehearse(methods="linear", **protocol):
    (cell,) = plan(select(methods, **protocol))
    return Rehearsal.of(cell, prepare(None, (), "cpu", 0), STEPS)


def trained(own, protocol, validate=None):
    """Trains, and returns the decoder's weights after every step."""
    seen = []

    def note(*_):
        seen.append(weight(own).clone())

    with torch_stream(0, "training"):
        train(own.segmenter, own.method, own.batches(), protocol, "fp32", note, validate=validate)
    return seen


def weight(own):
    return next(own.segmenter.decoder.parameters()).detach()


def test_the_moving_average_is_evaluated_and_the_training_is_the_same():
    plain, averaged = rehearse(), rehearse(ema=0.5)
    expected = weight(plain).clone()
    steps = trained(plain, plain.protocol)
    for step, now in enumerate(steps, 1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * now
    raw = trained(averaged, averaged.protocol)
    assert all(map(torch.equal, raw, steps))
    torch.testing.assert_close(weight(averaged), expected)


def test_the_best_weights_on_validation_are_evaluated():
    changes = {"val_every": 2, "checkpoint": "best"}
    own = rehearse()
    scores = iter([0.3, 0.5, 0.4])
    protocol = Protocol.model_validate(own.protocol.model_dump() | changes)
    modes = []

    def validate():
        modes.append(own.segmenter.training)
        return next(scores)

    steps = trained(own, protocol, validate)
    assert torch.equal(weight(own), steps[3]) and not torch.equal(steps[3], steps[5])
    assert modes == [False] * 3


def test_a_training_is_the_same_with_and_without_a_validation_curve(tmp_path):
    (plain,) = run(tmp_path / "plain", select())
    chosen = select(val_every=2)
    (followed,) = run(tmp_path / "followed", chosen)
    assert followed.metrics == plain.metrics and followed.protocol_hash != plain.protocol_hash
    curve = [
        json.loads(line)
        for line in next((tmp_path / "followed").rglob("curve.jsonl")).read_text().splitlines()
    ]
    assert [point["step"] for point in curve if "val_miou" in point] == [2, 4, 6]
    assert all(0 <= point["val_miou"] <= 1 for point in curve if "val_miou" in point)
    assert followed.execution.opened_splits == {"val": 3, "test": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "protocol",
    [{"ema": 0.9}, {"ema": 0.9, "val_every": 3, "checkpoint": "best", "loss": "ce+dice"}],
)
def test_it_goes_on_as_if_it_had_never_stopped(protocol, tmp_path):
    chosen = select(steps=8, **protocol)
    (cell,) = plan(chosen)
    run(tmp_path / "calm", chosen)
    for _ in range(3):
        (record,) = run(tmp_path, chosen, max_seconds=0.001, retry="all")
        assert record.status == "timeout"
    (record,) = run(tmp_path, chosen, retry="all")
    assert record.status == "done" and len(record.execution.resumed_at) == 3
    same(tmp_path, tmp_path / "calm", cell)


@pytest.mark.parametrize("loss", ["ce", "ce+dice", "focal", "lovasz"])
def test_every_loss_trains_and_a_batch_in_parts_is_the_same_step(loss, tmp_path):
    losses = []
    for accumulate in (1, 4):
        (record,) = run(
            tmp_path / str(accumulate), select(loss=loss, accumulate=accumulate, steps=3)
        )
        assert record.status == "done" and record.execution.micro_batch == 4 // accumulate
        lines = next((tmp_path / str(accumulate)).rglob("curve.jsonl")).read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_rates_fall_towards_the_embedding():
    own = rehearse("full")
    protocol = own.protocol.model_copy(update={"layer_decay": 0.5})
    optimiser, _ = optimisation(own.segmenter, own.method, protocol)
    rate = {
        id(parameter): group["initial_lr"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    model, blocks = own.segmenter.backbone.model, own.segmenter.backbone.stage_blocks()
    names = [name for stage in blocks for name in stage]
    for number, name in enumerate(reversed(names), 1):
        for parameter in model.get_submodule(name).parameters():
            assert rate[id(parameter)] == pytest.approx(own.method.lr * 0.5**number)
    deepest = own.method.lr * 0.5 ** (len(names) + 1)
    assert rate[id(model.patch_embed.proj.weight)] == pytest.approx(deepest)
    decoder = next(own.segmenter.decoder.parameters())
    assert rate[id(decoder)] == protocol.decoder_lr
    everything = {id(p) for p in own.segmenter.parameters() if p.requires_grad}
    assert everything == set(rate)


def test_what_a_method_put_in_keeps_its_rate():
    own = rehearse("lora")
    protocol = own.protocol.model_copy(update={"layer_decay": 0.5})
    optimiser, _ = optimisation(own.segmenter, own.method, protocol)
    assert {group["initial_lr"] for group in optimiser.param_groups} == {
        own.method.lr,
        protocol.decoder_lr,
    }


def test_a_mirrored_image_is_averaged_with_the_image():
    own = rehearse(tta="flip")
    segmenter = own.segmenter.eval()
    size = (segmenter.backbone.divisor * 3, segmenter.backbone.divisor * 4)
    random = np.random.default_rng(0)
    image = random.integers(256, size=(*size, 3), dtype=np.uint8)
    label = random.integers(2, size=size, dtype=np.uint8)
    benchmark = SimpleNamespace(scale=lambda *_: 1.0, classes=("a", "b"))
    example, mirrored = Example("x", image, label), Example("x", image[:, ::-1], label[:, ::-1])
    counts = [
        evaluate(segmenter, benchmark, [one], own.protocol, "fp32") for one in (example, mirrored)
    ]
    for key in counts[0]:
        np.testing.assert_allclose(counts[0][key], counts[1][key], rtol=1e-5)
    x = segmenter.normalise(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    with torch.no_grad():
        once = coarse_logits(segmenter, x, own.protocol, 10**6)
        again = coarse_logits(segmenter, x.flip(-1), own.protocol, 10**6).flip(-1)
    assert not torch.allclose(once, again)


def test_old_protocols_keep_their_hash():
    assert Protocol().hash == Protocol.model_validate({"steps": 200, "loss": "ce"}).hash
    later = {"loss": "focal", "class_weights": "balanced", "accumulate": 2, "layer_decay": 0.9}
    later |= {"ema": 0.9, "val_every": 5, "tta": "flip"}
    hashes = {Protocol.model_validate({name: value}).hash for name, value in later.items()}
    assert len(hashes | {Protocol().hash}) == len(later) + 1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"accumulate": 9}, "accumulate=9 is above batch_size=8"),
        ({"loss": "lovasz", "class_weights": "balanced"}, "no meaning for loss=lovasz"),
        ({"checkpoint": "best"}, "needs val_every"),
        ({"checkpoint": "best", "val_every": 5, "eval_split": "val"}, "eval_split must be test"),
    ],
)
def test_fields_that_contradict_each_other(changes, said):
    with pytest.raises(ValidationError, match=said):
        Protocol.model_validate(changes)
