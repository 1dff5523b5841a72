"""Scales, factors, adapters and windows against their formulas, written out in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.contract.models import batch, tiny
from tests.parity.by_hand import as_maps, doubled, tokens_of


def bottleneck(a: torch.nn.Module, x: Tensor) -> Tensor:
    hidden = x @ a.down.weight.T + a.down.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ a.up.weight.T + a.up.bias


@pytest.mark.parametrize("form", ["houlsby", "pfeiffer", "adapter-plus"])
def test_adapters_behind_the_parts_of_a_vit(form: str) -> None:
    backbone = doubled("vit", "adapter", form=form, bottleneck=3)
    images = batch((32, 48))[0].double()
    plain = tiny("vit").double()
    x = tokens_of(plain, images)
    for i, block in enumerate(plain.model.blocks):
        attention = block.attn(block.norm1(x))
        if form == "houlsby":
            a = backbone.inserted[f"adapter_blocks_{i}_attention"]
            attention = attention + bottleneck(a, attention)
        x = x + attention
        mlp = block.mlp(block.norm2(x))
        if form == "adapter-plus":
            x = x + mlp
            a = backbone.inserted[f"adapter_blocks_{i}"]
            x = x + a.channel_scale * bottleneck(a, x)
        else:
            x = x + mlp + bottleneck(backbone.inserted[f"adapter_blocks_{i}_mlp"], mlp)
    torch.testing.assert_close(backbone(images)[-1], as_maps(x, 2, 3))


def test_scales_and_shifts_behind_every_layer_of_a_vit() -> None:
    backbone = doubled("vit", "ssf")
    images = batch((32, 48))[0].double()
    plain = tiny("vit").double()
    model = plain.model

    def ssf(name: str, y: Tensor) -> Tensor:
        pair = backbone.inserted[f"ssf_{name}".replace(".", "_")]
        return torch.einsum("...c,c->...c", y, pair.scale) + pair.shift

    patches = F.conv2d(images, model.patch_embed.proj.weight, model.patch_embed.proj.bias, 16)
    patches = ssf("patch_embed.proj", patches.movedim(1, -1)).movedim(-1, 1)
    # The position embedding is interpolated for this size: taken as what timm adds.
    raw = model.patch_embed(images)
    position = model._pos_embed(raw)[:, 1:] - raw.flatten(1, 2) if raw.ndim == 4 else None
    assert position is not None
    cls = model._pos_embed(raw)[:, :1]
    x = torch.cat([cls, patches.flatten(2).transpose(1, 2) + position], dim=1)
    for i, block in enumerate(model.blocks):
        name = f"blocks.{i}"
        h = ssf(f"{name}.norm1", block.norm1(x))
        qkv = ssf(f"{name}.attn.qkv", F.linear(h, block.attn.qkv.weight, block.attn.qkv.bias))
        q, k, v = qkv.unflatten(-1, (3, 2, 12)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / 12**0.5, dim=-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + ssf(f"{name}.attn.proj", F.linear(y, block.attn.proj.weight, block.attn.proj.bias))
        h = ssf(f"{name}.norm2", block.norm2(x))
        h = F.gelu(ssf(f"{name}.mlp.fc1", F.linear(h, block.mlp.fc1.weight, block.mlp.fc1.bias)))
        x = x + ssf(f"{name}.mlp.fc2", F.linear(h, block.mlp.fc2.weight, block.mlp.fc2.bias))
    torch.testing.assert_close(backbone(images)[-1], as_maps(x, 2, 3))


def test_scale_and_shift_stand_in_front_of_an_activation_inside_a_norm() -> None:
    backbone = doubled("mobilenet", "ssf")
    norm, plain = (
        b.model.get_submodule("blocks.1.0.bn1") for b in (backbone, tiny("mobilenet").double())
    )
    pair = backbone.inserted["ssf_blocks_1_0_bn1"]
    x = torch.randn(2, plain.num_features, 4, 5, dtype=torch.float64)
    y = (x - plain.running_mean[:, None, None]) / (
        plain.running_var[:, None, None] + plain.eps
    ) ** 0.5
    y = y * plain.weight[:, None, None] + plain.bias[:, None, None]
    y = y * pair.scale[:, None, None] + pair.shift[:, None, None]
    torch.testing.assert_close(norm(x), y.clamp(0, 6))


@pytest.mark.parametrize("form", ["tt", "tk"])
def test_factorised_update_of_every_matrix(form: str) -> None:
    backbone = doubled("vit", "fact", form=form, rank=3, scale=0.7)
    f = backbone.inserted["factors_24"]
    d, slot = 24, 0
    for i, (tuned, plain) in enumerate(
        zip(backbone.model.blocks, tiny("vit").double().model.blocks, strict=True)
    ):
        for name, ins, outs in (
            ("attn.qkv", 1, 3),
            ("attn.proj", 1, 1),
            ("mlp.fc1", 1, 4),
            ("mlp.fc2", 4, 1),
        ):
            layer = plain.get_submodule(name)
            update = torch.zeros(ins * d, outs * d, dtype=torch.float64)
            for o in range(outs):
                for k in range(ins):
                    if form == "tt":
                        core = f.core[slot]
                    else:
                        core = sum(f.p[slot, q] * f.core[q] for q in range(3))
                    update[k * d : (k + 1) * d, o * d : (o + 1) * d] = 0.7 * f.u @ core @ f.v.T
                    slot += 1
            x = torch.randn(2, 5, ins * d, dtype=torch.float64)
            expected = x @ (layer.weight.T + update) + layer.bias
            torch.testing.assert_close(tuned.get_submodule(name)(x), expected, msg=f"{i} {name}")


def test_linear_adapter_in_front_of_a_layer() -> None:
    backbone = doubled("vit", "repadapter", bottleneck=4, groups=2, scale=0.7)
    a = backbone.inserted["rep_blocks_2_mlp_fc1"]
    layer = tiny("vit").double().model.blocks[2].mlp.fc1
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    hidden = x @ a.down.weight.T + a.down.bias
    up = torch.cat([hidden[..., :2] @ a.up_weight[0].T, hidden[..., 2:] @ a.up_weight[1].T], -1)
    expected = (x + 0.7 * (up + a.up_bias)) @ layer.weight.T + layer.bias
    torch.testing.assert_close(backbone.model.blocks[2].mlp.fc1(x), expected)


@pytest.mark.parametrize("block", ["layers.0.blocks.0", "layers.0.blocks.1"])
def test_prompts_in_the_windows_of_swin(block: str) -> None:
    """Deep prompts: plain attention over 49 + p tokens, window by window; 0.1 is shifted."""
    backbone = doubled("swin", "vpt", tokens=3)
    index = int(block[-1])
    prompts = backbone.inserted["prompts"].layers[index].detach()
    plain = tiny("swin").double().model.get_submodule(block)
    attn, shift = plain.attn, 3 if index else 0
    x = torch.randn(2, 14, 21, 16, dtype=torch.float64)
    h = torch.roll(plain.norm1(x), (-shift, -shift), (1, 2))
    extra = plain.norm1(prompts)
    rows, columns = torch.meshgrid(torch.arange(14), torch.arange(21), indexing="ij")
    # Regions of the rolled image that were neighbours before.
    region = torch.zeros(14, 21)
    if shift:
        region = 3 * ((rows >= 7).long() + (rows >= 11).long())
        region = region + (columns >= 14).long() + (columns >= 18).long()
    attended = torch.zeros_like(h)
    table = attn.relative_position_bias_table
    position = torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")).flatten(
        1
    )
    offset = position[:, :, None] - position[:, None, :] + 6
    relative = table[offset[0] * 13 + offset[1]][..., 0]
    for top in (0, 7):
        for left in (0, 7, 14):
            window = h[:, top : top + 7, left : left + 7].reshape(2, 49, 16)
            kinds = region[top : top + 7, left : left + 7].reshape(49)
            tokens = torch.cat([extra.expand(2, 3, 16), window], dim=1)
            q, k, v = (tokens @ attn.qkv.weight.T + attn.qkv.bias).chunk(3, dim=-1)
            score = q @ k.transpose(1, 2) / 16**0.5
            bias = torch.zeros(52, 52, dtype=torch.float64)
            bias[3:, 3:] = relative - 100.0 * (kinds[:, None] != kinds[None, :])
            y = torch.softmax(score + bias, dim=-1) @ v
            y = y[:, 3:] @ attn.proj.weight.T + attn.proj.bias
            attended[:, top : top + 7, left : left + 7] = y.reshape(2, 7, 7, 16)
    x1 = x + torch.roll(attended, (shift, shift), (1, 2))
    expected = x1 + plain.mlp(plain.norm2(x1))
    torch.testing.assert_close(backbone.model.get_submodule(block)(x), expected)


def test_pixels_around_the_image_of_a_cnn() -> None:
    backbone = doubled("resnet", "vpt", pad=32, length=64)
    frame = backbone.inserted["prompts"]
    images = batch((64, 64))[0].double()
    padded = torch.empty(2, 3, 128, 128, dtype=torch.float64)
    padded[:, :, :32], padded[:, :, 96:] = frame.rows[0, :, :32], frame.rows[0, :, 32:]
    padded[:, :, 32:96, :32] = frame.columns[0, :, :, :32]
    padded[:, :, 32:96, 96:] = frame.columns[0, :, :, 32:]
    padded[:, :, 32:96, 32:96] = images
    for stride, found, wanted in zip(
        (4, 8, 16, 32), backbone(images), tiny("resnet").double()(padded), strict=True
    ):
        m = 32 // stride
        torch.testing.assert_close(found, wanted[:, :, m:-m, m:-m])
