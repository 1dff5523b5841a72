"""The folded low-rank layer, against the formula taken apart and against peft's layer."""

import pytest
import torch
from torch.nn import functional as F

from methods.frozen import frozen_linear
from methods.lowrank import low_rank_linear


def tensors(shape=(2, 5), inside=6, out=4, rank=2, dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    make = lambda *size: torch.randn(*size, generator=random, dtype=dtype)  # noqa: E731
    x, down, up = make(*shape, inside), make(rank, inside), make(out, rank)
    return [t.requires_grad_() for t in (x, down, up)], make(out, inside), make(out)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_the_formula(shape, biased):
    (x, down, up), weight, bias = tensors(shape)
    bias = bias if biased else None
    ours = low_rank_linear(x, weight, bias, down, up, 1.5)
    grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype)
    mine = torch.autograd.grad(ours, (x, down, up), grad)
    apart = F.linear(x, weight, bias) + 1.5 * F.linear(F.linear(x, down), up)
    theirs = torch.autograd.grad(apart, (x, down, up), grad)
    torch.testing.assert_close(ours, apart, rtol=1e-12, atol=1e-12)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_differences():
    leaves, weight, bias = tensors()
    assert torch.autograd.gradcheck(
        lambda x, down, up: low_rank_linear(x, weight, bias, down, up, 0.5), leaves
    )


def test_images_that_need_no_gradient_get_none():
    (x, down, up), weight, bias = tensors()
    x = x.detach()
    low_rank_linear(x, weight, bias, down, up, 1.0).sum().backward()
    assert x.grad is None and down.grad is not None and up.grad is not None


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def error(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def test_under_autocast_it_is_as_close_to_the_formula_as_autocast_is():
    (x, down, up), weight, bias = tensors((8, 60), 48, 96, 4, torch.float32)
    leaves, scale = (x, down, up), 1.5
    grad = torch.randn(8, 60, 96, generator=torch.Generator().manual_seed(1))
    apart = lambda x, weight, bias, down, up: (  # noqa: E731
        F.linear(x, weight, bias) + scale * F.linear(F.linear(x, down), up)
    )
    with bf16():
        ours = low_rank_linear(x, weight, bias, down, up, scale)
        theirs = apart(x, weight, bias, down, up)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    exact = apart(doubles[0], weight.double(), bias.double(), *doubles[1:])
    assert ours.dtype == theirs.dtype == torch.bfloat16
    mine = ours, *torch.autograd.grad(ours, leaves, grad.bfloat16())
    usual = theirs, *torch.autograd.grad(theirs, leaves, grad.bfloat16())
    wanted = exact, *torch.autograd.grad(exact, doubles, grad.bfloat16().double())
    for one, other, true in zip(mine, usual, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert error(one.detach(), true.detach()) < 1.5 * error(other.detach(), true.detach())


def test_an_update_below_the_rounding_of_the_weights_acts_all_the_same():
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 256, generator=random)
    x, down, up = torch.ones(1, 256), torch.ones(1, 256), torch.ones(512, 1)
    scale = 2.0**-11  # a sixteenth of the distance of neighbours in bf16 that are about 1
    with bf16():
        moved = low_rank_linear(x, weight, None, down, up, scale).double()
        before = low_rank_linear(x, weight, None, down, up, 0.0).double()
    assert float((moved - before).mean()) == pytest.approx(256 * scale, rel=0.1)


@pytest.mark.parametrize("inside", [True, False])
def test_the_way_back_does_not_depend_on_autocast(inside):
    (x, down, up), weight, bias = tensors(dtype=torch.float32)
    with bf16():
        y = low_rank_linear(x, weight, bias, down, up, 1.5)
    expected = torch.autograd.grad(y, (x, down, up), torch.ones_like(y), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=inside):
        found = torch.autograd.grad(y, (x, down, up), torch.ones_like(y))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tuned_backbone_is_that_of_peft_to_rounding(precision):
    import timm

    from benchmark.models.backbone import StagedBackbone
    from benchmark.planning.catalogue import build_method

    found = {}
    for name in ("lora", "peft:lora"):
        torch.manual_seed(0)
        kwargs = {"embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 0}
        model = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **kwargs)
        backbone = StagedBackbone(model)
        params = {"rank": 4, "alpha": 8} if name == "lora" else {"r": 4, "lora_alpha": 8}
        build_method(name, params).apply(backbone, 3)
        random = torch.Generator().manual_seed(1)
        trained = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in trained.values():
                parameter.normal_(0, 0.1, generator=random)
        images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(2))
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with autocast:
            features = backbone(images)
        sum(f.float().square().mean() for f in features).backward()
        with torch.no_grad(), autocast:
            untrained = backbone(images)
        for one, other in zip(features, untrained, strict=True):
            assert error(one.detach(), other.double()) < (1e-4 if precision == "fp32" else 0.02)
        found[name] = [*features, *(trained[n].grad for n in sorted(trained))]
    for ours, theirs in zip(*found.values(), strict=True):
        if precision == "fp32":
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        else:
            assert error(ours.detach(), theirs.detach().double()) < 0.05


@pytest.mark.parametrize("shape", [(5, 12), (2, 7, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_layer_is_the_layer(shape, dtype):
    torch.manual_seed(0)
    weight, bias = torch.randn(6, 12, dtype=dtype), torch.randn(6, dtype=dtype)
    x, grad = torch.randn(*shape, dtype=dtype), torch.randn(*shape[:-1], 6, dtype=dtype)
    sides = []
    for layer in (frozen_linear, F.linear):
        own = x.clone().requires_grad_()
        y = layer(own, weight, bias)
        y.backward(grad)
        sides.append((y.detach(), own.grad, layer(x, weight, bias), layer(x, weight, None)))
    for ours, torchs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=0.02, atol=0.05)
