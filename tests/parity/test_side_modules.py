"""Bypasses, Mona, Rein, ladder and side network against their formulas, in float64."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.contract.models import CLASSES, batch, tiny
from benchmark.models.backbone import StagedBackbone
from benchmark.models.weights import create_timm_model
from methods import METHODS, Unsupported
from tests.parity.by_hand import as_maps, doubled, tokens_of
from tests.parity.test_counts import trained

SIZE = (64, 96)


def images_after_other_images(backbone: StagedBackbone) -> Tensor:
    """A batch, after a pass over images of another size: nothing of it may stay behind."""
    backbone(batch((96, 32), seed=1)[0].double())
    return batch(SIZE)[0].double()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias


def conv(layer: nn.Conv2d, x: Tensor, stride: int = 1) -> Tensor:
    groups = 1 if layer.weight.shape[1] == x.shape[1] else x.shape[1]
    padding = layer.weight.shape[-1] // 2
    return F.conv2d(x, layer.weight, layer.bias, stride, padding, groups=groups)


def normed(layer: nn.Module, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A norm over axes of a map (N, C, H, W), with an affine per channel."""
    centred = x - x.mean(axes, keepdim=True)
    unit = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
    return unit * layer.weight[:, None, None] + layer.bias[:, None, None]


def as_tokens(x: Tensor, prefix: Tensor) -> Tensor:
    return torch.cat([prefix, x.flatten(2).transpose(1, 2)], dim=1)


def bypass(own: nn.Module, h: Tensor, scale: float) -> Tensor:
    """Convpass on tokens of a ViT or on (N, H, W, C) of a Swin."""
    z = gelu(linear(own.down, h))
    if h.ndim == 4:
        inner = conv(own.conv, z.movedim(-1, 1)).movedim(1, -1)
    else:
        alone = z[:, 0] @ own.conv.weight[:, :, 1, 1].T + own.conv.bias
        grid = as_maps(z, SIZE[0] // 16, SIZE[1] // 16)
        inner = as_tokens(conv(own.conv, grid), alone[:, None])
    return scale * linear(own.up, gelu(inner))


def mona(own: nn.Module, x: Tensor) -> Tensor:
    """What Mona adds to a map (N, C, H, W)."""
    scales = (own.normed_scale[:, None, None], own.input_scale[:, None, None])
    mixed = scales[0] * normed(own.norm, x, (1,)) + scales[1] * x
    z = torch.einsum("nchw,rc->nrhw", mixed, own.down.weight) + own.down.bias[:, None, None]
    a, b, c = own.depthwise
    assert [layer.weight.shape[-1] for layer in (a, b, c)] == [3, 5, 7]
    z = z + (conv(a, z) + conv(b, z) + conv(c, z)) / 3
    z = gelu(z + conv(own.pointwise, z))
    return torch.einsum("nrhw,cr->nchw", z, own.up.weight) + own.up.bias[:, None, None]


def test_convpass_in_a_vit() -> None:
    backbone = doubled("vit", "convpass", bottleneck=3, scale=0.7)
    images = images_after_other_images(backbone)
    plain = tiny("vit").double()
    x = tokens_of(plain, images)
    for i, block in enumerate(plain.model.blocks):
        h = block.norm1(x)
        x = x + block.attn(h)
        x = x + bypass(backbone.inserted[f"bypass_blocks_{i}_attention"], h, 0.7)
        h = block.norm2(x)
        x = x + block.mlp(h) + bypass(backbone.inserted[f"bypass_blocks_{i}_mlp"], h, 0.7)
    torch.testing.assert_close(backbone(images)[-1], as_maps(x, 4, 6))


def test_convpass_in_a_swin() -> None:
    backbone = doubled("swin", "convpass", bottleneck=3, scale=0.7)
    images = images_after_other_images(backbone)
    plain = tiny("swin").double().model
    x = plain.patch_embed(images)
    for i, block in enumerate(plain.layers[0].blocks):
        name = f"bypass_layers_0_blocks_{i}"
        h = block.norm1(x)
        x = x + block._attn(h) + bypass(backbone.inserted[f"{name}_attention"], h, 0.7)
        h = block.norm2(x)
        x = x + block.mlp(h) + bypass(backbone.inserted[f"{name}_mlp"], h, 0.7)
    torch.testing.assert_close(backbone(images)[0], x.movedim(-1, 1))


def test_convpass_starts_with_the_convolution_as_the_identity() -> None:
    backbone = tiny("vit")
    METHODS["convpass"](bottleneck=3).apply(backbone, CLASSES)
    own = backbone.inserted["bypass_blocks_0_mlp"]
    z = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(own.conv(z), z)
    assert own.down.weight.abs().min() > 0
    assert not own.up.weight.any()


def test_mona_in_a_vit_leaves_the_class_token_alone() -> None:
    backbone = doubled("vit", "mona", bottleneck=3)
    images = images_after_other_images(backbone)
    plain = tiny("vit").double()
    x = tokens_of(plain, images)
    for i, block in enumerate(plain.model.blocks):
        x = x + block.attn(block.norm1(x))
        changed = as_maps(x, 4, 6)
        changed = changed + mona(backbone.inserted[f"mona_blocks_{i}_attention"], changed)
        x = as_tokens(changed, x[:, :1])
        x = x + block.mlp(block.norm2(x))
        changed = as_maps(x, 4, 6)
        changed = changed + mona(backbone.inserted[f"mona_blocks_{i}"], changed)
        x = as_tokens(changed, x[:, :1])
    torch.testing.assert_close(backbone(images)[-1], as_maps(x, 4, 6))


def test_mona_in_a_swin() -> None:
    backbone = doubled("swin", "mona", bottleneck=3)
    images = images_after_other_images(backbone)
    plain = tiny("swin").double().model
    x = plain.patch_embed(images).movedim(-1, 1)
    for i, block in enumerate(plain.layers[0].blocks):
        name = f"mona_layers_0_blocks_{i}"
        h = x.movedim(1, -1)
        x = (h + block._attn(block.norm1(h))).movedim(-1, 1)
        x = x + mona(backbone.inserted[f"{name}_attention"], x)
        h = x.movedim(1, -1)
        x = (h + block.mlp(block.norm2(h))).movedim(-1, 1)
        x = x + mona(backbone.inserted[name], x)
    torch.testing.assert_close(backbone(images)[0], x)


def test_mona_behind_a_residual_block() -> None:
    backbone = doubled("bottleneck", "mona", bottleneck=3)
    plain = tiny("bottleneck").double().model.get_submodule("layer2.0")
    x = torch.randn(2, backbone.channels[0], 6, 8, dtype=torch.float64)
    y = plain(x)
    expected = y + mona(backbone.inserted["mona_layer2_0"], y)
    torch.testing.assert_close(backbone.model.get_submodule("layer2.0")(x), expected)


def rein(own: nn.Module, block: int, f: Tensor) -> Tensor:
    """Rein on features (N, L, C)."""
    tokens = own.a[block] @ own.b[block]
    scores = torch.einsum("nlc,mc->nlm", f, tokens) / math.sqrt(f.shape[-1])
    shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
    delta = torch.einsum("nlm,mc->nlc", shares[..., 1:], linear(own.to_feature, tokens)[1:])
    return f + own.scale * linear(own.to_delta, delta + f)


def test_rein_in_a_vit() -> None:
    backbone = doubled("vit", "rein", tokens=5, rank=2)
    images = images_after_other_images(backbone)
    plain = tiny("vit").double()
    x = tokens_of(plain, images)
    for i, block in enumerate(plain.model.blocks):
        x = block(x)
        x = torch.cat([x[:, :1], rein(backbone.inserted["reins_24"], i, x[:, 1:])], dim=1)
    torch.testing.assert_close(backbone(images)[-1], as_maps(x, 4, 6))


def test_rein_behind_the_second_of_two_convnext_blocks() -> None:
    backbone = doubled("convnext", "rein", tokens=5, rank=2)
    name = "stages.2.blocks.1"
    width = backbone.width(name)
    x = torch.randn(2, width, 5, 7, dtype=torch.float64)
    y = tiny("convnext").double().model.get_submodule(name)(x)
    refined = rein(backbone.inserted[f"reins_{width}"], 1, y.flatten(2).transpose(1, 2))
    expected = refined.transpose(1, 2).unflatten(2, (5, 7))
    torch.testing.assert_close(backbone.model.get_submodule(name)(x), expected)


def test_rein_starts_as_published() -> None:
    backbone = tiny("vit")
    METHODS["rein"]().apply(backbone, CLASSES)
    own = backbone.inserted["reins_24"]
    bound = math.sqrt(6 / (3 * 16 * 16 + math.sqrt(24 * 16)))
    assert 0.98 * bound < own.a.abs().max() <= bound
    assert 0.98 * bound < own.b.abs().max() <= bound
    assert own.scale.item() == pytest.approx(0.001)


def rung(own: nn.Module, h: Tensor, s: Tensor | None) -> Tensor:
    z = conv(own.down, h)
    if s is not None:
        if s.shape[-1] == 2 * z.shape[-1]:
            parts = (s[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
            s = sum(parts) / 4
        if s.shape[1] != z.shape[1]:
            s = conv(own.carry, s)
        g = 1 / (1 + torch.exp(-own.gate / 0.1))
        z = g * s + (1 - g) * z
    inner = conv(own.spatial, conv(own.enter, normed(own.norm, z, (1,))))
    return z + conv(own.leave, gelu(inner))


@pytest.mark.parametrize("family", ["vit", "swin", "mobilenet"])
def test_ladder(family: str) -> None:
    backbone = doubled(family, "lst", reduction=2)
    images = images_after_other_images(backbone)
    plain = tiny(family).double()
    outputs: dict[str, Tensor] = {}
    for blocks in plain.stage_blocks():
        for name in blocks:
            plain.after(name, lambda _, y, name=name: outputs.update({name: y.clone()}) or y)
    frozen = plain(images)
    s = None
    for stage, feature in enumerate(backbone(images)):
        for name in plain.stage_blocks()[stage]:
            h = outputs[name]
            if h.ndim == 3:
                h = as_maps(h, 4, 6)
            elif family == "swin":
                h = h.movedim(-1, 1)
            s = rung(backbone.inserted[f"rung_{name}".replace(".", "_")], h, s)
        expected = frozen[stage] + conv(backbone.inserted[f"up_{stage + 1}"], s)
        torch.testing.assert_close(feature, expected)


def test_no_gradient_of_the_ladder_enters_the_backbone() -> None:
    gradients = []
    for backbone in (tiny("vit").double(), doubled("vit", "lst")):
        # A gradient through the ladder would come on top of the one through the features.
        images = batch(SIZE)[0].double().requires_grad_()
        sum(feature.sum() for feature in backbone(images)).backward()
        gradients.append(images.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_side_network(family: str) -> None:
    backbone = doubled(family, "side", width=5)
    images = images_after_other_images(backbone)
    layers = ((2, 2, 2, 2), (1,), (1,), (1,)) if family == "vit" else ((2, 2), (2,), (2,), (2,))
    x = images
    features = zip(backbone(images), tiny(family).double()(images), strict=True)
    for i, (found, frozen) in enumerate(features):
        level = backbone.inserted[f"level_{i + 1}"]
        for j, stride in enumerate(layers[i]):
            x = conv(level.layers[3 * j], x, stride)
            x = gelu(normed(level.layers[3 * j + 1], x, (1, 2, 3)))
        a = 1 / (1 + torch.exp(-level.alpha))
        torch.testing.assert_close(found, a * frozen + (1 - a) * conv(level.out, x))


def test_side_network_starts_with_half_of_the_frozen_features() -> None:
    backbone = tiny("vit")
    METHODS["side"](width=5).apply(backbone, CLASSES)
    for level in backbone.inserted.values():
        nn.init.zeros_(level.out.weight)
        nn.init.zeros_(level.out.bias)
    images = batch()[0]
    for found, frozen in zip(backbone(images), tiny("vit")(images), strict=True):
        torch.testing.assert_close(found, frozen / 2)


@pytest.mark.parametrize("patch", [12, 14])
def test_side_network_of_a_patch_that_is_no_power_of_two(patch: int) -> None:
    small = {"patch_size": patch, "depth": 4, "embed_dim": 24, "num_heads": 2}
    backbone = StagedBackbone(create_timm_model("vit_tiny_patch16_224", small))
    METHODS["side"](width=5).apply(backbone, CLASSES)
    features = backbone(torch.randn(2, 3, 3 * patch, 4 * patch))
    assert [tuple(feature.shape) for feature in features] == [(2, 24, 3, 4)] * 4


def test_refusals() -> None:
    uneven = SimpleNamespace(strides=(4, 6, 12, 24), channels=(8,) * 4, in_chans=3)
    with pytest.raises(Unsupported, match="divide"):
        METHODS["side"]().count(uneven, CLASSES)
    bare = SimpleNamespace(stage_blocks=lambda: (("a",), (), ("b",), ("c",)), channels=(8,) * 4)
    with pytest.raises(Unsupported, match="each of the four stages"):
        METHODS["lst"]().count(bare, CLASSES)
    with pytest.raises(Unsupported, match="ResNet"):
        METHODS["convpass"]().apply(tiny("resnet"), CLASSES)


def test_parameters_in_vit_base() -> None:
    d = 768
    vit = "vit_base_patch16_224"
    assert trained(vit, "convpass") == 24 * (d * 8 + 8 + 8 * 8 * 9 + 8 + 8 * d + d) == 327_552
    depthwise = 64 * (3 * 3 + 5 * 5 + 7 * 7) + 3 * 64
    layer = 4 * d + (d * 64 + 64) + depthwise + (64 * 64 + 64) + (64 * d + d)
    assert trained(vit, "mona") == 24 * layer == 2_684_928
    shared = 2 * (d * d + d) + 1
    assert trained(vit, "rein") == 12 * (100 * 16 + 16 * d) + shared == 1_347_841
    side = (96 + 96) + 2 * (96 * 96 + 96) + (96 * 9 + 96)
    ladder = 12 * (d * 96 + 96 + side) + 11 + 4 * (96 * d + d)
    assert trained(vit, "lst") == ladder == 1_421_195
    layers = (27 * 32 + 64) + 6 * (9 * 32 * 32 + 64)
    assert trained(vit, "side") == layers + 4 * (32 * d + d + 1) == 157_988


def test_rein_has_the_published_number_of_parameters() -> None:
    # The paper's 2.99 M for a ViT-L with the link from tokens to queries, left out here: a linear
    # layer 1024 -> 256 and one 3 * 256 -> 256.
    link = (1024 * 256 + 256) + (3 * 256 * 256 + 256)
    assert round((trained("vit_large_patch16_224", "rein") + link) / 1e6, 2) == 2.99
