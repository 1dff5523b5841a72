"""Methods against their formulas, written out again here in float64."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.contract.models import CLASSES, Unequal, batch, tiny
from benchmark.models.backbone import StagedBackbone
from methods import METHODS
from tests.parity.by_hand import as_maps, doubled, tokens_of


def test_prompts_drawn_in_the_published_interval() -> None:
    backbone = tiny("vit")
    METHODS["vpt"](tokens=200).apply(backbone, CLASSES)
    bound = math.sqrt(6 / (3 * 16 * 16 + 24))
    drawn = torch.stack(list(backbone.inserted["prompts"].layers))
    assert drawn.abs().max() <= bound
    assert drawn.abs().max() > 0.99 * bound
    assert drawn.mean().abs() < 0.02 * bound * 5


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_prompt_tokens(depth: str) -> None:
    backbone = doubled("vit", "vpt", tokens=3, depth=depth)
    images = batch((48, 80))[0].double()
    features = backbone(images)

    plain = tiny("vit").double()
    prompts = [p.detach() for p in backbone.inserted["prompts"].layers]
    x = tokens_of(plain, images)
    x = torch.cat([x[:, :1], prompts[0].expand(2, 3, 24), x[:, 1:]], dim=1)
    expected = []
    for i, block in enumerate(plain.model.blocks):
        if depth == "deep":
            # The published form: the slots are overwritten before every block.
            x = torch.cat([x[:, :1], prompts[i].expand(2, 3, 24), x[:, 4:]], dim=1)
        x = block(x)
        if i in (0, 1, 3, 4):
            expected.append(as_maps(torch.cat([x[:, :1], x[:, 4:]], dim=1), 3, 5))
    for feature, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, wanted)


def test_adapter_beside_the_mlp_of_a_vit() -> None:
    backbone = doubled("vit", "adapter", bottleneck=3, scale=0.7)
    images = batch((32, 48))[0].double()
    features = backbone(images)

    plain = tiny("vit").double()
    x = tokens_of(plain, images)
    for i, block in enumerate(plain.model.blocks):
        a = backbone.inserted[f"adapter_blocks_{i}_mlp"]
        x = x + block.attn(block.norm1(x))
        h = block.norm2(x)
        hidden = torch.clamp(h @ a.down.weight.T + a.down.bias, min=0)
        x = x + block.mlp(h) + 0.7 * (hidden @ a.up.weight.T + a.up.bias)
    torch.testing.assert_close(features[-1], as_maps(x, 2, 3))


def test_adapter_beside_the_mlp_of_a_convnext_block_is_outside_its_layer_scale() -> None:
    backbone = doubled("convnext", "adapter", bottleneck=3, scale=0.7)
    block = backbone.model.get_submodule("stages.1.blocks.0")
    plain = tiny("convnext").double().model.get_submodule("stages.1.blocks.0")
    a = backbone.inserted["adapter_stages_1_blocks_0_mlp"]
    x = torch.randn(2, 20, 5, 7, dtype=torch.float64)
    h = plain.norm(plain.conv_dw(x).movedim(1, -1))
    hidden = torch.clamp(h @ a.down.weight.T + a.down.bias, min=0)
    update = (hidden @ a.up.weight.T + a.up.bias).movedim(-1, 1)
    torch.testing.assert_close(block(x), plain(x) + 0.7 * update)


@pytest.mark.parametrize(
    ("family", "name", "channels"),
    [("bottleneck", "layer2.0", (32, 40)), ("mobilenet", "blocks.3.1", (24, 24))],
)
def test_adapter_behind_a_block_without_mlp(
    family: str, name: str, channels: tuple[int, int]
) -> None:
    backbone = doubled(family, "adapter", bottleneck=3, scale=0.7)
    a = backbone.inserted[f"adapter_{name.replace('.', '_')}"]
    x = torch.randn(2, channels[0], 6, 8, dtype=torch.float64)
    y = tiny(family).double().model.get_submodule(name)(x)
    hidden = torch.clamp(
        torch.einsum("nchw,rc->nrhw", y, a.down.weight) + a.down.bias[:, None, None],
        min=0,
    )
    update = torch.einsum("nrhw,cr->nchw", hidden, a.up.weight)
    expected = y + 0.7 * (update + a.up.bias[:, None, None])
    torch.testing.assert_close(backbone.model.get_submodule(name)(x), expected)


@pytest.mark.parametrize("name", ["blocks.1.attn.qkv", "blocks.4.mlp.fc1"])
def test_low_rank_update_of_a_linear_layer(name: str) -> None:
    backbone = doubled("vit", "lora", rank=2, alpha=6)
    layer = backbone.model.get_submodule(name)
    plain = tiny("vit").double().model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(4, plain.in_features, dtype=torch.float64)
    expected = x @ (plain.weight + 3.0 * b @ a).T + plain.bias
    torch.testing.assert_close(layer(x), expected)


def test_low_rank_update_of_a_convolution() -> None:
    backbone = doubled("resnet", "lora", rank=2, alpha=6)
    layer = backbone.model.get_submodule("layer2.0.conv1")
    plain = tiny("resnet").double().model.get_submodule("layer2.0.conv1")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    update = torch.einsum("orxy,rikl->oikl", b, a)
    x = torch.randn(2, plain.in_channels, 7, 9, dtype=torch.float64)
    expected = F.conv2d(x, plain.weight + 3.0 * update, stride=plain.stride, padding=1)
    torch.testing.assert_close(layer(x), expected)


def by_hand(
    matcher: torch.nn.Module, x: Tensor, m: Tensor, rounds: int, uniform: bool
) -> tuple[Tensor, Tensor]:
    """The matcher's equations, each 1x1 convolution as a matrix product."""

    def conv(layer: torch.nn.Conv2d, value: Tensor) -> Tensor:
        matrix = layer.weight[:, :, 0, 0]
        return torch.einsum("nchw,kc->nkhw", value, matrix) + layer.bias[:, None, None]

    def gelu(value: Tensor) -> Tensor:
        return value * 0.5 * (1 + torch.erf(value / math.sqrt(2)))

    for _ in range(rounds):
        h = gelu(conv(matcher.squeeze, x))
        share = m.exp() / m.exp().sum(1, keepdim=True)
        g = conv(matcher.guide, torch.ones_like(m) / CLASSES if uniform else share)
        joined = torch.cat([h, g], dim=1)
        padded = F.pad(joined, (1, 1, 1, 1))
        height, width = joined.shape[-2:]
        spatial = matcher.spatial.bias[:, None, None] + sum(
            padded[:, :, i : i + height, j : j + width]
            * matcher.spatial.weight[:, 0, i, j][:, None, None]
            for i in range(3)
            for j in range(3)
        )
        x = x + conv(matcher.expand, gelu(conv(matcher.mix, gelu(spatial))))
        m = m + conv(matcher.interim, h)
    return x, m


def stages_of(family: str, backbone: StagedBackbone) -> list[Callable[[Tensor], Tensor]]:
    """The embedding and the first three stages of a ViT or a Swin, from map to map."""
    model = backbone.model
    if family == "swin":
        layers = [model.patch_embed, *model.layers[:3]]
        first, *others = [lambda x, f=layer: f(x).movedim(-1, 1) for layer in layers]
        return [first, *(lambda x, f=other: f(x.movedim(1, -1)) for other in others)]
    prefix: list[Tensor] = []

    def embed(images: Tensor) -> Tensor:
        tokens = tokens_of(backbone, images)
        prefix.append(tokens[:, :1])
        return as_maps(tokens, 4, 6)

    def stage(x: Tensor, blocks: torch.nn.Module) -> Tensor:
        tokens = blocks(torch.cat([prefix.pop(), x.flatten(2).movedim(1, -1)], dim=1))
        prefix.append(tokens[:, :1])
        return as_maps(tokens, 4, 6)

    parts = (model.blocks[:1], model.blocks[1:2], model.blocks[2:4])
    return [embed, *(partial(stage, blocks=part) for part in parts)]


@pytest.mark.parametrize("fields", [{}, {"guidance": "none"}, {"carry": "off"}], ids=str)
@pytest.mark.parametrize("family", ["vit", "swin"])
@torch.no_grad()
def test_matchers(family: str, fields: dict[str, str]) -> None:
    method = METHODS["spm"](width=5, recurrence=3, **fields)
    backbone = doubled(family, "spm", width=5, recurrence=3, **fields)
    method.before_training(backbone, Unequal())
    images = batch((64, 96))[0].double()
    features = backbone(images)

    begun = torch.log(torch.arange(1, CLASSES + 1) / 10).double()[None, :, None, None]
    x, m = images, begun
    for place, stage in enumerate(stages_of(family, tiny(family).double())):
        x = stage(x)
        if m.shape[-1] == 1 or "carry" in fields:
            m = begun.expand(2, -1, *x.shape[-2:])
        elif m.shape[-1] != x.shape[-1]:
            m = F.avg_pool2d(m, 2)  # what bilinear resizing to half the size is
        x, m = by_hand(backbone.inserted[f"matcher_{place}"], x, m, 3, "guidance" in fields)
        if place:
            torch.testing.assert_close(features[place - 1], x)


def test_auxiliary_loss_is_the_mean_over_matchers_and_rounds() -> None:
    method = METHODS["spm"](width=5, recurrence=2, aux_weight=0.3)
    backbone = tiny("vit").double()
    method.apply(backbone, CLASSES)
    backbone.double()
    backbone.inserted.train()
    images, labels = batch()
    backbone(images.double())
    losses = []
    for m in backbone.pass_state["maps"]:
        coarse = m.movedim(-1, 1).float()
        up = F.interpolate(coarse, labels.shape[-2:], mode="bilinear").log_softmax(1)
        kept = labels != 255
        losses.append(-up.movedim(1, -1)[kept].gather(1, labels[kept][:, None]).mean())
    assert len(losses) == 8
    expected = 0.3 * sum(losses) / 8
    torch.testing.assert_close(method.auxiliary_loss(backbone, labels), expected)
