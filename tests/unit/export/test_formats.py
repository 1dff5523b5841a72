"""Requests that cannot be met, and files that fail their check."""

import sys

import numpy as np
import pytest
import torch

from benchmark.core.errors import DataError, UserError
from benchmark.export import formats
from benchmark.export.agreement import compare, percent
from benchmark.export.formats import draft, export, format_named
from benchmark.export.pictures import drawn, pictures_of
from benchmark.export.stage_files import export_stages
from benchmark.export.trained import open_run
from benchmark.planning.catalogue import BENCHMARKS


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
    (out / "task.json").write_text("") if folder else None
    trained = open_run(runs("linear"))
    with pytest.raises(UserError, match="exists; choose another path, or replace it with --force"):
        export(trained, "folder", out)
    assert (out / "task.json").exists() or out.read_text() == "mine"
    export(trained, "folder", out, force=True)
    assert {path.name for path in out.iterdir()} == {
        *("delta.safetensors", "record.json", "README.md")
    }
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_something_else_is_not_replaced(runs, tmp_path):
    out = tmp_path / "out"
    (out / "photos").mkdir(parents=True)
    with pytest.raises(UserError, match="holds photos, which no export writes"):
        export(open_run(runs("linear")), "folder", out, force=True)
    assert (out / "photos").is_dir() and list(tmp_path.iterdir()) == [out]


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

    def predict(image):  # bright below, where the network says dark
        return np.where(
            np.arange(len(image))[:, None] < 5, image[..., 0] < 128, image[..., 0] > 127
        )

    pictures = drawn([(1, 20, 30), (2, 10, 10)], 1)

    def compared(exported):
        return compare(network, exported, pictures, predict, "bf16")

    agreement = compared(network)
    assert (agreement.difference, agreement.same) == (0, 1)
    assert agreement.predicted == (5 * 30 + 2 * 5 * 10) / (20 * 30 + 2 * 10 * 10)
    text = (
        "same labels as torch in fp32 on 100.00 % of the pixels (logits differ by at most 0.0e+00)"
    )
    assert str(agreement).startswith(f"{text}, as predict in bf16 on 31.25 %; compared on drawn")

    def shifted(image):
        logits = network(image)
        logits[:, 0] += 0.05
        return logits

    with pytest.raises(UserError, match="agree with torch: same labels as torch in fp32 on 96"):
        compared(shifted)
    with pytest.raises(UserError, match="does not agree"):
        compared(lambda image: network(image) * float("nan"))
    with pytest.raises(UserError, match="in place of"):
        compared(lambda image: network(image)[..., :5])


def test_test_images_are_compared_where_they_are_here(runs, monkeypatch):
    trained = open_run(runs("linear"))
    pictures = pictures_of(trained, [(1, 40, 50), (4, 200, 30)])
    benchmark = BENCHMARKS.get("figures")(None)
    image, _ = benchmark.read(benchmark.ids("test")[0])
    top, left = (image.shape[0] - 40) // 2, (image.shape[1] - 50) // 2
    first, tall = pictures.batches
    assert np.array_equal(first[0], image[top : top + 40, left : left + 50])
    assert tall.shape == (4, 200, 30, 3) and not np.array_equal(tall[0], tall[1])
    assert str(pictures) == "crops of test images of figures (1 x 40x50, 4 x 200x30 px)"

    def no_data(*_):
        raise DataError("BENCHMARK_DATA is not set")

    monkeypatch.setattr(type(benchmark), "ids", no_data)
    pictures = pictures_of(trained, [(2, 40, 50)])
    assert str(pictures) == "drawn images: those of figures are not here (2 x 40x50 px)"
    assert pictures.batches[0].shape == (2, 40, 50, 3)


def test_a_share_is_not_rounded_up():
    assert [percent(share) for share in (1, 0.99999, 0.99914)] == ["100.00 %", "99.99 %", "99.91 %"]


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
