"""What peft's tuners promise as methods beyond the contract."""

import os
import re
import subprocess
import sys

import pytest
import torch

from benchmark.contract.models import CLASSES, tiny, tiny_segmenter, train_steps
from benchmark.core.errors import UserError
from benchmark.planning.catalogue import build_method
from methods import METHODS, Unsupported

TUNERS = [name for name in METHODS if name.startswith("peft:")]


def test_importing_the_methods_does_not_import_peft() -> None:
    code = "import sys, methods; methods.METHODS['lora']; sys.exit('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def skip_without(name: str) -> None:
    if name not in METHODS:
        pytest.skip(f"this release of peft has no {name}")


def test_many_tuners_act_on_a_transformer() -> None:
    acting = []
    for name in TUNERS:
        backbone = tiny("vit")
        METHODS[name]().apply(backbone, CLASSES)
        acting.append(name)
        assert any(p.requires_grad for p in backbone.parameters()), name
    assert len(acting) >= 18
    assert {"peft:lora", "peft:dora", "peft:ia3", "peft:boft", "peft:adalora"} <= set(acting)


def test_a_tuner_leaves_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft's BOFT sets the compiler for an extension and forgets it where that does not build."""
    from peft.tuners.boft import layer

    monkeypatch.setattr(layer, "_FBD_CUDA", None)
    before = dict(os.environ)
    METHODS["peft:boft"]().apply(tiny("vit"), CLASSES)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "family", "reason"),
    [
        ("peft:vera", "resnet", "peft:vera: tunes Linear layers, ResNet has none for targets=all"),
        ("peft:pissa", "resnet", "peft:pissa: tunes Linear layers"),
        ("peft:ln_tuning", "resnet", "tunes LayerNorm, GroupNorm layers, ResNet has none"),
        ("peft:frod", "swin", "works on plain backbones, not on a hierarchical one"),
    ],
)
def test_refusals_name_their_reason(name: str, family: str, reason: str) -> None:
    skip_without(name)
    with pytest.raises(Unsupported, match=re.escape(reason)):
        METHODS[name]().apply(tiny(family), CLASSES)


@pytest.mark.parametrize(
    ("name", "field", "family", "layer", "largest"),
    [
        ("lora", "rank", "vit", "blocks.0.attn.qkv", 24),
        ("lora", "rank", "resnet", "layer1.0.conv1", 8),
        ("peft:dora", "r", "resnet", "layer1.0.conv1", 8),
        ("peft:adalora", "init_r", "vit", "blocks.0.attn.qkv", 24),
    ],
)
def test_too_large_a_rank_is_refused_with_the_layer(
    name: str, field: str, family: str, layer: str, largest: int
) -> None:
    message = f"{name}: {field} must be at most {largest} (layer {layer}), not 25"
    with pytest.raises(ValueError, match=re.escape(message)):
        METHODS[name](**{field: 25}).apply(tiny(family), CLASSES)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("peft:lora", {"r": 0}, "peft:lora: r must be an integer of at least 1, not 0"),
        ("peft:loha", {"alpha": -1}, "peft:loha: alpha must be an integer of at least 1, not -1"),
        ("peft:boft", {"boft_dropout": 1.0}, r"boft_dropout must be in \[0, 1\), not 1.0"),
        ("peft:adalora", {"target_r": 6}, "target_r must be less than init_r=6, not 6"),
        ("peft:lora", {"targets": "head"}, "targets"),
        ("peft:lora", {"rank": 4}, "has no field 'rank'"),
    ],
)
def test_bad_values_are_refused(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_method(name, params)


def test_ranks_shrink_to_the_budget() -> None:
    method = METHODS["peft:adalora"](init_r=6, target_r=2)
    segmenter = tiny_segmenter("vit", method)

    def entries() -> list[torch.Tensor]:
        return [p for n, p in segmenter.named_parameters() if ".lora_E." in n]

    train_steps(segmenter, method, 12)
    kept = sum(int((e != 0).sum()) for e in entries())
    assert sum(e.numel() for e in entries()) == 6 * 20
    assert kept == 2 * 20


def test_one_method_serves_two_backbones_with_ranks_of_their_own() -> None:
    method = METHODS["peft:adalora"]()
    first, second = tiny_segmenter("vit", method), tiny_segmenter("swin", method)
    train_steps(first, method, 6)
    train_steps(second, method, 6)
    names = {n.split(".lora_E")[0] for n in first.backbone.model.adalora.rankallocator.ipt}
    assert not any(name.startswith("layers.") for name in names)


@pytest.mark.parametrize("name", ["peft:unilora", "peft:vblora"])
def test_shared_vectors_are_stored_once(name: str) -> None:
    skip_without(name)
    segmenter = tiny_segmenter("vit", METHODS[name]())
    held = segmenter.backbone.state_dict(keep_vars=True).values()
    trained = [id(t) for t in held if t.requires_grad]
    assert len(trained) == len(set(trained))
