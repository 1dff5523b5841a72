"""Every decoder on every kind of backbone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract.models import CLASSES, batch, tiny
from benchmark.core.errors import UserError
from benchmark.engine.losses import segmentation_loss
from benchmark.models.backbone import StagedBackbone
from benchmark.models.decoders import DECODERS
from benchmark.models.delta import count_parameters, delta, load_delta, snapshot
from benchmark.models.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = ("vit", "swin", "convnext", "resnet")
SMP = ("fpn", "upernet", "segformer")

each_decoder = pytest.mark.parametrize("name", list(DECODERS))
each_family = pytest.mark.parametrize("family", FAMILIES)


def build(name: str, backbone: StagedBackbone, seed: int = 1) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DECODERS[name](backbone.channels, backbone.strides, CLASSES)


def segmenter(name: str, family: str, seed: int = 1) -> Segmenter:
    backbone = tiny(family)
    return Segmenter(backbone, build(name, backbone, seed))


def stride_of(name: str, backbone: StagedBackbone) -> int:
    """Pixels of the image per logit, as the docstrings say."""
    if name == "setr-pup":
        return 2
    plain = len(set(backbone.strides)) == 1
    return backbone.strides[0] // (4 if plain and name in SMP else 1)


def maps(strides: tuple[int, ...], size: tuple[int, int], channels: int = 8) -> list[Tensor]:
    """Random features of an image of the given size; sides are rounded up."""
    return [torch.randn(1, channels, *(-(-side // stride) for side in size)) for stride in strides]


@each_decoder
@each_family
def test_logits_have_the_documented_size_and_everything_learns(name: str, family: str) -> None:
    model = segmenter(name, family).train()
    images, labels = batch((64, 96))
    logits = model(images)
    stride = stride_of(name, model.backbone)
    assert logits.shape == (2, CLASSES, 64 // stride, 96 // stride)
    segmentation_loss(logits, labels).backward()
    for parameter_name, parameter in model.decoder.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and torch.isfinite(gradient).all(), parameter_name
        # A shift of what goes into a BatchNorm has no effect, hence no gradient in exact numbers.
        assert parameter.ndim == 1 or gradient.abs().sum() > 0, parameter_name


@each_decoder
@pytest.mark.parametrize("size", [(96, 160), (80, 112), (32, 48)])
def test_plain_levels_of_any_size(name: str, size: tuple[int, int]) -> None:
    strides, channels = (16,) * 4, (8,) * 4
    features = maps(strides, size)
    h, w = features[-1].shape[-2:]
    factor = {"linear": 1, "setr-pup": 8}.get(name, 4)
    with torch.no_grad():
        logits = DECODERS[name](channels, strides, 3).eval()(features)
    assert logits.shape == (1, 3, factor * h, factor * w)


@each_decoder
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (4, 8, 16, 16), (2, 4, 8, 16)])
@pytest.mark.parametrize("size", [(64, 96), (68, 92)])
def test_levels_of_any_size(name: str, strides: tuple[int, ...], size: tuple[int, int]) -> None:
    features = maps(strides, size)
    finest = features[0].shape[-2:]
    last = features[-1].shape[-2:]
    n = {16: 4, 32: 5}[strides[-1]]
    expected = [2 ** (n - 1) * side for side in last] if name == "setr-pup" else list(finest)
    with torch.no_grad():
        logits = DECODERS[name]((8,) * 4, strides, 3).eval()(features)
    assert list(logits.shape) == [1, 3, *expected]


@each_decoder
@pytest.mark.parametrize("family", ["vit", "swin"])
def test_same_seed_same_weights(name: str, family: str) -> None:
    backbone = tiny(family)
    first, same, other = (build(name, backbone, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@each_decoder
@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_delta_restores_parameters_and_statistics(name: str, family: str) -> None:
    backbone = tiny(family)
    pristine = snapshot(backbone)
    model = Segmenter(backbone, build(name, backbone)).train()
    images, labels = batch((64, 32))
    optimiser = torch.optim.AdamW(model.decoder.parameters(), 1e-2)
    segmentation_loss(model(images), labels).backward()
    optimiser.step()
    stored = delta(model.eval(), pristine)
    assert set(stored) == {f"decoder.{key}" for key in model.decoder.state_dict()}
    normalised = any(isinstance(m, nn.BatchNorm2d) for m in model.decoder.modules())
    assert normalised == any("running_var" in key for key in stored)

    fresh = segmenter(name, family, seed=7).eval()
    load_delta(fresh, stored)
    images, _ = batch((32, 64), n=1, seed=1)
    with torch.no_grad():
        assert torch.equal(fresh(images), model(images))


@each_decoder
@pytest.mark.parametrize("family", ["vit", "swin"])
def test_parameters_are_counted_apart(name: str, family: str) -> None:
    backbone = tiny(family)
    pristine = snapshot(backbone)
    model = Segmenter(backbone, build(name, backbone))
    found = count_parameters(model, pristine)
    assert found.decoder == sum(p.numel() for p in model.decoder.parameters())
    assert found.total_trainable == found.decoder
    assert found.backbone == sum(p.numel() for p in backbone.parameters())


@each_decoder
def test_trains_in_bf16_and_on_one_batch_the_loss_falls(name: str) -> None:
    model = segmenter(name, "vit").train()
    images, labels = batch((32, 64))
    optimiser = torch.optim.AdamW(model.decoder.parameters(), 1e-3)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(12):
            # One step only: bf16 is slow where the hardware lacks it.
            with torch.autocast("cpu", torch.bfloat16, enabled=step == 0):
                logits = model(images)
            loss = segmentation_loss(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


def test_a_batch_without_variance_is_refused_in_one_line() -> None:
    strides, channels = (4, 8, 16, 32), (8,) * 4
    features = maps(strides, (32, 32))
    for name in ("upernet", "setr-pup"):
        decoder = DECODERS[name](channels, strides, 3)
        with pytest.raises(UserError, match="batch_size=2"):
            decoder(features)
        decoder.eval()(features)


@pytest.mark.slow
def test_names_are_listed_without_the_library() -> None:
    code = (
        "import sys; from benchmark.models.decoders import DECODERS; "
        "DECODERS['linear']((8,) * 4, (16,) * 4, 3); "
        "sys.exit('segmentation_models_pytorch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
