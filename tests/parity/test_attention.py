"""Fused and explicit attention, side by side: equal to rounding, and put back at the end."""

import pytest
import torch

from benchmark.contract import models
from benchmark.models.attention import attention_in
from methods import METHODS

FLAGS = {"vit": True, "swin": False, "resnet": None}
"""What timm gives the attention of a family; None = there is none."""


def flags(module):
    return [part.fused_attn for part in module.modules() if hasattr(part, "fused_attn")]


def results(segmenter, method, kind, dtype):
    """Loss, logits and gradients of one step; bf16 by autocast."""
    images, labels = models.batch()
    images = images.to(next(segmenter.parameters()).dtype).requires_grad_()
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    with attention_in(segmenter, kind):
        with bf16:
            logits = segmenter(images)
        loss = torch.nn.functional.cross_entropy(
            torch.nn.functional.interpolate(logits.to(images.dtype), labels.shape[-2:]),
            labels.long(),
            ignore_index=255,
        )
        leaves = [images, *(p for p in segmenter.parameters() if p.requires_grad)]
        grads = torch.autograd.grad(loss, leaves)
    return [loss.detach(), logits.detach(), *grads]


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("name", ["linear", "vpt", "lora"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # In bf16 a value has 8 bits, and the two ways round in different places.
    [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.06)],
)
def test_both_ways_give_the_same(family, name, dtype, tolerance):
    method = METHODS[name]()
    segmenter = models.tiny_segmenter(family, method).train()
    if dtype == torch.float64:
        segmenter.double()
    fused, explicit = (results(segmenter, method, kind, dtype) for kind in ("fused", "explicit"))
    for one, other in zip(fused, explicit, strict=True):
        scale = float(one.abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale + 1e-12)


@pytest.mark.parametrize("kind", ["fused", "explicit"])
def test_the_kernel_is_called_where_it_is_asked_for(monkeypatch, kind):
    calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(args)
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    images, _ = models.batch()
    for family, name in (("vit", "linear"), ("swin", "linear"), ("swin", "vpt")):
        segmenter = models.tiny_segmenter(family, METHODS[name]())
        calls.clear()
        with attention_in(segmenter, kind), torch.no_grad():
            segmenter(images)
        assert len(calls) == (len(flags(segmenter)) if kind == "fused" else 0)


@pytest.mark.parametrize("family", list(FLAGS))
@pytest.mark.parametrize("raises", [False, True])
def test_what_was_chosen_before_comes_back(family, raises):
    segmenter = models.tiny_segmenter(family, METHODS["linear"]())
    before = flags(segmenter)
    assert set(before) == ({FLAGS[family]} if FLAGS[family] is not None else set())
    try:
        with attention_in(segmenter, "explicit"), attention_in(segmenter, "fused"):
            assert all(flags(segmenter))
            if raises:
                raise ValueError
    except ValueError:
        pass
    assert flags(segmenter) == before
