"""What cannot run is said before anything is trained, and never stops what can."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmark.execution.checks import check, too_costly
from benchmark.execution.environment import prepare
from benchmark.execution.probe import probe
from benchmark.planning.plan import Selection, plan
from tests.helpers import forked

METHODS = '''
import time
from dataclasses import dataclass

import torch

from methods.base import Method, register


@register("leaky")
@dataclass(frozen=True, kw_only=True)
class Leaky(Method):
    """Holds numbers that no delta brings back."""

    lr: float = 1e-3
    keeps_structure = True

    def _apply(self, backbone, num_classes):
        backbone.model.blocks[0].norm1.weight.requires_grad_(True)
        now = torch.tensor([time.monotonic_ns()])
        backbone.model.register_buffer("now", now, persistent=False)


@register("stubborn")
@dataclass(frozen=True, kw_only=True)
class Stubborn(Method):
    """Says that it folds away, and does not."""

    lr: float = 1e-3
    keeps_structure = True
    mergeable = True

    def _apply(self, backbone, num_classes):
        backbone.model.blocks[0].norm1.weight.requires_grad_(True)

    def merge(self, backbone):
        raise RuntimeError("the fold is stuck")
'''

TYPED = ("--set=steps=2", "--set=crop=36", "--set=batch_size=2", "--set=precision=fp32")


def described(folder, name, trained, tested):
    """A set of 32 px images whose labels hold these classes, as a YAML file."""
    for split, classes, first in (("train", trained, 60), ("test", tested, 70)):
        for kind in ("images", "labels"):
            (folder / name / kind / split).mkdir(parents=True)
        for number in range(3):
            label = np.zeros((32, 32), np.uint8)
            for place, value in enumerate(classes):
                label[8 * place : 8 * place + 8] = value
            Image.fromarray(
                np.full((32, 32, 3), first + number, np.uint8) + 80 * label[..., None]
            ).save(folder / name / "images" / split / f"{number}.png")
            Image.fromarray(label).save(folder / name / "labels" / split / f"{number}.png")
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nfolder: {name}\nclasses: [ground, thing, other]\n")
    return path


@pytest.fixture
def typed(tmp_path):
    """Words of a command with a good set, one that lacks a class, and faulty methods."""
    good = described(tmp_path, "good", (0, 1, 2), (0, 1, 2))
    holey = described(tmp_path, "holey", (0, 1), (0, 1, 2))
    (tmp_path / "own.py").write_text(METHODS)
    plugins = [f"--plugin={path}" for path in (good, holey, tmp_path / "own.py")]
    return [*plugins, "--suite=demo", *TYPED, "--seeds=0", f"--results={tmp_path / 'r'}"]


def command(*words):
    return forked.call("run", *words)


def records(tmp_path):
    found = [json.loads(path.read_text()) for path in (tmp_path / "r").rglob("record.json")]
    return {(one["benchmark"], one["method"]): one for one in found}


def test_what_would_fail_after_training_is_not_trained_and_the_others_are(tmp_path, typed):
    done = command(*typed, "--benchmarks=good", "--methods=leaky,linear")
    assert done.returncode == 1, done.stderr
    reason = "RuntimeError: the stored delta does not bring back backbone.model.now"
    assert f"failed: leaky on good, seed 0: {reason}" in done.stdout
    assert done.stdout.count(reason) == 2  # before the training, and at the end
    found = records(tmp_path)
    assert found["good", "linear"]["status"] == "done"
    lost = found["good", "leaky"]
    assert lost["status"] == "failed" and lost["execution"] is None  # never trained
    assert "require_same_state" in lost["traceback"]


@pytest.mark.slow
def test_a_cost_that_cannot_be_measured_is_said_and_loses_no_run(tmp_path, typed):
    done = command(*typed, "--benchmarks=good", "--methods=stubborn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stubborn: some costs will be missing: RuntimeError: the fold is stuck" in done.stdout
    assert records(tmp_path)["good", "stubborn"]["status"] == "done"


@pytest.mark.slow
def test_a_value_that_does_not_fit_is_refused_for_its_cell_only(tmp_path, typed):
    done = command(*typed, "--benchmarks=good", "--methods=lora[rank=9999],linear")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "unsupported (1 run): lora[rank=9999] on demo_vit: lora: rank must be at most 128"
        in done.stdout
    )
    found = records(tmp_path)
    assert found["good", "linear"]["status"] == "done"
    assert found["good", "lora[rank=9999]"]["status"] == "unsupported"


@pytest.mark.parametrize("tokens", [100_000, 1_000_000_000])
def test_settings_that_would_compute_for_hours_are_refused_by_arithmetic(tokens):
    chosen = Selection(methods=f"vpt[tokens={tokens}]", benchmarks="cells", protocol={"crop": 36})
    (cell,) = plan(chosen)
    environment = prepare(None, (), "cpu")
    verdict = check(cell, environment)
    assert (verdict.status, verdict.by_user) == ("unsupported", True)
    assert f"vpt[tokens={tokens}] needs more than 1000 times the computation" in verdict.reason
    assert probe(cell, environment) == (None, verdict.reason)
    (moderate,) = plan(dataclasses.replace(chosen, methods="vpt[tokens=8]"))
    assert too_costly(moderate, environment) == ""


def test_where_nothing_can_run_nothing_is_written(tmp_path, typed):
    done = command(*typed, "--benchmarks=good", "--methods=lora[rank=9999]")
    assert done.returncode == 2 and "rank must be" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not records(tmp_path)


def test_serious_findings_of_the_audit_stop_a_run_until_they_are_accepted(tmp_path, typed):
    words = (*typed, "--benchmarks=good,holey", "--methods=linear")
    done = command(*words)
    assert done.returncode == 1, done.stderr
    line = "refused: linear on holey, seed 0: holey: classes absent from the train split (1): other"
    assert line in done.stdout and "--accept-audit" in done.stdout
    assert set(records(tmp_path)) == {("good", "linear")}
    done = command(*words, "--accept-audit")
    assert done.returncode == 0, done.stdout + done.stderr
    accepted = records(tmp_path)["holey", "linear"]
    assert accepted["status"] == "done"
    assert accepted["data_findings"] == ["classes absent from the train split (1): other"]
    assert records(tmp_path)["good", "linear"]["data_findings"] == []


@pytest.mark.parametrize("cache", ["on", pytest.param("none", marks=pytest.mark.slow)])
def test_a_training_image_among_the_test_images_stops_a_run(tmp_path, typed, cache, monkeypatch):
    if cache == "none":
        monkeypatch.setenv("BENCHMARK_CACHE", cache)
    for kind in ("images", "labels"):
        shutil.copy(*(tmp_path / "good" / kind / name for name in ("train/2.png", "test/copy.png")))
    words = (*typed, "--benchmarks=good", "--methods=linear")
    done = command(*words)
    line = "good: images that occur in train and test (1): train train/2 = test test/copy; keep"
    assert done.returncode == 2 and line in done.stderr, done.stdout
    assert done.stderr.count("\n") == 1 and not records(tmp_path)
    audited = forked.call("data", "audit", "good", *typed[:1])
    assert audited.returncode == 1
    assert "serious images that occur in train and test (1)" in " ".join(audited.stdout.split())
    assert command(*words, "--accept-audit").returncode == 0
    (finding,) = records(tmp_path)["good", "linear"]["data_findings"]
    assert finding.startswith("images that occur in train and test")


@pytest.mark.slow
def test_test_images_that_are_nearly_training_images_are_counted_in_the_record(tmp_path, typed):
    def written(place, scene, shift=0):
        rng = np.random.default_rng(scene)
        image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        image = np.roll(image + rng.integers(0, 9, image.shape).astype(np.uint8), shift, axis=1)
        Image.fromarray(image).resize((64, 64)).save(tmp_path / "good" / "images" / place)
        label = np.repeat(np.uint8([0, 1, 2, 2]), 16)[:, None].repeat(64, axis=1)
        Image.fromarray(label).save(tmp_path / "good" / "labels" / place)

    for number in range(3):
        written(f"train/{number}.png", scene=0, shift=number)
        written(f"test/{number}.png", scene=number // 2, shift=number + 3)
    done = command(*typed, "--benchmarks=good,streets", "--methods=linear")
    assert done.returncode == 0, done.stdout + done.stderr
    assert records(tmp_path)["good", "linear"]["near_copies"] == 2
    assert records(tmp_path)["streets", "linear"]["near_copies"] is None


def test_without_a_cache_the_audit_stops_a_run_too(tmp_path, typed, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    done = command(*typed, "--benchmarks=holey", "--methods=linear")
    assert done.returncode == 2 and "classes absent from the train split (1): other" in done.stderr


@pytest.mark.slow
def test_a_set_that_is_damaged_stops_its_own_cells(tmp_path, typed):
    for number in range(3):
        (tmp_path / "holey" / "labels" / "train" / f"{number}.png").write_bytes(b"no image")
    words = (*typed, "--benchmarks=good,holey", "--methods=linear,bitfit")
    done = command(*words)
    assert done.returncode == 1, done.stderr
    assert "refused: linear on holey, seed 0 and 1 more: " in done.stdout
    assert ".png is truncated or damaged" in done.stdout
    assert set(records(tmp_path)) == {("good", "linear"), ("good", "bitfit")}
