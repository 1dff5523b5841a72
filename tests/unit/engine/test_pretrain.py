import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open

import benchmark
from benchmark.engine import pretrain as module
from benchmark.engine.pretrain import pretrain

SHIPPED = Path(benchmark.__file__).parent / "weights" / "demo_vit.safetensors"
KEYS = {"timm_model", "timm_kwargs", "mean", "std", "input_size", "source", "license", "arguments"}


def rebuilt(path: Path) -> tuple[torch.nn.Module, dict[str, str]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {value.dtype for value in state.values()} == {torch.float16}
    kwargs = json.loads(metadata["timm_kwargs"])
    model = timm.create_model(
        metadata["timm_model"], pretrained=False, num_classes=0, dynamic_img_size=True, **kwargs
    )
    model.load_state_dict(state, strict=True)
    return model, metadata


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return pretrain(tmp_path_factory.mktemp("a") / "tiny.safetensors", 3, 4, seed=1)


def test_same_arguments_give_same_bytes(tiny, tmp_path):
    assert sha256(pretrain(tmp_path / "again.safetensors", 3, 4, seed=1)) == sha256(tiny)
    assert sha256(pretrain(tmp_path / "other.safetensors", 3, 4, seed=2)) != sha256(tiny)


def test_the_callers_random_state_and_folder_are_left_alone(tmp_path):
    before = torch.get_rng_state()
    pretrain(tmp_path / "new" / "w.safetensors", 1, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_progress_counts_to_the_end(tmp_path):
    seen = []
    pretrain(tmp_path / "w.safetensors", 2, 2, progress=lambda *args: seen.append(args))
    assert seen[-1][:2] == (2, 2)
    assert seen[-1][2] > 0


@pytest.mark.parametrize("which", ["tiny", "shipped"])
def test_the_file_rebuilds_its_backbone(which, tiny):
    path = SHIPPED if which == "shipped" else tiny
    assert path.stat().st_size <= 4 * 2**20
    model, metadata = rebuilt(path)
    assert set(metadata) == KEYS
    assert metadata["license"] == "Apache-2.0"
    assert len(json.loads(metadata["mean"])) == len(json.loads(metadata["std"])) == 3
    channels, height, width = json.loads(metadata["input_size"])
    assert torch.isfinite(model.eval()(torch.zeros(1, channels, height, width))).all()


def test_the_shipped_file_was_made_with_the_default_arguments():
    _, metadata = rebuilt(SHIPPED)
    assert json.loads(metadata["arguments"]) == {
        "steps": module.STEPS,
        "batch_size": module.BATCH_SIZE,
        "seed": module.SEED,
    }
    assert json.loads(metadata["timm_kwargs"]) == module.KWARGS


def test_pretrained_features_are_not_the_initial_ones():
    model, metadata = rebuilt(SHIPPED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(module.SEED)
        fresh = timm.create_model(
            metadata["timm_model"], num_classes=0, **json.loads(metadata["timm_kwargs"])
        )
    moved = (model.patch_embed.proj.weight - fresh.patch_embed.proj.weight).norm()
    assert moved > 0.5 * fresh.patch_embed.proj.weight.norm()
