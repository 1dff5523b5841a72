import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import IGNORE
from benchmark.data.batches import Batch
from benchmark.engine import (
    NAMED_IMAGES,
    learning_rate_factor,
    resolve_precision,
    segmentation_loss,
    train,
)
from benchmark.interrupt import Diverged
from benchmark.seeding import derive, stream, torch_stream
from benchmark.spec import Protocol


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


def test_precision_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) == "bf16"
    for flags, expected in (({"avx2": True}, "fp32"), ({"avx512_bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=flags: f, raising=False)
        assert resolve_precision("auto", cpu) == expected


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


def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_followed():
    ids = tuple(f"i{number}" for number in range(NAMED_IMAGES + 6))
    images = torch.rand(len(ids), 3, 4, 4)
    batch = Batch(images, torch.zeros(len(ids), 4, 4, dtype=torch.long), ids)
    cliff = Cliff()
    with pytest.raises(Diverged) as told:
        train(cliff, Nothing(), iter([batch]), Protocol(steps=1, batch_size=len(ids)), "fp32")
    message = str(told.value)
    assert "the norm of the gradient is" in message and "at step 1, on i0, i1" in message
    assert f"i{NAMED_IMAGES - 1} and 6 more; lower" in message and "\n" not in message
    assert cliff.decoder.weight.item() == 0


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
