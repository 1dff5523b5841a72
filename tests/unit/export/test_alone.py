"""Exported files load in a process that has nothing of this package, and give the same labels."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.export.formats import export
from benchmark.export.graph import Network, takes_sizes
from benchmark.export.stage_files import export_stages
from benchmark.export.trained import open_run
from tests.helpers.trained import small_backbone, trained_run

pytestmark = pytest.mark.slow

START = """
import json, sys
from pathlib import Path
for name in ("benchmark", "methods"):
    sys.modules[name] = None
import numpy as np
path, folder = Path(sys.argv[1]), Path(sys.argv[2])
image = np.load(folder / "image.npy")
"""

ONNX = """
import onnxruntime
logits = onnxruntime.InferenceSession(str(path)).run(["logits"], {"image": image})[0]
assert "torch" not in sys.modules
"""

TORCH = """
import torch
logits = torch.export.load(path).module()(torch.from_numpy(image)).numpy()
"""

OPENVINO = """
import openvino
precise = {"INFERENCE_PRECISION_HINT": "f32"}
logits = openvino.Core().compile_model(path / "model.xml", "CPU", precise)(image)[0]
"""

TIMM = """
import timm, torch
from safetensors.torch import load_file
task = json.loads((path / "task.json").read_text())
model = timm.create_model(task["timm_model"], num_classes=0, **task["timm_kwargs"]).eval()
{load}
mean, std = (torch.tensor(task[key]).view(-1, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    maps = model.forward_intermediates(
        (torch.from_numpy(image) - mean) / std, indices=task["indices"],
        intermediates_only=True, output_fmt="NCHW", norm=False,
    )
    coarse = torch.export.load(path / "decoder.pt2").module()(*maps)
    logits = torch.nn.functional.interpolate(coarse, image.shape[2:], mode="bilinear").numpy()
"""

MERGED = TIMM.format(load='model.load_state_dict(load_file(path / "backbone.safetensors"))')

PEFT = TIMM.format(
    load="""
from peft import PeftModel
model.load_state_dict(load_file(folder / "base.safetensors"), strict=False)
model = PeftModel.from_pretrained(model, path).base_model.model.eval()
"""
)

END = """
np.save(folder / "labels.npy", logits.argmax(1))
"""


@pytest.mark.parametrize(
    ("form", "method", "script", "size"),
    [
        ("onnx", "lora", ONNX, (95, 130)),
        ("torch-export", "spm", TORCH, (95, 130)),
        ("openvino", "linear", OPENVINO, (95, 130)),
        ("merged", "lora", MERGED, (96, 132)),
        ("peft", "peft:dora", PEFT, (96, 132)),
    ],
)
def test_a_format_loads_without_this_package(runs, tmp_path, form, method, script, size):
    from safetensors.torch import save_file

    trained = open_run(runs(method))
    out = tmp_path / "out.pt2"
    written = export(trained, form, out)
    # OpenVINO resizes position embeddings without the filter that torch has.
    most = 0.5 if form == "openvino" else 1e-3
    assert written.agreement.same >= 0.999 and written.agreement.difference < most
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "image.npy", image.numpy())
    base = {k: v.contiguous() for k, v in trained.backbone().model.state_dict().items()}
    save_file(base, tmp_path / "base.safetensors")
    code = START + script + END
    subprocess.run(
        [sys.executable, "-I", "-c", code, str(out), str(tmp_path)], check=True, cwd=tmp_path
    )
    with torch.no_grad():
        wanted = Network(trained.segmenter())(image).argmax(1).numpy()
    assert (np.load(tmp_path / "labels.npy") == wanted).mean() >= 0.999


@pytest.mark.parametrize(
    ("family", "method", "decoder", "free"),
    [
        ("dinov3", "lora", "linear", True),
        ("swin", "lora", "linear", False),
        pytest.param("convnext", "spm", "upernet", True, marks=pytest.mark.exhaustive),
        ("vit", "spm", "segformer", True),
    ],
)
def test_backbones_and_decoders_in_onnx(tmp_path, family, method, decoder, free):
    backbone = small_backbone(family, tmp_path)
    run = trained_run(tmp_path / "results", method, backbone, tmp_path, decoder=decoder)
    written = export(open_run(run, weights=[tmp_path]), "onnx", tmp_path / "out.onnx")
    assert written.agreement.same >= 0.999
    assert written.notes == (takes_sizes(None if free else (64, 64)),)


@pytest.mark.parametrize(
    ("family", "methods", "between"),
    [
        ("resnet", ("spm", "linear"), (1, 2, 3, 4)),
        pytest.param("convnext", ("side", "lst"), (), marks=pytest.mark.exhaustive),
        pytest.param("swin", ("lst", "spm"), (1, 2, 3, 4), marks=pytest.mark.exhaustive),
        ("vit", ("linear", "side"), ()),
    ],
)
def test_two_tasks_share_the_files_of_the_stages(tmp_path, family, methods, between):
    """The second is written by `export_stages` only if its stages equal the first's, and here read
    again: bytes, names and all. That every method's pieces give its network: test_stages.py."""
    backbone = small_backbone(family, tmp_path)
    served = tmp_path / "served"
    height, width = (64, 64) if family == "swin" else (70, 100)
    before = {}
    for method in methods:
        run = trained_run(tmp_path / "results", method, backbone, tmp_path)
        trained = open_run(run, weights=[tmp_path])
        written = export_stages(trained, served)
        assert written.agreement.same >= 0.999
        files = {path.name: path.read_bytes() for path in (served / "backbone").iterdir()}
        assert before in ({}, files)
        before = files
        for content in files.values():
            assert run.name.encode() not in content and str(tmp_path).encode() not in content
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        subprocess.run(
            [sys.executable, "-I", "run_stages.py", f"tasks/{run.name}", "../image.png", "m.png"],
            check=True,
            cwd=served,
        )
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            wanted = Network(trained.segmenter())(image)[0].argmax(0).numpy()
        assert (np.asarray(Image.open(served / "m.png")) == wanted).mean() >= 0.999
        about = json.loads((served / "tasks" / run.name / "task.json").read_text())
        assert about["method"] == method
    assert len((served / "run_stages.py").read_text().splitlines()) <= 60
    assert {path.name for path in served.glob("tasks/*/between*.onnx")} == {
        f"between{number}.onnx" for number in between
    }
