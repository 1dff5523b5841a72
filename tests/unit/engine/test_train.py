import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.core.interrupt import Diverged, Interrupted, StopSignal
from benchmark.core.seeding import derive, stream, torch_stream
from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE
from benchmark.data.batches import Batch
from benchmark.engine import checkpoint
from benchmark.engine import train as engine
from benchmark.engine.checkpoint import Saving
from benchmark.engine.losses import NAMED_IMAGES, segmentation_loss
from benchmark.engine.train import (
    ASKED_AFTER,
    learning_rate_factor,
    train,
)


def test_loss_is_the_mean_over_labelled_pixels():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[0, :3] = IGNORE
    big = F.interpolate(logits, (8, 8), mode="bilinear").log_softmax(1)
    picked = [
        -big[n, labels[n, i, j], i, j]
        for n in range(2)
        for i in range(8)
        for j in range(8)
        if labels[n, i, j] != IGNORE
    ]
    expected = torch.stack(picked).mean()
    torch.testing.assert_close(segmentation_loss(logits, labels).double(), expected)


def test_a_batch_of_void_has_loss_zero_and_no_nan_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_rate_rises_then_falls_to_zero():
    protocol = Protocol(steps=100, warmup=0.1)
    factors = [learning_rate_factor(step, protocol) for step in range(101)]
    assert factors[:11] == sorted(factors[:11]) and factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0)
    assert factors[55] == pytest.approx(0.5)


class Exploding(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.decoder = nn.Identity(), nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.decoder(images) * math.inf


class Nothing:
    def parameter_groups(self, backbone):
        return []

    def auxiliary_loss(self, backbone, labels):
        return None

    def after_step(self, backbone, step, steps):
        pass

    def state_dict(self, backbone):
        return {}

    def load_state_dict(self, backbone, state):
        pass


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step():
    batch = Batch(torch.ones(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), ("a",))
    with pytest.raises(Diverged, match="at step 1, on a; lower the learning rate"):
        train(Exploding(), Nothing(), iter([batch]), Protocol(steps=1), "fp32")


class Cliff(nn.Module):
    """The root of zero: a finite loss with an infinite gradient."""

    def __init__(self):
        super().__init__()
        self.backbone, self.decoder = nn.Identity(), nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.decoder.weight)

    def forward(self, images):
        return images[:, :2] * self.decoder.weight.sqrt()


def test_a_gradient_that_is_no_number_stops_the_run_and_names_its_images():
    ids = tuple(f"i{number}" for number in range(NAMED_IMAGES + 6))
    images = torch.rand(len(ids), 3, 4, 4)
    batch = Batch(images, torch.zeros(len(ids), 4, 4, dtype=torch.long), ids)
    with pytest.raises(Diverged) as told:
        train(Cliff(), Nothing(), iter([batch]), Protocol(steps=1, batch_size=len(ids)), "fp32")
    message = str(told.value)
    assert "the norm of the gradient is" in message and "at step 1, on i0, i1" in message
    assert f"i{NAMED_IMAGES - 1} and 6 more; lower" in message and "\n" not in message


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.decoder = nn.Identity(), nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.decoder(images)


def crops(worse_from=math.inf):
    random = torch.Generator().manual_seed(0)
    for step in range(1, 100):
        images = torch.rand(2, 3, 4, 4, generator=random)
        if step >= worse_from:
            images = images * math.inf
        yield Batch(images, torch.ones(2, 4, 4, dtype=torch.uint8), (f"{step}a", f"{step}b"))


@pytest.mark.parametrize("every", [2, 4, 100])
def test_losses_that_are_looked_at_later_are_the_same(every, monkeypatch, tmp_path):
    protocol = Protocol(steps=11, batch_size=2)
    told = {}
    for looked_at in ({}, {"cpu": every}):
        monkeypatch.setattr(engine, "LOOKED_AT", looked_at)
        saving = Saving(tmp_path / "checkpoint", interval=0.0)
        seen = []

        def progress(step, *_, seen=seen, path=saving.path):
            seen.append(step)
            if step > 1:
                # What is saved knows the loss of every step that was made.
                saved = torch.load(path, weights_only=True)["progress"]
                assert [point["step"] for point in saved["curve"]] == seen[: saved["step"]]

        done = train(Line(), Nothing(), crops(), protocol, "fp32", progress, saving=saving)
        told[bool(looked_at)] = done.state.curve
        assert seen == list(range(1, 12))
    assert told[False] == told[True] and len(told[True]) == 11


@pytest.mark.parametrize("step", [1, 5, 11])
def test_a_loss_that_is_looked_at_later_is_told_by_its_own_step(step, monkeypatch):
    monkeypatch.setattr(engine, "LOOKED_AT", {"cpu": 4})
    with pytest.raises(Diverged, match=f"at step {step}, on {step}a, {step}b; lower"):
        train(Line(), Nothing(), crops(step), Protocol(steps=11, batch_size=2), "fp32")


@pytest.fixture
def compiler(monkeypatch):
    """Networks that were compiled; a step takes 1 s, then 100 s once, then half a second."""
    compiled, clock = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    class Fast(nn.Module):
        def __init__(self, segmenter):
            super().__init__()
            self.inner, self.steps = [segmenter], 0
            compiled.append(self)

        def forward(self, images):
            self.steps += 1
            # The network below takes its second, too.
            clock.now += 99 if self.steps == 1 else -0.5
            return self.inner[0](images)

    def forward(self, images, real=Line.forward):
        clock.now += 1
        return real(self, images)

    monkeypatch.setattr(Line, "forward", forward)
    monkeypatch.setattr(engine, "_compiled", Fast)
    return compiled


def test_it_is_asked_once_whether_to_compile_and_what_it_took_is_kept_apart(compiler):
    asked = []

    def pays(step, left):
        asked.append((step, left))
        return True

    protocol = Protocol(steps=20, batch_size=2)
    done = train(Line(), Nothing(), crops(), protocol, "fp32", pays=pays)
    ((step, left),) = asked
    assert step == 1 and left == 12
    (network,) = compiler
    assert network.steps == 12 and done.state.compiled_after == ASKED_AFTER == 8
    # Three steps to settle at each start, the first of which compiles.
    found = done.state
    assert found.settled_steps == 5 and found.compiled_steps == 9
    assert found.compile_seconds == 99 and found.gain == 2 and found.pace == 1
    assert done.state.seconds == 8 + (1 + 0.5 + 0.5) + 9 * 0.5 and done.images_per_second == 2
    plain = train(Line(), Nothing(), crops(), protocol, "fp32")
    assert plain.state.curve == done.state.curve and plain.state.gain is None


@pytest.mark.parametrize("stopped_at", [5, 12])
def test_a_training_that_goes_on_is_compiled_as_it_was(stopped_at, compiler, tmp_path):
    protocol = Protocol(steps=20, batch_size=2)
    answers = iter([True])
    saving, watch = Saving(tmp_path / "checkpoint"), StopSignal()
    asks = {"saving": saving, "watch": watch, "pays": lambda *_: next(answers)}

    def stop(step, *_):
        watch.signal = "SIGINT" if step == stopped_at else ""

    with pytest.raises(Interrupted):
        train(Line(), Nothing(), crops(), protocol, "fp32", stop, **asks)
    saved = checkpoint.load(saving.path, {})
    assert saved.progress.compiled_after == (8 if stopped_at > 8 else 0)
    rest = itertools.islice(crops(), stopped_at, None)
    done = train(
        Line(), Nothing(), rest, protocol, "fp32", saved=saved, pays=lambda *_: next(answers)
    )
    assert len(compiler) == (2 if stopped_at > 8 else 1)
    assert compiler[-1].steps == 20 - max(8, stopped_at)
    assert done.state.compiled_after == 8
    assert done.state.curve == train(Line(), Nothing(), crops(), protocol, "fp32").state.curve


def test_streams_are_independent_and_leave_the_global_generator_alone():
    assert derive(0, "a") == derive(0, "a") != derive(0, "b") != derive(1, "b")
    assert stream(0, "a").random() == stream(0, "a").random()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with torch_stream(0, "a"):
        first = torch.rand(3)
    assert torch.equal(torch.rand(1), expected)
    with torch_stream(0, "a"):
        assert torch.equal(torch.rand(3), first)
