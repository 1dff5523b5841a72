"""A small model of each family of timm with every method: it trains, or says why it cannot.

`backbones.yaml` beside this file is the table. Run this file as a script to write it again:
`python tests/contract/test_backbones.py [FAMILY ...]`.
"""

import copy
import math
import re
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

import benchmark
from benchmark.contract.models import CLASSES, Unequal, loss_of
from benchmark.core.errors import UserError
from benchmark.core.seeding import torch_stream
from benchmark.models.backbone import StagedBackbone
from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import ResolvedWeights
from methods import METHODS, Method, Unsupported

TABLE = Path(__file__).with_name("backbones.yaml")

MODELS = {
    "aimv2": "aimv2_large_patch14_224[depth=4,embed_dim=48,num_heads=2]",
    "beit": "beit_base_patch16_224[depth=4,embed_dim=48,num_heads=2]",
    "beitv2": "beitv2_base_patch16_224[depth=4,embed_dim=48,num_heads=2]",
    "botnet": "botnet26t_256",
    "cait": "cait_xxs24_224[depth=4,embed_dim=48]",
    "coat": "coat_lite_tiny",
    "coatnet": "coatnet_pico_rw_224",
    "convit": "convit_tiny[depth=12,embed_dim=12]",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_zepto_rms",
    "convnextv2": "convnextv2_atto",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_s",
    "cspnext": "cspnext_tiny",
    "darknet": "darknet17",
    "davit": "davit_tiny[depths=(1,1,1,1),embed_dims=(24,32,48,64),num_heads=(1,2,3,4)]",
    "deit": "deit_tiny_distilled_patch16_224[depth=4,embed_dim=48]",
    "densenet": "densenet121",
    "dinov2": "vit_small_patch14_dinov2[depth=4,embed_dim=48,num_heads=2]",
    "dinov3": "vit_small_patch16_dinov3[depth=4,embed_dim=48,num_heads=2]",
    "dinov3_plus": "vit_small_plus_patch16_dinov3[depth=4,embed_dim=48,num_heads=2]",
    "dla": "dla46_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformerv2": "efficientformerv2_s0",
    "efficientnet": "efficientnet_b0",
    "efficientnet_lite": "tf_efficientnet_lite0",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva02": "eva02_tiny_patch14_224[depth=4,embed_dim=48,num_heads=2]",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gernet": "gernet_s",
    "ghostnet": "ghostnet_050",
    "gmlp": "gmlp_ti16_224",
    "halonet": "halonet26t",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224[embed_dim=24,stages=(1,1,2,1)]",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception": "inception_v3",
    "inception_next": "inception_next_atto",
    "lambda_resnet": "lambda_resnet26t",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxvit": "maxvit_pico_rw_256",
    "metaformer": "poolformer_s12",
    "mixer": "mixer_s32_224",
    "mobilenetv2": "mobilenetv2_035",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv4": "mobilenetv4_hybrid_medium_075",
    "mobileone": "mobileone_s0",
    "mobilevit": "mobilevit_xxs",
    "mobilevitv2": "mobilevitv2_050",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap[depth=4,embed_dim=48,num_heads=2]",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small[depths=(1,1,5,1)]",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pvt_v2": "pvt_v2_b0",
    "rdnet": "rdnet_tiny",
    "regnetx": "regnetx_002",
    "regnety": "regnety_002",
    "regnetz": "regnetz_b16",
    "repghost": "repghostnet_050",
    "repvgg": "repvgg_a0",
    "repvit": "repvit_m0_9",
    "res2net": "res2net50_26w_4s[layers=(1,1,1,1)]",
    "resmlp": "resmlp_12_224",
    "resnest": "resnest14d",
    "resnet": "resnet10t",
    "resnet51q": "resnet51q",
    "resnetv2": "resnetv2_50x1_bit",
    "rexnet": "rexnet_100",
    "samvit": "samvit_base_patch16_224[depth=4,embed_dim=48,num_heads=2]",
    "selecsls": "selecsls42",
    "sequencer": "sequencer2d_s[layers=(1,1,1,1)]",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin": "swin_tiny_patch4_window7_224[embed_dim=24,depths=(2,1,1,1)]",
    "swinv2": "swinv2_tiny_window8_256[embed_dim=24,depths=(2,1,1,1)]",
    "swinv2_cr": "swinv2_cr_tiny_224[embed_dim=24,depths=(2,1,1,1)]",
    "tiny_vit": "tiny_vit_5m_224",
    "tinynet": "tinynet_e",
    "tnt": "tnt_s_patch16_224",
    "tresnet": "tresnet_m[layers=(1,1,1,1)]",
    "twins": "twins_svt_small[embed_dims=(16,32,48,64),num_heads=(1,2,3,4),depths=(1,1,2,1)]",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vit": "test_vit",
    "vit_hybrid": "vit_small_r26_s32_224[depth=4,embed_dim=48,num_heads=2]",
    "vit_relpos": "vit_relpos_small_patch16_224[depth=4,embed_dim=48,num_heads=2]",
    "vit_rope": "vit_small_patch16_rope_mixed_224[depth=4,embed_dim=48,num_heads=2]",
    "vitamin": "vitamin_small_224[depth=4]",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41",
    "xcit": "xcit_nano_12_p16_224[depth=4]",
}
"""Family -> a small member, with arguments that make it smaller where it is large."""

USUAL = ["convnext", "dinov2", "efficientnet", "efficientnet_lite", "hiera", "maxvit", "mambaout"]
USUAL += ["mixer", "mobilenetv2", "pvt_v2", "regnety", "resnet", "swin", "vit"]
"""Families that CI tries; the others are for releases, and for changes to methods or backbones."""

CROPS = (64, 112, 128, 224, 256)
"""The smallest one that a family takes is used."""


def own() -> list[Method]:
    """The methods of this collection, at their defaults."""
    return [cls() for name, cls in sorted(METHODS.loaded().items()) if ":" not in name]


@cache
def build(family: str) -> tuple[StagedBackbone, int]:
    """A backbone with random weights, and the crop it was built for.

    Parameters of one dimension are drawn: a layer scale of 1e-6 or a gain of zero would hide what a
    method does.
    """
    name, _, arguments = MODELS[family].rstrip("]").partition("[")
    kwargs = {
        key: yaml.safe_load(value.translate(str.maketrans("()", "[]")))
        for key, value in re.findall(r"(\w+)=(\([^)]*\)|[^,]+)", arguments)
    }
    kwargs = {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()}
    resolved = ResolvedWeights(name, "random", None, name, kwargs)
    problem = UserError("no crop is a multiple of its stride")
    for crop in CROPS:
        try:
            with warnings.catch_warnings(), torch_stream(0, "table"):
                warnings.simplefilter("ignore")
                backbone = resolved.build(crop)
                for parameter in backbone.model.parameters():
                    if parameter.ndim <= 1:
                        torch.nn.init.uniform_(parameter, 0.5, 1.0)
        except UserError as error:
            problem = error
            continue
        if crop % backbone.divisor == 0 and backbone.fixed_side in (None, crop):
            return backbone, crop
    raise problem


def outcome(method: Method, family: str) -> str:
    """`ok` or the reason of the refusal, after two steps of training.

    Raises:
        AssertionError: something else was trained than the method says, or what it starts from or
            merges into is not what it says.

    """
    whole, crop = build(family)
    backbone = copy.deepcopy(whole)
    images = torch.randn(2, 3, crop, crop, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, CLASSES, (2, crop, crop), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        frozen = whole(images)
    try:
        with torch_stream(0, "method"):
            wanted = method.count(backbone, CLASSES)
            method.apply(backbone, CLASSES)
        method.before_training(backbone, Unequal())
        decoder = LinearDecoder(backbone.channels, backbone.strides, CLASSES)
        segmenter = Segmenter(backbone, decoder)
        with torch.no_grad():
            start = segmenter.eval().backbone(images)
    except Unsupported as reason:
        return str(reason)
    trained = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    found = sum(p.numel() for p in trained.values())
    assert wanted in (None, found), f"count says {wanted}, {found} are trained"
    assert [f.shape for f in start] == [f.shape for f in frozen], "features have other shapes"
    if method.identity_at_init:
        close = all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(b.abs().max())))
            for a, b in zip(start, frozen, strict=True)
        )
        assert close, "it does not start from the frozen backbone"
    grouped = [p for group in method.parameter_groups(backbone) for p in group["params"]]
    learnt = [*grouped, *decoder.parameters()]
    optimiser = torch.optim.SGD(learnt, lr=1e-4)
    for step in (1, 2):
        optimiser.zero_grad()
        loss = loss_of(segmenter.train(), method, images, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        method.after_step(backbone, step, 2)
        assert math.isfinite(loss.item()), "the loss is not finite"
    excused = method.without_gradient()
    silent = [
        n for n, p in trained.items() if p.grad is None and not any(part in n for part in excused)
    ]
    assert not silent, f"no gradient reaches {', '.join(silent[:3])}"
    if method.mergeable and len(backbone.inserted) + len(backbone._replaced):
        merges_into_the_same(segmenter.eval(), method, images)
    return "ok"


def merges_into_the_same(segmenter: Segmenter, method: Method, images: torch.Tensor) -> None:
    with torch.no_grad():
        before = segmenter(images)
        try:
            method.merge(segmenter.backbone)
        except Unsupported:
            return
        after = segmenter(images)
    difference = float((after - before).abs().max()) / max(1.0, float(before.abs().max()))
    assert difference < 1e-3, f"merged, logits differ by {difference:.1e} of the largest"


def row(family: str) -> dict[str, Any]:
    """The line of a family in the table."""
    name = MODELS[family].partition("[")[0]
    try:
        backbone, _ = build(family)
    except UserError as reason:
        return {"model": name, "refused": str(reason)}
    cells = {method.name: outcome(method, family) for method in own()}
    return {
        "model": name,
        "kind": backbone.kind,
        "crop": "any" if backbone.fixed_side is None else "as built",
        "strides": " ".join(map(str, backbone.strides)),
        "ok": " ".join(name for name, found in cells.items() if found == "ok"),
        "unsupported": {name: found for name, found in cells.items() if found != "ok"},
    }


def stored() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(TABLE.read_text())


def test_the_table_is_as_wide_as_promised() -> None:
    table = stored()
    assert table.keys() == MODELS.keys()
    assert all(timm.is_model(line["model"]) for line in table.values())
    acting = [line for line in table.values() if "refused" not in line]
    assert len(acting) >= 60
    names = {method.name for method in own()}
    for line in acting:
        assert {*line["ok"].split(), *line["unsupported"]} == names
        assert "lora" in line["ok"].split() and "linear" in line["ok"].split()
    reasons = [r for line in acting for r in line["unsupported"].values()]
    reasons += [line["refused"] for line in table.values() if "refused" in line]
    assert not [r for r in reasons if not r or "\n" in r or re.search(r"\w+Error\b", r)]


def test_the_readme_shows_the_count() -> None:
    table = stored()
    acting = [line for line in table.values() if "refused" not in line]
    trained = sum(len(line["ok"].split()) for line in acting)
    unsupported = sum(len(line["unsupported"]) for line in acting)
    readme = Path(benchmark.__file__).with_name("README.md").read_text()
    assert (
        f"Tried: {len(table)} families of timm with {len(own())} methods each. {len(acting)} "
        f"families act; there {trained} pairs train and {unsupported} are unsupported"
    ) in " ".join(readme.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in USUAL else pytest.mark.exhaustive) for f in MODELS],
)
def test_a_family_with_every_method(family: str) -> None:
    assert row(family) == stored()[family]
    build.cache_clear()


def write(families: list[str]) -> None:
    """Writes the lines of some families, or of all, into the table again."""
    for family in families or MODELS:
        start = time.perf_counter()
        try:
            line = row(family)
        except Exception as error:
            print(f"{family}: {type(error).__name__}: {error}", flush=True)
            continue
        print(f"{family}: {time.perf_counter() - start:.0f} s", flush=True)
        build.cache_clear()
        table = (stored() if TABLE.exists() else {}) | {family: line}
        table = {name: table[name] for name in MODELS if name in table}
        TABLE.write_text(yaml.safe_dump(table, sort_keys=False, width=100))


if __name__ == "__main__":
    write(sys.argv[1:])
