"""Requests that cannot be met, and files that fail their check."""

import sys

import pytest
import torch

from benchmark.core.errors import UserError
from benchmark.export import formats
from benchmark.export.agreement import compare
from benchmark.export.formats import draft, export, format_named
from benchmark.export.stage_files import export_stages
from benchmark.export.trained import open_run


def test_an_unknown_format_names_all():
    with pytest.raises(UserError) as error:
        format_named("onx")
    assert all(name in str(error.value) for name in formats.formats())


@pytest.mark.parametrize(("form", "module"), [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_missing_package_names_the_extra(monkeypatch, form, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"needs {module}.*petseg-bench\[{form}\]"):
        format_named(form)


@pytest.mark.parametrize("folder", [False, True])
def test_what_exists_is_replaced_by_force_alone(runs, tmp_path, folder):
    out = tmp_path / "out"
    out.mkdir() if folder else out.write_text("mine")
    (out / "mine").write_text("") if folder else None
    trained = open_run(runs("linear"))
    with pytest.raises(UserError, match="exists; choose another path, or replace it with --force"):
        export(trained, "folder", out)
    assert (out / "mine").exists() or out.read_text() == "mine"
    export(trained, "folder", out, force=True)
    assert {path.name for path in out.iterdir()} == {
        *("delta.safetensors", "record.json", "README.md")
    }
    assert list(tmp_path.iterdir()) == [out]


def test_what_was_there_stays_where_an_export_fails(tmp_path):
    out = tmp_path / "model.onnx"
    out.write_text("mine")
    with pytest.raises(UserError, match="disagree"), draft(out, force=True) as path:
        path.write_text("wrong")
        raise UserError("they disagree")
    assert out.read_text() == "mine" and list(tmp_path.iterdir()) == [out]
    with pytest.raises(UserError, match="there is no folder"), draft(out / "deeper", force=False):
        pass


def test_networks_that_disagree_are_refused():
    def network(image):
        return torch.cat([image, 1 - image], dim=1)

    sizes = [(1, 20, 30), (2, 10, 10)]
    agreement = compare(network, network, 1, sizes)
    assert (agreement.difference, agreement.same) == (0, 1)

    def shifted(image):
        logits = network(image)
        logits[:, 0] += 0.05
        return logits

    with pytest.raises(UserError, match="does not agree with torch: same labels on 9"):
        compare(network, shifted, 1, sizes)
    with pytest.raises(UserError, match="does not agree"):
        compare(network, lambda image: network(image) * float("nan"), 1, sizes)
    with pytest.raises(UserError, match="in place of"):
        compare(network, lambda image: network(image)[..., :5], 1, sizes)


def test_a_method_that_changes_stages_is_not_served_in_stages(runs, tmp_path):
    with pytest.raises(UserError, match=r"changes what is inside them.*blocks\.0"):
        export_stages(open_run(runs("lora")), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_gets_no_stages(runs, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(UserError, match="holds no backbone"):
        export_stages(open_run(runs("linear")), tmp_path)


def test_a_run_without_its_tensors_cannot_be_exported(runs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.json").write_bytes((runs("linear") / "record.json").read_bytes())
    with pytest.raises(UserError, match="is missing"):
        open_run(run)
