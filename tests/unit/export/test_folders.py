"""What is exported as a folder: loaded by timm, by peft, and by `benchmark.load`."""

import json
import os

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from peft import PeftModel
from safetensors.torch import load_file

import benchmark
from benchmark.core.errors import UserError
from benchmark.export.formats import FILES, export
from benchmark.export.graph import Network
from benchmark.export.trained import open_run


def logits_of(model, folder, image):
    """By the recipe in `task.json`, with timm and torch alone."""
    task = json.loads((folder / "task.json").read_text())
    mean, std = (torch.tensor(task[key]).view(-1, 1, 1) for key in ("mean", "std"))
    maps = model.forward_intermediates(
        (image - mean) / std,
        indices=task["indices"],
        intermediates_only=True,
        output_fmt="NCHW",
        norm=False,
    )
    decoder = torch.export.load(folder / "decoder.pt2").module()
    return F.interpolate(decoder(*maps), image.shape[-2:], mode="bilinear")


def timm_model(folder):
    task = json.loads((folder / "task.json").read_text())
    return timm.create_model(task["timm_model"], num_classes=0, **task["timm_kwargs"]).eval()


@pytest.fixture
def image():
    return torch.rand(2, 3, 96, 120, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_folded_run_is_a_plain_timm_model(runs, tmp_path, image):
    trained = open_run(runs("ssf"))
    before = os.umask(0o027)
    written = export(trained, "merged", tmp_path / "out")
    os.umask(before)
    assert {path.name for path in (tmp_path / "out").iterdir()} < FILES
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}
    about = json.loads((tmp_path / "out" / "task.json").read_text())
    assert about["agreement"] == str(written.agreement)
    assert written.agreement.same == 1
    model = timm_model(tmp_path / "out")
    model.load_state_dict(load_file(tmp_path / "out" / "backbone.safetensors"), strict=True)
    wanted = Network(trained.segmenter())(image)
    torch.testing.assert_close(logits_of(model, tmp_path / "out", image), wanted, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("method", ["lora", "peft:vera"])
def test_peft_loads_the_adapter(runs, tmp_path, image, method):
    trained = open_run(runs(method))
    export(trained, "peft", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} < FILES
    mode = (tmp_path / "out" / "task.json").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {mode}
    model = timm_model(tmp_path / "out")
    model.load_state_dict(trained.backbone().model.state_dict(), strict=False)
    frozen = logits_of(model, tmp_path / "out", image)
    adapted = PeftModel.from_pretrained(model, tmp_path / "out").eval()
    found = logits_of(adapted.base_model.model, tmp_path / "out", image)
    wanted = Network(trained.segmenter())(image)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert (frozen - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("form", "method", "reason"),
    [
        ("merged", "spm", "cannot be folded into the backbone's weights: it adds modules"),
        ("peft", "spm", "puts no layers of peft into the backbone"),
        ("peft", "linear", "puts no layers of peft into the backbone"),
    ],
)
def test_what_a_method_cannot_be_is_refused(runs, tmp_path, form, method, reason):
    with pytest.raises(UserError, match=reason):
        export(open_run(runs(method)), form, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_for_a_hub_loads_and_has_a_card(runs, tmp_path):
    run = runs("lora")
    export(open_run(run), "folder", tmp_path / "out")
    network = benchmark.load(tmp_path / "out")
    assert network.record.run_id == run.name
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    assert "Precision: predict computes in fp32." in body
    assert card["pipeline_tag"] == "image-segmentation"
    assert "base_model" not in card  # the demo's backbone is on no hub
    (result,) = card["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(network.record.metrics.miou, 4)
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert len(code.splitlines()) <= 6
