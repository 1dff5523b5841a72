"""Stages, names and hooks of backbones, and where their weights come from."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from benchmark.contract.models import FAMILIES, batch, tiny
from benchmark.core.errors import UserError
from benchmark.models import weights
from benchmark.models.backbone import StagedBackbone
from benchmark.models.checkpoint import load_checkpoint
from benchmark.models.find_weights import expand
from benchmark.models.weights import build_backbone, find_weights, resolve_weights
from methods import METHODS, Unsupported

KINDS = {"vit": "plain", "swin": "hierarchical"}

each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_features_have_the_declared_channels_and_strides(family: str) -> None:
    backbone = tiny(family)
    assert backbone.kind == KINDS.get(family, "cnn")
    assert backbone.strides == ((16,) * 4 if family == "vit" else (4, 8, 16, 32))
    assert not any(p.requires_grad for p in backbone.parameters())
    for height, width in ((96, 160), (64, 64)):
        features = backbone(batch((height, width), n=1)[0])
        assert [tuple(f.shape) for f in features] == [
            (1, c, height // s, width // s)
            for c, s in zip(backbone.channels, backbone.strides, strict=True)
        ]


@each_family
def test_no_parameter_lies_behind_the_features(family: str) -> None:
    backbone = tiny(family)
    backbone.model.requires_grad_(True)
    sum(f.square().sum() for f in backbone(batch()[0])).backward()
    assert [n for n, p in backbone.model.named_parameters() if p.grad is None] == []


@each_family
@pytest.mark.parametrize("stage", range(4))
@torch.no_grad()
def test_a_boundary_is_seen_by_the_features_and_by_the_next_stage(family: str, stage: int) -> None:
    backbone = tiny(family)
    images = batch((64, 96))[0]
    before = backbone(images)
    seen: list[torch.Tensor] = []
    backbone.at_boundary(stage, lambda x: seen.append(x) or 2 * x)
    backbone.at_boundary(stage, lambda x: x + 1)
    after = backbone(images)
    assert torch.equal(seen[0], before[stage])
    assert torch.equal(after[stage], 2 * before[stage] + 1)
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        assert torch.equal(a, b) == (i < stage)


@torch.no_grad()
def test_prefix_tokens_pass_a_boundary_unchanged() -> None:
    backbone = tiny("vit")
    outputs: list[torch.Tensor] = []
    block = backbone.model.get_submodule(backbone.stage_ends[1])
    block.register_forward_hook(lambda m, a, y: outputs.append(y))
    backbone.at_boundary(1, torch.zeros_like)
    block.register_forward_hook(lambda m, a, y: outputs.append(y))
    backbone(batch()[0])
    assert torch.equal(outputs[0][:, 0], outputs[1][:, 0])
    assert not outputs[1][:, 1:].any()


def test_blocks_of_a_plain_transformer_are_split_as_equally_as_possible() -> None:
    assert [len(blocks) for blocks in tiny("vit").stage_blocks()] == [1, 1, 2, 1]
    assert tiny("vit").stage_blocks()[2] == ("blocks.2", "blocks.3")


@each_family
def test_every_block_belongs_to_one_stage(family: str) -> None:
    backbone = tiny(family)
    stages = backbone.stage_blocks()
    assert [name for blocks in stages for name in blocks] == backbone.names("block")
    assert all(stages)


def test_names_by_role() -> None:
    vit, swin, convnext = tiny("vit"), tiny("swin"), tiny("convnext")
    assert vit.names("qkv") == [f"blocks.{i}.attn.qkv" for i in range(5)]
    assert vit.names("proj") == [f"blocks.{i}.attn.proj" for i in range(5)]
    assert vit.names("attention") == [f"blocks.{i}.attn" for i in range(5)]
    assert vit.names("mlp") == [f"blocks.{i}.mlp" for i in range(5)]
    assert vit.names("norm") == [f"blocks.{i}.norm{j}" for i in range(5) for j in (1, 2)]
    assert vit.names("conv") == []
    assert swin.names("fc2")[0] == "layers.0.blocks.0.mlp.fc2"
    assert len(swin.names("qkv")) == 5
    assert convnext.names("fc1")[-1] == "stages.3.blocks.0.mlp.fc1"
    assert convnext.names("conv") == [f"stages.{i}.downsample.1" for i in (1, 2, 3)]
    assert tiny("bottleneck").names("conv")[:4] == [
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer1.0.conv3",
        "layer1.0.downsample.0",
    ]
    mobilenet = tiny("mobilenet")
    convs = [mobilenet.model.get_submodule(name) for name in mobilenet.names("conv")]
    assert all(c.groups == 1 for c in convs)
    assert "conv_stem" not in mobilenet.names("conv")
    assert mobilenet.stage_blocks()[0] == ("blocks.0.0", "blocks.1.0", "blocks.1.1")


def test_attention_that_uses_its_weight_without_a_call_has_no_qkv_to_hook() -> None:
    kwargs = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    model = weights.create_timm_model("swinv2_tiny_window8_256", kwargs)
    backbone = StagedBackbone(model)
    assert backbone.names("qkv") == []
    assert len(backbone.names("proj")) == 4
    method = METHODS["lora"]()
    method.apply(backbone, 4)
    trained = [n for n, p in backbone.named_parameters() if p.requires_grad and "qkv" in n]
    assert len(trained) == 2 * 4
    images = torch.randn(1, 3, 64, 64)
    for update in trained:
        torch.nn.init.normal_(backbone.get_parameter(update))
    before = backbone(images)
    method.merge(backbone)
    assert set(backbone.model.state_dict()) == backbone.pretrained_names
    for ours, theirs in zip(backbone(images), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_width_of_blocks_inside_a_stage_may_differ() -> None:
    backbone = tiny("mobilenet")
    assert (backbone.width("blocks.0.0"), backbone.width("blocks.1.0")) == (8, 8)
    assert (backbone.width("blocks.3.0"), backbone.width("blocks.4.0")) == (24, 32)


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("vit", ["attention", "mlp"] * 5),
        ("swin", ["attention", "mlp"] * 5),
        ("convnext", ["mlp"] * 5),
        ("convnext_conv", ["mlp"] * 5),
        ("resnet", []),
        ("mobilenet", []),
    ],
)
def test_residual_branches(family: str, parts: list[str]) -> None:
    assert [branch.part for branch in tiny(family).branches()] == parts


@pytest.mark.parametrize("family", ["vit", "swin", "convnext", "convnext_conv"])
def test_beside_and_behind_see_the_branch(family: str) -> None:
    images, _ = batch((64, 96))
    backbone, other = tiny(family), tiny(family)
    branch = backbone.branches()[-1]
    module = other.model.get_submodule(branch.block)
    seen: list[torch.Tensor] = []
    # Twice the branch: once as it is, once more through its own modules and the norm's output.
    backbone.behind(branch, lambda y, x: (seen.append(x), 2 * y)[1])
    other.after(branch.end, lambda _, y: 2 * y)
    for a, b in zip(backbone(images), other(images), strict=True):
        assert torch.equal(a, b)
    assert seen[0].shape[-1] == branch.width
    third = tiny(family)
    third.beside(
        branch,
        lambda h: (
            0.5 * module.mlp(h.movedim(-1, 1)).movedim(1, -1)
            if family == "convnext_conv"
            else 0.5 * module.mlp(h)
        ),
    )
    fourth = tiny(family)
    scale = getattr(module, "gamma", None)
    if scale is None:
        fourth.after(branch.end, lambda _, y: 1.5 * y)
        for a, b in zip(third(images), fourth(images), strict=True):
            torch.testing.assert_close(a, b)
    third.release()
    for a, b in zip(third(images), tiny(family)(images), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("inception_v3", "the map of stage 1 has 71x71 positions in place of 75x75 .*not cover"),
        (
            "hrnet_w18_small",
            "nothing can be attached behind its stage 2, because no module of",
        ),
    ],
)
def test_models_that_cannot_be_staged_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        StagedBackbone(timm.create_model(name, num_classes=0), name=name)


def staged(name: str, crop: int = 64, **kwargs: object) -> StagedBackbone:
    torch.manual_seed(0)
    return weights.ResolvedWeights(name, "random", None, name, kwargs).build(crop)


SMALL = {"depth": 4, "embed_dim": 48, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "kwargs", "kind"),
    [
        ("repvgg_a0", {}, "cnn"),
        ("gernet_s", {}, "cnn"),
        ("darknet17", {}, "cnn"),
        ("regnetz_b16", {}, "cnn"),
        ("efficientnet_b0", {}, "cnn"),
        ("fastvit_sa12", {}, "cnn"),  # attention in the last of four stages
        ("coatnet_pico_rw_224", {}, "hierarchical"),  # in the last two
        ("pvt_v2_b0", {}, "hierarchical"),
        ("vit_small_patch16_dinov3", SMALL, "plain"),
        ("xcit_nano_12_p16_224", {"depth": 4}, "plain"),
    ],
)
def test_the_kind_is_what_a_pass_computes(name: str, kwargs: dict[str, int], kind: str) -> None:
    assert staged(name, **kwargs).kind == kind


@pytest.mark.parametrize(
    ("name", "kwargs", "widths"),
    [
        # Blocks with the channels last in a model with the channels first.
        ("swinv2_cr_tiny_224", {"embed_dim": 24, "depths": (2, 1, 1, 1)}, {24, 48, 96, 192}),
        ("tiny_vit_5m_224", {}, {64, 128, 160, 320}),
        # As many channels as rows or columns in small passes.
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 16, "depths": (1, 1, 1, 1)},
            {16, 32, 64, 128},
        ),
        ("convnext_tiny", {"dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1)}, {8, 12, 16, 24}),
    ],
)
def test_widths_are_channels_whatever_the_layout(
    name: str, kwargs: dict[str, object], widths: set[int]
) -> None:
    backbone = staged(name, **kwargs)
    blocks = [block for stage in backbone.stage_blocks() for block in stage]
    assert {backbone.width(block) for block in blocks} == widths
    seen: dict[str, int] = {}
    for block in blocks:
        backbone.after_block(block, lambda y, block=block: seen.update({block: y.shape[-1]}) or y)
    backbone(torch.randn(1, 3, 4 * backbone.divisor, 5 * backbone.divisor))
    assert seen == {block: backbone.width(block) for block in blocks}


def test_a_convolutional_stem_is_no_block_of_a_plain_transformer() -> None:
    backbone = staged("vit_small_r26_s32_224", **SMALL)
    assert backbone.stage_blocks() == tuple((f"blocks.{i}",) for i in range(4))
    assert backbone.embedding_channels == 48


@pytest.mark.parametrize(
    ("name", "kwargs", "role", "names"),
    [
        ("pvt_v2_b0", {}, "qkv", ["stages.0.blocks.0.attn.q", "stages.0.blocks.0.attn.kv"]),
        (
            "eva02_base_patch14_224",
            SMALL,
            "qkv",
            [f"blocks.0.attn.{leaf}" for leaf in ("q_proj", "k_proj", "v_proj")],
        ),
        (
            "vit_small_plus_patch16_dinov3",
            SMALL,
            "fc1",
            ["blocks.0.mlp.fc1_g", "blocks.0.mlp.fc1_x"],
        ),
    ],
)
def test_separate_projections_and_gates_have_a_role(
    name: str, kwargs: dict[str, int], role: str, names: list[str]
) -> None:
    found = staged(name, **kwargs).names(role)  # type: ignore[arg-type]
    assert found[: len(names)] == names


@torch.no_grad()
def test_a_model_of_one_image_size_is_built_at_the_crop() -> None:
    small = {"depth": 4, "embed_dim": 48, "num_heads": 2}
    backbone = staged("beit_base_patch16_224", crop=96, **small)
    assert (backbone.fixed_side, backbone.divisor) == (96, 16)
    assert [tuple(f.shape) for f in backbone(torch.randn(1, 3, 96, 96))] == [(1, 48, 6, 6)] * 4
    assert backbone.padded(50, 200) == (96, 208)
    any_size = staged("vit_tiny_patch16_224", **small)
    assert any_size.fixed_side is None
    assert any_size.padded(50, 200) == (64, 208)
    again = staged("beit_base_patch16_224", crop=96, **small)
    for ours, theirs in zip(backbone.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("mvitv2_tiny", (4, 8, 16, 32)),
        ("selecsls42", (8, 16, 32, 64)),
        ("rdnet_tiny", (4, 8, 16, 32)),
        ("visformer_tiny", (8, 16, 32)),
        ("twins_svt_small", (4, 8, 16, 32)),
    ],
)
@torch.no_grad()
def test_what_is_attached_behind_a_stage_reaches_the_features(
    name: str, strides: tuple[int, ...]
) -> None:
    backbone = staged(name)
    assert backbone.strides == strides
    images = torch.randn(1, 3, 64, 64)
    before = backbone(images)
    backbone.at_boundary(1, lambda x: x + 1)
    after = backbone(images)
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1] + 1)
    assert not any(torch.equal(a, b) for a, b in zip(after[2:], before[2:], strict=True))


def test_what_has_no_map_is_refused_where_one_is_needed() -> None:
    hiera = staged("hiera_tiny_224", embed_dim=24, stages=(1, 1, 2, 1))
    with pytest.raises(Unsupported, match=r"stage 1 of Hiera .* in another order"):
        hiera.at_boundary(0, torch.zeros_like)
    with pytest.raises(Unsupported, match="has 3 stages, so there is no end of stage 4"):
        staged("visformer_tiny").at_boundary(3, torch.zeros_like)
    with pytest.raises(Unsupported, match="takes 64x64 px images only"):
        METHODS["vpt"]().apply(staged("botnet26t_256"), 4)


ARGS = {"depth": 4, "embed_dim": 16, "num_heads": 1}


def write(path: Path, drop: str = "", **metadata: str) -> Path:
    """A weights file of a small ViT with a classifier, in half precision."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **ARGS)
    state = {k: v.half() for k, v in model.state_dict().items() if k != drop}
    base = {"timm_model": "vit_tiny_patch16_224", "timm_kwargs": json.dumps(ARGS)}
    save_file(state, path, {**base, **metadata})
    return path


def test_a_weights_file_says_how_to_build_and_normalise(tmp_path: Path) -> None:
    write(tmp_path / "mine.safetensors", mean="[0.1, 0.2, 0.3]", std="[1, 1, 2]")
    backbone = build_backbone("mine", "pretrained", [tmp_path])
    assert backbone.channels == (16,) * 4
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    assert backbone.weights_source == "mine.safetensors"
    assert len(backbone.weights_sha256 or "") == 64
    assert all(p.dtype == torch.float32 for p in backbone.parameters())
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **ARGS)
    expected = model.blocks[2].mlp.fc1.weight.half().float()
    assert torch.equal(backbone.model.get_parameter("blocks.2.mlp.fc1.weight"), expected)


def test_random_weights_follow_the_global_generator(tmp_path: Path) -> None:
    write(tmp_path / "mine.safetensors")
    first, second, third = (
        torch.manual_seed(seed) and build_backbone("mine", "none", [tmp_path]) for seed in (1, 1, 2)
    )
    name = "blocks.0.mlp.fc1.weight"
    values = [b.model.get_parameter(name) for b in (first, second, third)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert (first.weights_source, first.weights_sha256) == ("none (random)", None)


def test_look_up_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    exact = write(second / "mine.safetensors")
    tagged = write(first / "mine.tag.safetensors")
    assert find_weights("mine", [first, second]) == tagged
    assert find_weights("mine", [second, first]) == exact
    assert find_weights("mine.tag", [second, first]) == tagged
    assert find_weights("min", [first, second]) is None
    write(first / "mine.other.safetensors")
    with pytest.raises(UserError, match=r"2 weights files .*'mine\.other', 'mine\.tag'"):
        find_weights("mine", [first])


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write(tmp_path / "short.safetensors", drop="blocks.1.norm1.weight")
    with pytest.raises(UserError, match=r"short\.safetensors .*misses blocks\.1\.norm1\.weight"):
        build_backbone("short", "pretrained", [tmp_path])
    write(tmp_path / "wide.safetensors", timm_kwargs=json.dumps({**ARGS, "embed_dim": 32}))
    with pytest.raises(UserError, match=r"wide\.safetensors .*other shapes in .* more tensors"):
        build_backbone("wide", "pretrained", [tmp_path])
    write(tmp_path / "deep.safetensors", timm_kwargs=json.dumps({**ARGS, "depth": 3}))
    with pytest.raises(UserError, match=r"deep\.safetensors .*unknown blocks\.3"):
        build_backbone("deep", "pretrained", [tmp_path])
    (tmp_path / "text.safetensors").write_text("not a weights file")
    with pytest.raises(UserError, match=r"text\.safetensors cannot be read"):
        resolve_weights("text", "pretrained", [tmp_path])
    write(tmp_path / "odd.safetensors", timm_model="no_such_model")
    with pytest.raises(UserError, match=r"odd\.safetensors: .*no_such_model"):
        resolve_weights("odd", "none", [tmp_path])


RESNET = {"channels": (8, 12, 16, 20)}


def checkpoint(
    path: Path, model: str, kwargs: dict[str, object], change: Callable[[dict], dict] = dict
) -> dict[str, torch.Tensor]:
    """A weights file, and what a model without a classifier holds that it was made from."""
    torch.manual_seed(0)
    state = timm.create_model(model, num_classes=10, **kwargs).state_dict()
    metadata = {"timm_model": model, "timm_kwargs": json.dumps(kwargs)}
    save_file(change({k: v.clone() for k, v in state.items()}), path, metadata)
    return state


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "model.", "encoder.", "module.model.backbone."]
)
def test_what_stands_in_front_of_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        head = {"decode_head.conv_seg.weight": torch.zeros(3)}
        return {f"{prefix}{name}": tensor for name, tensor in state.items()} | head

    state = checkpoint(tmp_path / "mine.safetensors", "resnet10t", RESNET, change)
    with pytest.warns(UserWarning, match=rf"mine\.safetensors: names without '{prefix}', 1 other"):
        backbone = build_backbone("mine", "pretrained", [tmp_path])
    assert torch.equal(
        backbone.model.get_parameter("layer3.0.conv1.weight"), state["layer3.0.conv1.weight"]
    )
    assert backbone.weights_source == (
        f"mine.safetensors (names without '{prefix}', 1 other tensor left out)"
    )


def test_counters_of_batch_norm_may_be_missing(tmp_path: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}

    state = checkpoint(tmp_path / "mine.safetensors", "resnet10t", RESNET, change)
    backbone = build_backbone("mine", "pretrained", [tmp_path])
    assert torch.equal(backbone.model.get_buffer("bn1.running_mean"), state["bn1.running_mean"])
    assert backbone.weights_source == "mine.safetensors"


def test_positions_of_another_image_size_are_resized_as_timm_does(tmp_path: Path) -> None:
    written = {**ARGS, "img_size": 64}
    state = checkpoint(tmp_path / "mine.safetensors", "vit_tiny_patch16_224", written)
    save_file(state, tmp_path / "vit_tiny_patch16_224.safetensors")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **ARGS)
    done = None
    with pytest.warns(UserWarning, match=r"timm resized pos_embed from \(1, 17, 16\) to \(1, 197"):
        done = load_checkpoint(model, tmp_path / "mine.safetensors")
    assert done == "timm resized pos_embed from (1, 17, 16) to (1, 197, 16)"
    expected = resample_abs_pos_embed(state["pos_embed"], [14, 14], num_prefix_tokens=1)
    assert torch.equal(model.pos_embed, expected)


def test_weights_that_are_not_finite_are_refused_as_such(tmp_path: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state["layer2.0.bn1.running_var"][3] = float("nan")
        state["conv1.0.weight"][0, 0, 0, 0] = float("inf")
        return state

    checkpoint(tmp_path / "mine.safetensors", "resnet10t", RESNET, change)
    with pytest.raises(UserError, match=r"not finite, in conv1\.0\.weight and 1 more tensors"):
        build_backbone("mine", "pretrained", [tmp_path])


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".a1_in1k.pth"])
def test_a_file_of_another_format_is_named_with_what_to_do(tmp_path: Path, suffix: str) -> None:
    state = checkpoint(tmp_path / "mine.safetensors", "resnet10t", RESNET)
    path = tmp_path / f"resnet50{suffix}"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    with pytest.raises(UserError) as error:
        resolve_weights("resnet50", "pretrained", [tmp_path])
    told = str(error.value)
    assert f"{path} is there, but only safetensors files are read; convert it" in told
    command = re.search(r'python -c "(.*)"', told)
    assert command is not None
    with contextlib.chdir(tmp_path):
        exec(command[1], {})
    assert load_file(tmp_path / "resnet50.safetensors").keys() == state.keys()
    (tmp_path / "other.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"unknown backbone 'other': .*other\.pth is there"):
        resolve_weights("other", "pretrained", [tmp_path])


def test_a_missing_file_is_named_with_every_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_hub_answers", lambda name: False)
    monkeypatch.setattr(weights, "cached_weights", lambda name: None)
    for call in (resolve_weights, build_backbone):
        with pytest.raises(UserError) as error:
            call("resnet50", "pretrained", [tmp_path])
        text = str(error.value)
        for part in (
            f"resnet50.safetensors or resnet50.<tag>.safetensors in {tmp_path}",
            "--weights DIR",
            "BENCHMARK_WEIGHTS",
            "timm.create_model('resnet50', pretrained=True)",
            "--weights none",
        ):
            assert part in text
        assert "\n" not in text
    resolve_weights("resnet50", "none", [tmp_path])


def test_globs_stand_for_the_weights_that_are_here(tmp_path: Path) -> None:
    for name in ("vit_a", "vit_b", "net"):
        write(tmp_path / f"{name}.safetensors")
    assert expand(["vit_*", "resnet50", "vit_b", "demo*"], [tmp_path]) == [
        "vit_a", "vit_b", "resnet50", "demo_vit",
    ]  # fmt: skip
    with pytest.raises(
        UserError, match=r"no weights file matches 'swin\*' in .*; `list backbones`"
    ):
        expand(["vit_*", "swin*"], [tmp_path])


def test_unknown_names_get_suggestions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'resnet5O'.*did you mean .*resnet50"):
        resolve_weights("resnet5O", "none", [tmp_path])
    write(tmp_path / "demo_net.safetensors")
    with pytest.raises(UserError, match="did you mean demo_net"):
        resolve_weights("demo_nett", "pretrained", [tmp_path])
    write(tmp_path / "vit_tiny_patch16_224.mine.safetensors")
    here = r"did you mean vit_tiny_patch16_224\.mine \(weights are here\), "
    with pytest.raises(UserError, match=here):
        resolve_weights("vit_tinny", "pretrained", [tmp_path])
    with pytest.raises(UserError, match=r"no weights 'a1_in2k' for 'resnet50'.*resnet50\.a1_in1k"):
        resolve_weights("resnet50.a1_in2k", "none", [tmp_path])


def test_a_hub_that_hangs_is_not_waited_for() -> None:
    import time

    start = time.monotonic()
    assert not weights._within(0.1, lambda: time.sleep(3))
    assert time.monotonic() - start < 2


@pytest.mark.realdata
def test_real_weights_load_strictly(weights_root: Path) -> None:
    files = sorted(weights_root.glob("*.safetensors"))
    assert files
    for file in files:
        name = file.name.removesuffix(".safetensors")
        backbone = build_backbone(name, "pretrained", [weights_root])
        assert backbone.weights_source == file.name
        features = backbone(batch((96, 160), n=1)[0])
        assert all(torch.isfinite(f).all() for f in features)
        assert build_backbone(name.split(".")[0], "pretrained", [weights_root]).mean


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in KINDS])
def test_a_cnn_computes_with_the_channels_last_but_its_weights_stay_as_they_are(
    family: str,
) -> None:
    backbone = tiny(family)
    last = torch.channels_last
    images = batch()[0]
    seen: list[torch.Tensor] = []
    backbone.after(backbone.stage_ends[1], lambda _, y: seen.append(y) or y)  # type: ignore[func-returns-value]
    features = backbone(images)
    assert seen[0].is_contiguous(memory_format=last) and not seen[0].is_contiguous()
    assert all(parameter.is_contiguous() for parameter in backbone.parameters())
    for ours, theirs in zip(features, backbone(images.contiguous(memory_format=last)), strict=True):
        assert torch.equal(ours, theirs)
