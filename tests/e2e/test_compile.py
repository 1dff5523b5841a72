"""`run --compile`: the network is really compiled, and what that took stands in the record."""

import json

import pytest
from safetensors.torch import save_file

from benchmark.models.weights import create_timm_model
from tests.helpers.forked import call, clean
from tests.helpers.tiny import typed

TINY = [*typed(steps=14, crop=48, batch_size=2), "--benchmarks=cells"]


def write_shallow(folder):
    """Weights of a ViT with one block a stage, which takes half as long to compile."""
    kwargs = {"img_size": 96, "patch_size": 12, "embed_dim": 64, "depth": 4, "num_heads": 2}
    model = create_timm_model("vit_tiny_patch16_224", kwargs)
    about = {"timm_model": "vit_tiny_patch16_224", "timm_kwargs": json.dumps(kwargs)}
    save_file(model.state_dict(), folder / "shallow.safetensors", about)


@pytest.mark.slow
def test_a_compiled_run_says_what_it_cost_and_brought(tmp_path):
    write_shallow(tmp_path)
    asked = ["run", "--methods", "linear", *TINY, "--backbones", "shallow", "--weights", "."]
    for folder, compiling in (("plain", "never"), ("compiled", "always")):
        words = (*asked, "--compile", compiling, "--results", folder)
        # A cache of its own: nothing is known yet.
        done = call(*words, cwd=tmp_path, env=clean(TORCHINDUCTOR_CACHE_DIR="cache"))
        assert done.returncode == 0, done.stdout + done.stderr
    plain, compiled = (
        json.loads(next((tmp_path / folder).rglob("record.json")).read_text())
        for folder in ("plain", "compiled")
    )
    assert plain["execution"]["compiled"] is None
    found = compiled["execution"]["compiled"]
    assert found["after_step"] == 8 and found["seconds"] > 0 and found["gain"] > 0
    # Compiling takes seconds, the fourteen steps a fraction of one.
    assert compiled["costs"]["train"]["seconds"] < found["seconds"] < compiled["timings"]["train"]
    curves = [
        [json.loads(line) for line in next((tmp_path / folder).rglob("curve.jsonl")).open()]
        for folder in ("plain", "compiled")
    ]
    for a, b in zip(*curves, strict=True):
        # Until it is compiled, the training is the same to the bit.
        assert a == b if a["step"] <= 8 else a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_another_choice_is_one_line(tmp_path):
    done = call("run", *TINY, "--compile", "often", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--compile 'often': choose from auto, always, never" in done.stderr
