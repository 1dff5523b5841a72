"""What single methods, deltas and segmenters promise beyond the contract."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F

from benchmark.contract import Case
from benchmark.contract.models import (
    CLASSES,
    KINDS,
    Unequal,
    batch,
    tiny,
    tiny_segmenter,
    train_steps,
)
from benchmark.core.errors import UserError
from benchmark.models.backbone import StagedBackbone
from benchmark.models.delta import (
    Pristine,
    changed_buffers,
    count_parameters,
    delta,
    load_delta,
    snapshot,
)
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import create_timm_model
from methods import METHODS, Unsupported


def test_prompt_tokens_are_refused_where_there_are_no_tokens() -> None:
    backbone = tiny("resnet")
    with pytest.raises(Unsupported, match="one form on a CNN"):
        METHODS["vpt"](depth="shallow").apply(backbone, CLASSES)
    assert len(backbone.inserted) == 0


def test_a_frame_must_be_a_multiple_of_the_largest_stride() -> None:
    with pytest.raises(ValueError, match="vpt: pad must be a multiple of 32"):
        METHODS["vpt"](pad=16).apply(tiny("resnet"), CLASSES)


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="partial: blocks must be at most 5"):
        METHODS["partial"](blocks=6).apply(tiny("vit"), CLASSES)


def test_without_feedback_and_without_supervision_nothing_would_be_trained() -> None:
    with pytest.raises(ValueError, match="spm: feedback must be on where"):
        METHODS["spm"](feedback="off", aux_weight=0.0)


def test_matchers_change_nothing_at_the_start_whatever_the_classes() -> None:
    images, _ = batch()
    for family in KINDS:
        segmenter, frozen = tiny_segmenter(family, METHODS["spm"]()), tiny(family)
        METHODS["spm"]().before_training(segmenter.backbone, Unequal())
        with torch.no_grad():
            assert all(map(torch.equal, segmenter.eval().backbone(images), frozen(images)))


def test_no_matcher_is_behind_the_last_stage() -> None:
    for backbone in (tiny("resnet"), StagedBackbone(create_timm_model("ghostnet_050", {}))):
        METHODS["spm"]().apply(backbone, CLASSES)
        count = len(backbone.channels)
        assert [*backbone.inserted] == ["prior", *(f"matcher_{place}" for place in range(count))]


def test_the_map_begins_with_the_class_frequencies_and_is_stored() -> None:
    class Seen:
        def class_frequencies(self) -> torch.Tensor:
            return torch.tensor([0.75, 0.25, 0, 0])

    def logits(prior: str) -> torch.Tensor:
        backbone, method = tiny("vit"), METHODS["spm"](prior=prior)
        pristine = snapshot(backbone)
        method.apply(backbone, CLASSES)
        method.before_training(backbone, Seen())
        return delta(Segmenter(backbone, torch.nn.Identity()), pristine)[
            "backbone.inserted.prior.logits"
        ]

    # A class without a pixel has the floor, not minus infinity.
    expected = torch.tensor([0.75, 0.25, 1e-6, 1e-6]).log()
    torch.testing.assert_close(logits("frequencies"), expected)
    assert not logits("uniform").any()


@pytest.mark.parametrize(
    "control",
    [{"guidance": "none"}, {"carry": "off"}, {"prior": "uniform"}, {"recurrence": 3}],
)
def test_controls_train_as_many_parameters(control: dict[str, object]) -> None:
    backbone = tiny("resnet")
    whole = METHODS["spm"]().count(backbone, CLASSES)
    assert METHODS["spm"](**control).count(backbone, CLASSES) == whole
    # Narrow, and without the layers of the prompt: not more than with them.
    assert METHODS["spm"](feedback="off").count(backbone, CLASSES) < whole


def test_inference_keeps_one_map() -> None:
    segmenter = tiny_segmenter("vit", METHODS["spm"](recurrence=1))
    for training, kept in ((True, 4), (False, 1)):
        segmenter.train(training)(batch()[0])
        assert len(segmenter.backbone.pass_state["maps"]) == kept


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="repadapter: bottleneck must be at most 24, the width of"):
        METHODS["repadapter"](bottleneck=26).apply(tiny("vit"), CLASSES)
    with pytest.raises(ValueError, match="fact: rank must be at most 24, the width of"):
        METHODS["fact"](rank=25).apply(tiny("vit"), CLASSES)


def test_cores_start_alike_however_many_layers_share_the_factors() -> None:
    backbone = tiny("vit")
    METHODS["fact"](rank=16).apply(backbone, CLASSES)
    core = backbone.inserted["factors_24"].core
    spread = core.std().item() * 16**0.5
    assert spread == pytest.approx(3**-0.5, rel=0.1)  # of U(-1, 1)


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
        ("adapter", "form", "parallel"),
        ("partial", "blocks", 0),
        ("fact", "rank", 0),
        ("fact", "form", "cp"),
        ("repadapter", "bottleneck", 3),
        ("repadapter", "groups", 0),
        ("ssf", "lr", -1.0),
        ("ssf", "lr", float("inf")),
        ("rein", "rank", 101),
        ("lora", "rank", 0),
        ("lora", "targets", "norm"),
        ("spm", "recurrence", 0),
        ("spm", "placement", "1+4"),
        ("spm", "placement", "2+1"),
        ("spm", "placement", ""),
        ("spm", "guidance", "maybe"),
        ("spm", "carry", "no"),
        ("spm", "prior", "none"),
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
    train_steps(probe, METHODS["linear"](), 3)
    train_steps(control, off, 3)
    with torch.no_grad():
        torch.testing.assert_close(control.eval()(images), probe.eval()(images))


def test_full_tuning_keeps_what_batch_norm_learnt() -> None:
    backbone = tiny("resnet")
    pristine = snapshot(backbone)
    method = METHODS["full"]()
    segmenter = Segmenter(backbone, tiny_segmenter("resnet", method).decoder)
    method.apply(backbone, CLASSES)
    train_steps(segmenter, method, 1)
    norms = [m for m in backbone.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    running = sum(m.num_features for m in norms)
    assert changed_buffers(segmenter, pristine) == 2 * running + len(norms)
    assert any("running_mean" in name for name in delta(segmenter, pristine))


def test_statistics_stay_those_of_the_pretraining_where_only_norms_or_biases_are_trained() -> None:
    for method in ("norm", "bitfit"):
        backbone = tiny("resnet")
        pristine = snapshot(backbone)
        tuned = METHODS[method]()
        tuned.apply(backbone, CLASSES)
        decoder = tiny_segmenter("resnet", tuned).decoder
        segmenter = Segmenter(backbone, decoder)
        train_steps(segmenter, tuned, 2)
        assert changed_buffers(segmenter, pristine) == 0


@pytest.mark.parametrize("name", [name for name in METHODS.loaded() if ":" not in name])
def test_what_is_inserted_is_stored_and_nothing_else(name: str) -> None:
    trained = Case(METHODS[name](), "vit").trained
    stored = sum(tensor.numel() for tensor in trained.stored.values())
    # What a method knows of the data.
    known = sum(buffer.numel() for buffer in trained.segmenter.backbone.inserted.buffers())
    if trained.counts.tuned_backbone == 0:
        assert stored == trained.counts.total_trainable + known


def test_a_tensor_that_two_layers_share_is_stored_once() -> None:
    def build() -> tuple[Segmenter, Pristine]:
        backbone = tiny("vit")
        pristine = snapshot(backbone)
        first = torch.nn.Linear(3, 3)
        second = torch.nn.Linear(3, 3)
        second.weight = first.weight
        backbone.insert("pair", torch.nn.ModuleList([first, second]))
        return Segmenter(backbone, torch.nn.Identity()), pristine

    state = delta(*build())
    assert [n for n in state if n.endswith("weight")] == ["backbone.inserted.pair.0.weight"]
    fresh, _ = build()
    load_delta(fresh, state)
    second = fresh.backbone.inserted["pair"][1]
    assert torch.equal(second.weight, state["backbone.inserted.pair.0.weight"])


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


def test_only_a_backbone_without_a_method_can_be_copied() -> None:
    images, _ = batch()
    backbone = tiny("swin")
    twin = copy.deepcopy(backbone)
    METHODS["mona"]().apply(twin, CLASSES)
    assert len(backbone.inserted) == 0 and len(twin.inserted) > 0
    assert not any(map(torch.equal, backbone(images), twin(images)))
    assert all(map(torch.equal, backbone(images), tiny("swin")(images)))
    for method in ("mona", "lora", "vpt", "side"):
        tuned = tiny("vit")
        METHODS[method]().apply(tuned, CLASSES)
        with pytest.raises(TypeError, match="build a fresh one"):
            copy.deepcopy(tuned)


def test_full_tuning_on_one_position_of_one_image_is_refused() -> None:
    segmenter = tiny_segmenter("resnet", METHODS["full"]()).train()
    with pytest.raises(UserError, match=r"BatchNorm .* one position of one image.*batch_size=2"):
        segmenter(torch.randn(1, 3, 32, 32))
    assert segmenter.eval()(torch.randn(1, 3, 32, 32)).shape == (1, CLASSES, 8, 8)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@torch.no_grad()
def test_prompts_beside_rotary_positions_are_prefix_tokens(depth: str) -> None:
    """As registers that timm does not turn either: the same tokens given to it as its own."""
    arguments = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    torch.manual_seed(0)
    backbone = StagedBackbone(create_timm_model("vit_small_patch16_dinov3", arguments))
    assert backbone.prefix_tokens == 5
    twin = copy.deepcopy(backbone)
    METHODS["vpt"](tokens=3, depth=depth).apply(backbone, CLASSES)
    (prompts,) = backbone.inserted["prompts"].layers
    model = twin.model
    registers = model.reg_token
    model.reg_token = torch.nn.Parameter(torch.cat([registers, prompts[None]], dim=1))
    model.num_prefix_tokens = model.blocks[0].attn.num_prefix_tokens = 8
    twin._ends = [end._replace(prefix=8) for end in twin._ends]
    images = batch()[0]
    for ours, theirs in zip(backbone(images), twin(images), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_default_rank_fits_layers_that_are_smaller_than_it() -> None:
    backbone = StagedBackbone(create_timm_model("regnety_002", {}))
    pristine = snapshot(backbone)
    method = METHODS["lora"]()
    method.apply(backbone, CLASSES)
    layers = {n: m for n, m in backbone.model.named_modules() if hasattr(m, "base_layer")}
    for layer in layers.values():
        weight = layer.base_layer.weight
        assert layer.r["default"] == min(8, len(weight), weight[0].numel())
        assert layer.scaling["default"] == 2  # alpha / r, whatever the layer has
    assert min(layer.r["default"] for layer in layers.values()) == 6
    params = count_parameters(Segmenter(backbone, torch.nn.Identity()), pristine)
    assert "1 *.*.se.fc1 (rank 6)" in params.adapted
    assert params.adapted_share is not None and 0.8 < params.adapted_share <= 1
    other = StagedBackbone(create_timm_model("regnety_002", {}))
    with pytest.raises(ValueError, match=r"lora: rank must be at most 6 .* not 9"):
        METHODS["lora"](rank=9).apply(other, CLASSES)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_nfnet", "skresnet18", "tf_efficientnetv2_b0"])
def test_updates_fold_into_convolutions_of_their_own_kind(name: str) -> None:
    """Standardised weights, dilated ones, and padding as it goes."""
    backbone = StagedBackbone(create_timm_model(name, {}))
    method = METHODS["lora"]()
    method.apply(backbone, CLASSES)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.05)
    images = batch()[0]
    before = backbone(images)
    method.merge(backbone)
    assert set(backbone.model.state_dict()) == backbone.pretrained_names
    for ours, theirs in zip(backbone(images), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_nothing_is_folded_into_a_layer_that_standardises_its_weight() -> None:
    backbone = StagedBackbone(create_timm_model("test_nfnet", {}))
    method = METHODS["ssf"]()
    method.apply(backbone, CLASSES)
    with pytest.raises(Unsupported, match=r"nothing can be folded into .* changes its weight"):
        method.merge(backbone)


def test_images_upsampled_labels_reach_the_loss() -> None:
    method = METHODS["spm"](recurrence=1, placement="1")
    segmenter = tiny_segmenter("vit", method).train()
    images, labels = batch()
    segmenter(images)
    (m,) = segmenter.backbone.pass_state["maps"]
    up = F.interpolate(m.movedim(-1, 1), labels.shape[-2:], mode="bilinear")
    expected = 0.4 * F.cross_entropy(up, labels, ignore_index=255)
    torch.testing.assert_close(method.auxiliary_loss(segmenter.backbone, labels), expected)
