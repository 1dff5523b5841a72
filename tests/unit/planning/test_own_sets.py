"""Which suite sets of a user's own run under, and on which backbone."""

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from benchmark.cli.report import _lone_groups
from benchmark.core.errors import UserError
from benchmark.core.spec import Suite, load_suites
from benchmark.models import find_weights
from benchmark.planning import own_sets, plugins
from benchmark.planning.plan import Selection, plan

pytestmark = pytest.mark.no_torch
OWN = load_suites()["own"]


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch, forgotten):
    """No weights in timm's cache, whatever this machine has."""
    monkeypatch.setattr(find_weights, "cached_weights", lambda name: None)


@pytest.fixture
def bolts(tmp_path):
    path = tmp_path / "bolts.yaml"
    path.write_text("name: bolts\nfolder: bolts\nclasses: [a, b]\n")
    plugins.load_files([path])
    return path


def weights(folder, *places):
    for place in places:
        (folder / f"{OWN.candidates[place]}.safetensors").touch()
    return [folder]


def test_sets_of_one_s_own_have_a_suite_and_others_the_usual_one(bolts):
    assert own_sets.suite_for("bolts") == own_sets.suite_for("bol*") == "own"
    assert own_sets.suite_for(None) == "own"
    assert own_sets.suite_for("cells,wbc") == "demo"


def test_without_a_described_set_nothing_changes():
    assert own_sets.suite_for(None) == "demo"


def test_a_mixed_selection_is_refused_and_both_suites_are_named(bolts):
    with pytest.raises(UserError, match="bolts is a set of your own and cells is not") as told:
        own_sets.suite_for("cells,bolts")
    assert "--suite own" in str(told.value) and "--suite demo" in str(told.value)


def test_the_first_candidate_that_has_weights_is_the_backbone(bolts, tmp_path, monkeypatch):
    cells = plan(Selection(suite="own"), weights(tmp_path, 6, 7))
    assert {cell.backbone for cell in cells} == {OWN.candidates[6]}
    assert {cell.benchmark for cell in cells} == {"bolts"}
    # A better one in timm's cache comes first.
    cached = {OWN.candidates[2]: tmp_path / "model.safetensors"}
    monkeypatch.setattr(find_weights, "cached_weights", cached.get)
    again = plan(Selection(suite="own"), weights(tmp_path, 6, 7))
    assert {cell.backbone for cell in again} == {OWN.candidates[2]}
    named = plan(Selection(suite="own", backbones="demo_vit"), [tmp_path])
    assert {cell.backbone for cell in named} == {"demo_vit"}


def test_without_weights_the_error_says_how_to_get_some(bolts, tmp_path):
    with pytest.raises(UserError, match="no pretrained backbone found") as told:
        plan(Selection(suite="own"), [tmp_path])
    for part in (str(tmp_path), f"--backbones {OWN.candidates[0]}", "--weights", "--suite demo"):
        assert part in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="--weights none, name one"):
        plan(Selection(suite="own", weights="none"), weights(tmp_path, 0))


def test_the_suite_without_a_set_says_how_to_name_one():
    with pytest.raises(UserError, match=re.escape("--plugin FILE.yaml")):
        plan(Selection(suite="own"))


def test_a_suite_has_backbones_or_candidates():
    content = OWN.model_dump()
    for change in ({"candidates": ()}, {"backbones": ("demo_vit",)}):
        with pytest.raises(ValueError, match="either backbones or candidates"):
            Suite.model_validate(content | change)


def test_timm_has_the_candidates_and_their_patches_divide_the_crop():
    local = "mobilenetv2_100.coral_tf2_in1k"  # not timm's: its file says how to build it
    for name in OWN.candidates:
        assert name == local or find_weights.is_timm(name), name
        patch = re.search(r"patch(\d+)", name)
        assert OWN.protocol.crop % (int(patch[1]) if patch else 32) == 0, name


def test_timm_s_cache_is_found_where_the_hub_put_it(monkeypatch, tmp_path):
    monkeypatch.undo()
    name = OWN.candidates[0]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_weights.cached_weights(name) is None
    repository = tmp_path / f"models--timm--{name}"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    file = repository / "snapshots" / commit / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_weights.cached_weights(name) == file
    assert find_weights.find_first(OWN.candidates, ()) == (name, file)
    home = tmp_path / "torch"
    monkeypatch.setenv("TORCH_HOME", str(home))
    stored = home / "hub" / "checkpoints" / "dinov2_vits14_pretrain.pth"
    stored.parent.mkdir(parents=True)
    stored.touch()
    assert find_weights.cached_weights(OWN.candidates[2]) == Path(stored)


def test_a_report_says_that_all_test_images_are_of_one_group(tmp_path):
    for name in (f"s{scene}_{shot}" for scene in range(3) for shot in range(4)):
        for kind in ("images", "labels"):
            path = tmp_path / "set" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8)).save(path)
    path = tmp_path / "own.yaml"
    text = "name: mine\nfolder: set\nclasses: [a, b]\nsplits: [0.6, 0.1, 0.3]\n"
    path.write_text(f'{text}groups: "^(s[0-9])_"\n')
    plugins.load_files([path])
    runs = SimpleNamespace(frame=pd.DataFrame({"benchmark": ["mine", "cells"]}), root=tmp_path)
    (said,) = _lone_groups(runs, None)
    assert re.match(r"mine: all 4 test images are of one group \(s[012]\), so the scores", said)
