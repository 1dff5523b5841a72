"""Groups are named by what differs between them."""

import pandas as pd
import pytest

from benchmark.analysis.groups import apart, group_names, short_backbones
from benchmark.analysis.runs import Runs
from tests.helpers.records import frame, grid, record

pytestmark = pytest.mark.no_torch

BASE = {"steps": 150, "batch_size": 8, "crop": 224}


def runs(*parts):
    """Records of `linear`: (changes of the protocol, seeds, other changes) a group."""
    return frame(
        [
            record(
                seed=seed,
                protocol=BASE | changes,
                protocol_hash=f"{place:012x}",
                **more,
            )
            for place, (changes, seeds, more) in enumerate(parts)
            for seed in range(seeds)
        ]
    )


def labels(table):
    return [name.label for name in group_names(table).values()]


def test_one_group_is_called_by_its_backbone():
    (name,) = group_names(runs(({}, 1, {}))).values()
    assert (name.label, name.full, name.slug) == ("vit_tiny", "vit_tiny", "vit_tiny")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 200}, ["150 steps", "200 steps"]),
        ({"crop": 160, "steps": 1}, ["150 steps, crop 224", "1 step, crop 160"]),
        ({"fraction": 0.1}, ["all images", "10 % of images"]),
        ({"decoder": "upernet"}, ["linear decoder", "upernet decoder"]),
        ({"decoder_lr": 0.003}, ["decoder lr 0.01", "decoder lr 0.003"]),
    ],
)
def test_protocols_are_called_by_the_settings_that_differ(changes, words):
    assert sorted(labels(runs(({}, 1, {}), (changes, 1, {})))) == sorted(words)


def test_backbones_weights_and_seeds_are_named_where_they_differ():
    table = runs(({}, 2, {}), ({}, 1, {"weights": "none"}), ({}, 1, {"backbone": "resnet50"}))
    table["protocol_hash"] = "same"
    first, *others = labels(table)
    assert first == "vit_tiny, 2 seeds"
    assert set(others) == {"vit_tiny, random weights, 1 seed", "resnet50, 1 seed"}
    names = group_names(table)
    # Names of files stay when another seed is run.
    assert {name.slug for name in names.values()} == {
        "vit_tiny", "vit_tiny-random-weights", "resnet50",
    }  # fmt: skip


def test_a_hash_is_left_only_where_no_word_tells_groups_apart():
    table = runs(({}, 1, {}), ({}, 1, {}))
    assert all("protocol 0000" in label for label in labels(table))
    slugs = [name.slug for name in group_names(table.assign(protocol_hash=["a1", "b2"])).values()]
    assert len(set(slugs)) == 2
    other = runs(({}, 1, {}), ({}, 1, {"backbone": "resnet50"}))
    assert sorted(labels(other)) == ["resnet50", "vit_tiny"]


def test_the_fullest_group_is_first_and_of_equal_ones_the_newest():
    few, many = runs(({"steps": 9}, 1, {})), runs(({}, 3, {}))
    table = pd.concat([few.assign(protocol_hash="few"), many])
    table["provenance.started"] = "2025-01-01"
    table.loc[table["protocol_hash"] == "few", "provenance.started"] = "2026-01-01"
    assert [key[2] for key in Runs(table).groups] == ["000000000000", "few"]
    equal = pd.concat([few.assign(protocol_hash="few"), runs(({}, 1, {}))])
    for newest in ("few", "000000000000"):
        equal["provenance.started"] = "2025-01-01"
        equal.loc[equal["protocol_hash"] == newest, "provenance.started"] = "2026-01-01"
        assert next(iter(group_names(equal)))[2] == newest


def test_a_field_that_came_later_has_its_default():
    old, new = grid(["full"], 1, ["camvid"]), grid(["linear"], 1, ["camvid"])
    new = [item.model_copy(update={"protocol": item.protocol | {"fraction": 1.0}}) for item in new]
    new = [item.model_copy(update={"protocol_hash": "new"}) for item in new]
    assert "images" not in " ".join(labels(frame([*old, *new])))


def test_of_many_settings_those_that_tell_protocols_apart_are_named():
    many = {"steps": 1, "crop": 32, "batch_size": 2, "flip": False}
    settings = {"a": BASE | {"flip": True}, "b": many, "c": many | {"crop": 64}}
    assert apart(settings) == {
        "a": ["150 steps", "crop 224"],
        "b": ["1 step", "crop 32"],
        "c": ["1 step", "crop 64"],
    }


def test_backbones_are_as_short_as_they_can_be():
    assert short_backbones(["swin_base_patch4_window7_224.ms_in22k", "demo_vit"]) == {
        "swin_base_patch4_window7_224.ms_in22k": "swin_base",
        "demo_vit": "demo_vit",
    }
    same = ["vit_tiny_patch16_224.a", "vit_tiny_patch16_384.a"]
    assert list(short_backbones(same).values()) == ["vit_tiny_patch16_224", "vit_tiny_patch16_384"]
    tags = ["resnet50.a1", "resnet50.a2"]
    assert list(short_backbones(tags).values()) == tags
