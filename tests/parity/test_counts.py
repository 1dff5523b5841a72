"""Parameter counts that papers and peft give, on backbones of full size without values."""

import math

import pytest
import torch

from benchmark.models.weights import architecture
from methods import METHODS


def trained(name: str, method: str, num_classes: int = 19, **fields: object) -> int:
    """Parameters that a method trains in a backbone of full size."""
    backbone = architecture(name)
    tuned = METHODS[method](**fields)
    with next(backbone.parameters()).device:
        tuned.apply(backbone, num_classes)
    return sum(p.numel() for p in backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        # The stem or embedding, and what the first three stages return.
        pytest.param("resnet101", (64, 256, 512, 1024), marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", (96, 96, 192, 384), marks=pytest.mark.slow),
        ("vit_base_patch16_224", (768, 768, 768, 768)),
    ],
)
def test_matchers(name: str, widths: tuple[int, ...]) -> None:
    d, listed = 64, {"resnet101": 287_884, "vit_base_patch16_224": 444_748}
    for k in (2, 11, 19, 150):
        layers = {
            "squeeze": [c * d + d for c in widths],
            "interim and guide": [d * k + k + k * d + d for _ in widths],
            "spatial": [2 * d * 9 + 2 * d for _ in widths],
            "mix": [2 * d * d + d for _ in widths],
            "expand": [d * c + c for c in widths],
        }
        expected = sum(map(sum, layers.values()))
        assert k != 19 or listed.get(name, expected) == expected
        assert trained(name, "spm", k) == expected
    for fields in ({"recurrence": 3}, {"guidance": "none"}, {"carry": "off"}, {"prior": "uniform"}):
        assert trained(name, "spm", k, **fields) == expected


@pytest.mark.parametrize(("tokens", "expected"), [(10, 92_160), (50, 460_800), (100, 921_600)])
def test_prompts_in_vit_base(tokens: int, expected: int) -> None:
    assert trained("vit_base_patch16_224", "vpt", tokens=tokens) == expected
    assert trained("vit_base_patch16_224", "vpt", tokens=tokens, depth="shallow") == tokens * 768


def test_adapters_in_vit_base() -> None:
    assert trained("vit_base_patch16_224", "adapter") == 1_189_632


def test_adapters_behind_mobilenet_blocks_follow_the_width_of_each_block() -> None:
    # MobileNetV2, table 2 of arXiv 1801.04381: channels and repeats of its 17 blocks.
    widths = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    expected = sum(2 * d * 64 + 64 + d for d in widths)
    assert trained("mobilenetv2_100", "adapter") == expected


def test_low_rank_updates_in_vit_base() -> None:
    assert trained("vit_base_patch16_224", "lora", targets="qkv") == 294_912
    per_block = 8 * ((768 + 2304) + (768 + 768) + 2 * (768 + 3072))
    assert trained("vit_base_patch16_224", "lora") == 12 * per_block


def test_low_rank_updates_of_resnet50_convolutions() -> None:
    model = architecture("resnet50").model
    convs = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and n != "conv1"]
    expected = sum(8 * (c.in_channels * math.prod(c.kernel_size) + c.out_channels) for c in convs)
    assert trained("resnet50", "lora") == expected


def test_full_and_linear() -> None:
    # ResNet-50 without classifier: 25,557,032 - (2048 * 1000 + 1000).
    assert trained("resnet50", "full") == 23_508_032
    assert trained("resnet50", "linear") == 0


@pytest.mark.parametrize(
    ("name", "method", "published", "final_norm"),
    [
        # Published figures count the final norm, which lies behind the last feature map.
        ("vit_base_patch16_224", "bitfit", 102_912, 768),
        ("vit_large_patch16_224", "bitfit", 272_384, 1024),
        ("vit_base_patch16_224", "norm", 38_400, 2 * 768),
    ],
)
def test_published_biases_and_norms(
    name: str, method: str, published: int, final_norm: int
) -> None:
    assert trained(name, method) == published - final_norm


def test_prompts_in_vit_large() -> None:
    assert trained("vit_large_patch16_224", "vpt", tokens=10) == 245_760


def test_prompts_in_swin_follow_the_width_of_each_block() -> None:
    widths = 2 * [96] + 2 * [192] + 6 * [384] + 2 * [768]
    assert trained("swin_tiny_patch4_window7_224", "vpt", tokens=5) == 5 * sum(widths)


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("partial", {}, 7_087_872),
        ("ssf", {}, 204_288),
        ("repadapter", {}, 239_808),
        ("fact", {}, 61_440),
        ("fact", {"form": "tk"}, 30_976),
        ("adapter", {"form": "houlsby"}, 2 * 1_189_632),
        ("adapter", {"form": "pfeiffer"}, 1_189_632),
        ("adapter", {"form": "adapter-plus"}, 1_189_632 + 12 * 768),
    ],
)
def test_vit_base(method: str, fields: dict[str, object], expected: int) -> None:
    assert trained("vit_base_patch16_224", method, **fields) == expected
