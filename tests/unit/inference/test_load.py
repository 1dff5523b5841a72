"""Finished runs are loaded, and label images as their evaluation did."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import benchmark
from benchmark.core.errors import UserError
from benchmark.core.record import Task
from benchmark.data.base import BENCHMARKS, IGNORE
from benchmark.execution.splits import decoded
from benchmark.models.delta import bytes_of
from benchmark.models.weights import ResolvedWeights
from benchmark.planning import plugins
from benchmark.results import store
from tests.helpers.documents import fences


def counts_of(network, example):
    mask = network.predict(example.image)
    counted = example.label != IGNORE
    classes = range(len(network.classes))
    return {
        "intersection": [((mask == k) & (example.label == k)).sum() for k in classes],
        "prediction": [((mask == k) & counted).sum() for k in classes],
    }


@pytest.mark.parametrize("method", ["linear", "lora"])
def test_predictions_give_the_counts_of_the_record(folders, method):
    network = benchmark.load(folders[method])
    stored = store.read_counts(folders[method])
    for number, example in enumerate(decoded("tiny", None, "test")):
        for name, counted in counts_of(network, example).items():
            assert np.array_equal(counted, stored[name][number])


def test_a_run_is_found_by_the_start_of_its_id_by_its_folder_and_by_its_record(results, folders):
    folder = folders["lora"]
    for name in (folder.name[:8], folder, str(folder), folder / "record.json"):
        network = benchmark.load(name, results=results)
        assert network.record.run_id == folder.name
    assert network.classes == ("a", "b", "c")
    assert network.backbone_name == "demo_vit"
    assert network.palette.shape == (256, 3)


@pytest.mark.parametrize("size", [(1, 1), (97, 97), (1, 300), (150, 70)])
def test_images_of_any_size(folders, size):
    network = benchmark.load(folders["linear"])
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    mask, shares = network.predict(image), network.predict(image, probabilities=True)
    assert mask.shape == size and mask.dtype == np.uint8
    assert shares.shape == (3, *size) and shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    best = np.take_along_axis(shares, mask[None].astype(int), 0)[0]
    np.testing.assert_allclose(best, shares.max(0), atol=1e-6)


def test_an_image_above_the_limit_passes_by_windows(folders):
    network = benchmark.load(folders["linear"])
    image = np.random.default_rng(0).integers(0, 256, (96, 200, 3)).astype(np.uint8)
    whole, passes = network.predict(image, probabilities=True), []
    few = {"eval_max_pixels": 96 * 120, "eval_window": 96}
    network.protocol = network.protocol.model_copy(update=few)
    handle = network.segmenter.register_forward_pre_hook(
        lambda _, args: passes.append(tuple(args[0].shape[-2:]))
    )
    parts = network.predict(image, probabilities=True)
    handle.remove()
    assert len(passes) > 1 and set(passes) == {(96, 96)}
    assert parts.shape == whole.shape and not np.array_equal(parts, whole)
    assert (parts.argmax(0) == whole.argmax(0)).mean() > 0.8


def test_the_model_gives_the_logits_of_whole_images(folders):
    network = benchmark.load(folders["lora"])
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    inputs = network.segmenter.normalise(torch.from_numpy(image.transpose(2, 0, 1).copy()))
    with torch.no_grad():
        (logits,) = network.model(inputs[None])
    assert logits.shape == (3, 50, 70)
    shares = network.predict(image, probabilities=True)
    np.testing.assert_allclose(F.softmax(logits, 0).numpy(), shares, atol=1e-5)


def test_paths_pillow_images_and_arrays_are_one_image(folders, tmp_path):
    network = benchmark.load(folders["linear"])
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    expected = network.predict(image, True)
    for same in (tmp_path / "one.png", str(tmp_path / "one.png"), Image.fromarray(image)):
        assert np.array_equal(network.predict(same, True), expected)


def test_the_example_of_the_readme(results, folders, tmp_path, monkeypatch):
    (example,) = (code for code in fences("benchmark/README.md", "python") if "load(" in code)
    (tmp_path / "results").symlink_to(results)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (30, 20)).save("street.jpg")
    names = {}
    exec(example.replace("3f2a", folders["lora"].name), names)
    assert names["mask"].shape == (20, 30) and names["shares"].shape == (3, 20, 30)


def test_threads_may_share_a_network(folders):
    network = benchmark.load(folders["lora"])
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 48, 3)).astype(np.uint8)
    expected = [network.predict(image, True) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: network.predict(image, True), images))
    assert np.array_equal(found, expected)


def test_a_run_is_used_without_the_file_that_brought_its_benchmark(folders, tmp_path, monkeypatch):
    copy = tmp_path / "alone"
    shutil.copytree(folders["linear"], copy)
    record = store.read_record(copy)
    assert record.task == Task(classes=("a", "b", "c"), scale=1.0)
    assert "benchmark" in record.plugins
    monkeypatch.delitem(BENCHMARKS, "tiny")
    monkeypatch.setattr(plugins, "_TYPED", {})
    assert benchmark.load(copy).classes == ("a", "b", "c")


def test_records_without_a_task_ask_the_benchmark(folders, tmp_path):
    copy = tmp_path / "old"
    shutil.copytree(folders["linear"], copy)
    content = json.loads((copy / "record.json").read_text())
    del content["task"]
    (copy / "record.json").write_text(json.dumps(content))
    assert benchmark.load(copy).classes == ("a", "b", "c")
    content["metrics"]["class_iou"] = {"a": 0.5, "x": 0.5}
    (copy / "record.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="knows 2 classes of tiny, which now has 3 or others"):
        benchmark.load(copy)


def refused(folder, tmp_path, change):
    """The line that a copy of a run is refused with."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = json.loads((copy / "record.json").read_text())
    change(copy, content)
    (copy / "record.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        benchmark.load(copy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_other_weights(folder, record):
    record["provenance"]["weights_sha256"] = 64 * "0"


def with_a_delta_of(other):
    def change(folder, record):
        shutil.copyfile(other / "delta.safetensors", folder / "delta.safetensors")
        stored = record["costs"]["stored"]
        stored["sha256"], stored["bytes"] = None, (folder / "delta.safetensors").stat().st_size

    return change


def flipped(folder, record):
    content = bytearray((folder / "delta.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "delta.safetensors").write_bytes(content)


def test_what_a_run_needs_is_checked(folders, tmp_path):
    cases = {
        "was trained on other weights of demo_vit than demo_vit.safetensors": of_other_weights,
        "does not fit the run \\(the delta misses": with_a_delta_of(folders["linear"]),
        "is not what run .* stored": flipped,
        "train it: python -m benchmark run": lambda folder, _: (
            folder / "delta.safetensors"
        ).unlink(),
    }
    for number, (message, change) in enumerate(cases.items()):
        line = refused(folders["lora"], tmp_path / str(number), change)
        assert re.search(message, line), line


def test_tasks_are_found_by_name_and_equal_networks_of_their_own(results, folders):
    tasks = benchmark.Tasks("demo_vit", results=results)
    assert len(tasks) == tasks.bytes == 0
    for method, folder in folders.items():
        assert tasks.add(method, folder.name) is tasks[method]
    image = np.random.default_rng(0).integers(0, 256, (40, 52, 3)).astype(np.uint8)
    for method, folder in folders.items():
        alone = benchmark.load(folder)
        assert np.array_equal(tasks[method].predict(image, True), alone.predict(image, True))
        stored = alone.record.costs.stored.bytes
        assert 0.9 * stored < tasks.own_bytes(method) <= stored  # the file has names, too
    assert list(tasks) == ["linear", "lora"] and "lora" in tasks
    tasks.remove("lora")
    assert list(tasks) == ["linear"] and tasks.get("lora") is None
    with pytest.raises(UserError, match=r"^unknown task 'line'; did you mean 'linear'\?$"):
        tasks["line"]
    with pytest.raises(UserError, match="there is a task 'linear' already"):
        tasks.add("linear", folders["lora"])


def test_a_task_needs_the_backbone_that_it_was_trained_on(folders):
    with pytest.raises(UserError, match="is on demo_vit, not on resnet18; a task needs"):
        benchmark.Tasks("resnet18").add("one", folders["lora"])


def test_the_backbone_is_read_once_for_all_tasks(folders, monkeypatch):
    tasks, read = benchmark.Tasks("demo_vit"), []
    real = ResolvedWeights.load
    monkeypatch.setattr(
        ResolvedWeights, "load", lambda self, *more: read.append(self) or real(self, *more)
    )
    for number, folder in enumerate([*folders.values(), *folders.values()]):
        tasks.add(str(number), folder)
    assert len(read) == 1
    before = tasks.bytes
    tasks.remove("0")
    assert tasks.bytes == before == bytes_of(tasks["1"].segmenter) - tasks.own_bytes("1")
