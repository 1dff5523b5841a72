"""peft's tuners as methods against their formulas, written out again here in float64."""

import pytest
import torch
import torch.nn.functional as F

from benchmark.contract.models import CLASSES, tiny
from methods import METHODS
from tests.parity.by_hand import doubled


@pytest.mark.parametrize("name", ["blocks.1.attn.qkv", "blocks.4.mlp.fc2"])
@pytest.mark.parametrize(("method", "scale"), [("peft:lora", 3.0), ("peft:rslora", 6 / 2**0.5)])
def test_low_rank_update(method: str, scale: float, name: str) -> None:
    layer = doubled("vit", method, r=2, lora_alpha=6).model.get_submodule(name)
    plain = tiny("vit").double().model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(4, plain.in_features, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ (plain.weight + scale * b @ a).T + plain.bias)


def test_weight_decomposed_update_of_a_linear_layer() -> None:
    name = "blocks.2.mlp.fc1"
    layer = doubled("vit", "peft:dora", r=2, lora_alpha=6).model.get_submodule(name)
    plain = tiny("vit").double().model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    direction = plain.weight + 3.0 * b @ a
    length = direction.pow(2).sum(1, keepdim=True).sqrt()
    x = torch.randn(4, plain.in_features, dtype=torch.float64)
    expected = x @ (magnitude[:, None] * direction / length).T + plain.bias
    torch.testing.assert_close(layer(x), expected)


def test_weight_decomposed_update_of_a_convolution() -> None:
    name = "layer2.0.conv1"
    layer = doubled("resnet", "peft:dora", r=2, lora_alpha=6).model.get_submodule(name)
    plain = tiny("resnet").double().model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    direction = plain.weight + 3.0 * torch.einsum("orxy,rikl->oikl", b, a)
    length = direction.pow(2).sum((1, 2, 3), keepdim=True).sqrt()
    weight = magnitude.reshape(-1, 1, 1, 1) * direction / length
    x = torch.randn(2, plain.in_channels, 7, 9, dtype=torch.float64)
    expected = F.conv2d(x, weight, stride=plain.stride, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_rescaled_activations() -> None:
    backbone = doubled("vit", "peft:ia3").model
    plain = tiny("vit").double().model
    # The hidden layer of the MLP is scaled where it enters fc2, all else where it leaves.
    for name in ("blocks.0.attn.qkv", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"):
        layer, frozen = backbone.get_submodule(name), plain.get_submodule(name)
        scale = layer.ia3_l["default"].flatten()
        x = torch.randn(4, frozen.in_features, dtype=torch.float64)
        if name.endswith("fc2"):
            expected = (x * scale) @ frozen.weight.T + frozen.bias
        else:
            expected = (x @ frozen.weight.T + frozen.bias) * scale
        torch.testing.assert_close(layer(x), expected)


def test_orthogonality_loss() -> None:
    method = METHODS["peft:adalora"](orth_reg_weight=0.3)
    backbone = tiny("vit").double()
    method.apply(backbone, CLASSES)
    terms = []
    for name, p in backbone.named_parameters():
        if ".lora_A." in name:
            terms.append((p @ p.T - torch.eye(6)).pow(2).sum().sqrt())
        elif ".lora_B." in name:
            terms.append((p.T @ p - torch.eye(6)).pow(2).sum().sqrt())
    assert len(terms) == 2 * 4 * 5
    found = method.auxiliary_loss(backbone, torch.zeros(1, 2, 2, dtype=torch.long))
    torch.testing.assert_close(found.double(), 0.3 * torch.stack(terms).double().mean())
