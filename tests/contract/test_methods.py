"""What every registered method promises, on a small model of every family."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from benchmark.models.delta import (
    changed_buffers,
    count_parameters,
    delta,
    frozen_hash,
    load_delta,
    snapshot,
)
from benchmark.models.segmenter import Segmenter
from methods import METHODS, Method, Unsupported
from tests.tiny_models import CLASSES, TINY, batch, loss_of, optimizer, tiny, tiny_segmenter

VARIANTS: dict[str, tuple[Method, ...]] = {
    "vpt": (METHODS["vpt"](depth="shallow"),),
    "spm": (
        METHODS["spm"](guidance="none"),
        METHODS["spm"](feedback="off"),
        METHODS["spm"](recurrence=1, placement="2+4"),
    ),
    "lora": (METHODS["lora"](targets="mlp"), METHODS["lora"](targets="conv")),
}
"""Settings beside the defaults that change which modules exist or run."""

NO_GRADIENT = {("spm", "guidance", "none"): ".interim."}
"""Trainable tensors without gradient, by setting: documented in the method."""


def label(method: Method) -> str:
    changed = [
        f"{f.name}={getattr(method, f.name)}"
        for f in dataclasses.fields(method)
        if getattr(method, f.name) != f.default
    ]
    return f"{method.name}[{'+'.join(changed)}]" if changed else method.name


ALL = [m for name in METHODS for m in (METHODS[name](), *VARIANTS.get(name, ()))]

each_method = pytest.mark.parametrize("method", ALL, ids=label)
each_family = pytest.mark.parametrize("family", TINY)
each_kind = pytest.mark.parametrize("family", ["vit", "swin", "resnet"])


def applied(family: str, method: Method) -> Segmenter:
    try:
        return tiny_segmenter(family, method)
    except Unsupported as reason:
        pytest.skip(str(reason))


def steps(segmenter: Segmenter, method: Method, n: int) -> None:
    images, labels = batch()
    update = optimizer(segmenter, method)
    for _ in range(n):
        segmenter.train()
        update.zero_grad()
        loss_of(segmenter, method, images, labels).backward()
        update.step()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Layers this small only lose time to more threads.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@each_family
@each_method
def test_before_training_it_is_the_frozen_backbone_or_says_that_it_is_not(
    method: Method, family: str
) -> None:
    segmenter = applied(family, method).eval()
    images, _ = batch((64, 96))
    with torch.no_grad():
        before = tiny(family)(images)
        after = segmenter.backbone(images)
    equal = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert equal == method.identity_at_init
    assert [tuple(f.shape[-2:]) for f in after] == [
        (64 // s, 96 // s) for s in segmenter.backbone.strides
    ]


@each_family
@each_method
def test_three_steps_train_everything_trainable_and_nothing_frozen(
    method: Method, family: str, tmp_path: Path
) -> None:
    backbone = tiny(family)
    pristine = snapshot(backbone)
    torch.manual_seed(1)
    try:
        method.apply(backbone, CLASSES)
    except Unsupported as reason:
        pytest.skip(str(reason))
    segmenter = applied(family, method)
    segmenter = Segmenter(backbone, segmenter.decoder)
    counts = count_parameters(segmenter, pristine)
    own = [p for group in method.parameter_groups(backbone) for p in group["params"]]
    assert sum(p.numel() for p in own) == counts.inserted + counts.tuned_backbone
    frozen = frozen_hash(backbone)

    steps(segmenter, method, 2)
    silent = [
        name
        for name, p in segmenter.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    excused = [
        part
        for (name, field, value), part in NO_GRADIENT.items()
        if method.name == name and getattr(method, field) == value
    ]
    # An untrained ReLU layer is zero on whole channels, not on whole tensors.
    assert [name for name in silent if not any(part in name for part in excused)] == []
    steps(segmenter, method, 1)
    assert frozen_hash(backbone) == frozen
    if counts.tuned_backbone == 0:
        assert changed_buffers(segmenter, pristine) == 0

    stored = delta(segmenter, pristine)
    own_state = segmenter.state_dict()
    trained = {name for name, p in segmenter.named_parameters() if p.requires_grad}
    expected = trained if counts.tuned_backbone == 0 else {n for n in own_state if n in stored}
    assert set(stored) >= {n for n in expected if not n.startswith("backbone.model.")}
    if counts.tuned_backbone == 0:
        assert set(stored) == trained
        assert sum(t.numel() for t in stored.values()) == counts.total_trainable

    save_file(stored, tmp_path / "delta.safetensors")
    fresh = applied(family, method)
    for parameter in fresh.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    load_delta(fresh, load_file(tmp_path / "delta.safetensors"))
    images, _ = batch((96, 64), seed=1)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(images), segmenter.eval()(images))


@each_kind
@each_method
def test_two_backbones_of_one_method_share_nothing(method: Method, family: str) -> None:
    first, second = applied(family, method), applied(family, method)
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    images, _ = batch()
    with torch.no_grad():
        before = second.eval()(images)
    steps(first, method, 1)
    with torch.no_grad():
        assert torch.equal(second.eval()(images), before)


@each_kind
@each_method
def test_the_loss_falls_on_one_batch(method: Method, family: str) -> None:
    segmenter = applied(family, method)
    images, labels = batch()
    first = loss_of(segmenter.train(), method, images, labels).item()
    steps(segmenter, method, 12)
    assert loss_of(segmenter.train(), method, images, labels).item() < 0.95 * first


@each_kind
@each_method
def test_bf16_autocast_trains(method: Method, family: str) -> None:
    segmenter = applied(family, method).train()
    images, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(segmenter, method, images, labels)
    loss.backward()
    assert torch.isfinite(loss)


@each_method
def test_without_a_labelled_pixel_the_auxiliary_loss_is_zero(method: Method) -> None:
    segmenter = applied("vit", method).train()
    images, labels = batch()
    segmenter(images)
    extra = method.auxiliary_loss(segmenter.backbone, torch.full_like(labels, 255))
    assert extra is None or extra.item() == 0


@each_family
@pytest.mark.parametrize("method", [m for m in ALL if m.mergeable], ids=label)
def test_merged_it_computes_the_same_with_the_frozen_architecture(
    method: Method, family: str
) -> None:
    segmenter = applied(family, method)
    steps(segmenter, method, 2)
    images, _ = batch()
    segmenter.eval()
    with torch.no_grad():
        before = segmenter(images)
        method.merge(segmenter.backbone)
        after = segmenter(images)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    assert set(segmenter.backbone.model.state_dict()) == segmenter.backbone.pretrained_names


@pytest.mark.parametrize(
    ("name", "family"),
    [("vpt", "vit"), ("spm", "vit"), ("adapter", "swin"), ("spm", "swin"), ("lora", "resnet")],
)
def test_hooks_survive_torch_compile(name: str, family: str) -> None:
    method = METHODS[name]()
    segmenter = applied(family, method).eval()
    images, _ = batch()
    with torch.no_grad():
        expected = segmenter(images)
        torch._dynamo.reset()
        compiled = torch.compile(segmenter, backend="eager")
        torch.testing.assert_close(compiled(images), expected)


@pytest.mark.parametrize("family", ["swin", "convnext", "resnet", "mobilenet"])
def test_prompt_tokens_are_refused_where_there_are_no_tokens(family: str) -> None:
    backbone = tiny(family)
    with pytest.raises(Unsupported, match="works on plain backbones"):
        METHODS["vpt"]().apply(backbone, CLASSES)
    assert len(backbone.inserted) == 0


def test_low_rank_updates_are_refused_where_no_layer_fits() -> None:
    with pytest.raises(Unsupported, match="no layers for targets=qkv"):
        METHODS["lora"](targets="qkv").apply(tiny("resnet"), CLASSES)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("vpt", "tokens", 0),
        ("vpt", "depth", "medium"),
        ("adapter", "bottleneck", 0),
        ("adapter", "scale", 0.0),
        ("lora", "rank", 0),
        ("lora", "targets", "norm"),
        ("spm", "recurrence", 0),
        ("spm", "placement", "0+1"),
        ("spm", "placement", "2+1"),
        ("spm", "placement", ""),
        ("spm", "guidance", "maybe"),
        ("full", "lr", 0.0),
    ],
)
def test_bad_values_are_refused_with_the_allowed_ones(name: str, field: str, value: object) -> None:
    with pytest.raises(
        ValueError, match=rf"{name}: {field} must be .* not {re.escape(repr(value))}"
    ):
        METHODS[name](**{field: value})


def test_frozen_stages_without_feedback_predict_what_a_linear_probe_predicts() -> None:
    images, _ = batch()
    off = METHODS["spm"](feedback="off")
    probe, control = tiny_segmenter("vit", METHODS["linear"]()), tiny_segmenter("vit", off)
    steps(probe, METHODS["linear"](), 3)
    steps(control, off, 3)
    with torch.no_grad():
        torch.testing.assert_close(control.eval()(images), probe.eval()(images))


def test_full_tuning_keeps_what_batch_norm_learnt() -> None:
    backbone = tiny("resnet")
    pristine = snapshot(backbone)
    method = METHODS["full"]()
    segmenter = Segmenter(backbone, tiny_segmenter("resnet", method).decoder)
    method.apply(backbone, CLASSES)
    steps(segmenter, method, 1)
    norms = [m for m in backbone.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    running = sum(m.num_features for m in norms)
    assert changed_buffers(segmenter, pristine) == 2 * running + len(norms)
    assert any("running_mean" in name for name in delta(segmenter, pristine))


def test_a_drifted_statistic_is_part_of_the_delta() -> None:
    backbone = tiny("resnet")
    pristine = snapshot(backbone)
    segmenter = Segmenter(backbone, torch.nn.Identity())
    assert delta(segmenter, pristine) == {}
    backbone.model.get_buffer("layer1.0.bn1.running_mean").add_(1)
    assert set(delta(segmenter, pristine)) == {"backbone.model.layer1.0.bn1.running_mean"}


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_a_delta_must_fit_exactly(family: str) -> None:
    method = METHODS["lora"]()
    backbone = tiny(family)
    pristine = snapshot(backbone)
    segmenter = Segmenter(backbone, tiny_segmenter(family, method).decoder)
    method.apply(backbone, CLASSES)
    state = delta(segmenter, pristine)
    name = next(n for n in state if "lora_B" in n)
    with pytest.raises(ValueError, match=r"misses .*lora_B"):
        load_delta(segmenter, {n: t for n, t in state.items() if n != name})
    with pytest.raises(ValueError, match="holds unknown stranger"):
        load_delta(segmenter, {**state, "stranger": torch.zeros(1)})
    with pytest.raises(ValueError, match="has other shapes for"):
        load_delta(segmenter, {**state, name: torch.zeros(1)})


def test_only_trained_modules_are_in_train_mode() -> None:
    segmenter = tiny_segmenter("swin", METHODS["lora"](targets="qkv"))
    segmenter.train()
    for name, module in segmenter.backbone.model.named_modules():
        added = module not in segmenter.backbone.pretrained_modules
        assert module.training == added, name
    assert segmenter.decoder.training
    assert not any(m.training for m in segmenter.eval().modules())


def test_a_backbone_refuses_to_be_copied() -> None:
    import copy

    with pytest.raises(TypeError, match="build a fresh one"):
        copy.deepcopy(tiny("vit"))


def test_images_upsampled_labels_reach_the_loss() -> None:
    method = METHODS["spm"](recurrence=1, placement="1")
    segmenter = tiny_segmenter("vit", method).train()
    images, labels = batch()
    segmenter(images)
    (m,) = segmenter.backbone.inserted["matcher_1"].interim_maps
    up = F.interpolate(m, labels.shape[-2:], mode="bilinear")
    expected = 0.4 * F.cross_entropy(up, labels, ignore_index=255)
    torch.testing.assert_close(method.auxiliary_loss(segmenter.backbone, labels), expected)
