"""Judging a second run: made-up counts with known answers, and records that cannot be rebuilt."""

import dataclasses

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.execution.reproduce import (
    bootstrap_interval,
    differences,
    judge,
    read_recorded,
    respecify,
    unchecked,
)
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from benchmark.results.store import find_one
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch


def counts(ious, label=100):
    """One class; the prediction covers what is right and nothing else, so IoU = right / label."""
    right = np.array(ious, dtype=float)[:, None] * label
    return {
        "ids": np.array([str(i) for i in range(len(ious))]),
        "intersection": right.astype(np.int64),
        "prediction": right.astype(np.int64),
        "label": np.full((len(ious), 1), label),
        "nll": np.array(ious, dtype=float),
    }


def described(**changes):
    spec = plan(Selection(methods="lora[rank=4]", benchmarks="cells"))[0]
    usual = {
        "run_id": spec.run_id,
        "suite": spec.suite,
        "backbone": spec.backbone,
        "method_params": spec.method_params,
        "protocol": spec.protocol.model_dump(),
        "protocol_hash": spec.protocol.hash,
        "weights": spec.weights,
        "seed": spec.seed,
    }
    return spec, record(spec.method_label, "cells").model_copy(update=usual | changes)


def test_the_interval_is_that_of_the_mean_where_all_images_weigh_the_same():
    rng = np.random.default_rng(3)
    values = rng.integers(20, 80, 400) / 100
    low, high = bootstrap_interval(counts(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert (low, high) == bootstrap_interval(counts(values))


def test_a_class_that_no_drawn_image_contains_is_left_out():
    rare = counts([0.5, 0.5, 0.5])
    for key in ("intersection", "prediction", "label"):
        rare[key] = np.concatenate(
            [rare[key], np.array([[0], [0], [100 if key == "label" else 50]])], 1
        )
    assert bootstrap_interval(rare) == (0.5, 0.5)


def test_equal_counts_are_the_same():
    found = judge(counts([0.2, 0.4]), counts([0.2, 0.4]))
    assert (found.verdict, found.images_apart) == ("same", 0)
    assert found.recorded == found.again == pytest.approx(0.3)


def test_one_pixel_is_not_the_same_but_inside():
    values = [0.2, 0.3, 0.4, 0.5, 0.6]
    again = counts(values)
    again["intersection"][2] += 1
    found = judge(counts(values), again)
    assert (found.verdict, found.images_apart) == ("inside", 1)
    assert found.again > found.recorded


def test_other_probabilities_with_the_same_classes_are_not_the_same():
    again = counts([0.2, 0.4])
    again["nll"][0] += 1e-9
    found = judge(counts([0.2, 0.4]), again)
    assert (found.verdict, found.images_apart) == ("inside", 0)


def test_far_away_is_outside():
    values = [0.4, 0.5, 0.5, 0.6]
    found = judge(counts(values), counts([0.9] * 4))
    assert (found.verdict, found.images_apart) == ("outside", 4)
    assert found.interval[1] < found.again == pytest.approx(0.9)


def test_other_images_are_not_the_same():
    again = counts([0.4, 0.5]) | {"ids": np.array(["7", "8"])}
    found = judge(counts([0.4, 0.5]), again)
    assert (found.verdict, found.images_apart) == ("inside", 2)


def test_a_record_gives_back_its_run():
    spec, made = described()
    assert respecify(made) == spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite": "small"}, ["was edited"]),
        ({"benchmark_version": "1", "run_id": "0" * 12}, ["version: 1 -> none"]),
        ({"protocol_hash": "0"}, None),
        ({"protocol": {"stepz": 3}}, ["its protocol", "stepz"]),
        ({"method_params": {"rnk": 3}}, ["no field 'rnk'", "rank"]),
        ({"benchmark": "celz"}, ["unknown benchmark", "cells"]),
    ],
)
def test_what_cannot_be_rebuilt_says_why_in_one_line(changes, words):
    _, made = described(**changes)
    if words is None:
        assert respecify(made).run_id == made.run_id  # the id alone decides
        return
    with pytest.raises(UserError) as error:
        respecify(made)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_field_that_a_method_has_got_since_is_named():
    spec, made = described()
    before = {name: value for name, value in spec.method_params.items() if name != "rank"}
    with pytest.raises(UserError, match=r"rank: none -> 8"):
        respecify(made.model_copy(update={"method_params": before, "run_id": "0" * 12}))


def test_only_done_runs_with_counts_can_be_compared(tmp_path):
    made = record(command="python -m benchmark run")
    with pytest.raises(UserError, match="missing or damaged; run it again: python -m benchmark"):
        read_recorded(tmp_path, made)
    (tmp_path / "images.npz").write_bytes(b"PK\3\4 torn")
    with pytest.raises(UserError, match="missing or damaged"):
        read_recorded(tmp_path, made)
    store.write_counts(tmp_path, ["a"], {"label": np.ones((1, 1))})
    with pytest.raises(UserError, match="missing or damaged"):
        read_recorded(tmp_path, made)
    with pytest.raises(UserError, match="is failed, so there is nothing to compare"):
        read_recorded(tmp_path, record(status="failed"))
    for wrong in (counts([]), counts([0.5]) | {"ids": np.array(["a", "b"])}):
        store.write_counts(tmp_path, wrong.pop("ids"), wrong)
        with pytest.raises(UserError, match="missing or damaged"):
            read_recorded(tmp_path, made)
    np.savez(tmp_path / "images.npz", **{k: v for k, v in counts([0.5]).items() if k != "ids"})
    with pytest.raises(UserError, match="missing or damaged"):
        read_recorded(tmp_path, made)
    whole = counts([0.5])
    store.write_counts(tmp_path, whole.pop("ids").tolist(), whole)
    assert judge(read_recorded(tmp_path, made), counts([0.5])).verdict == "same"


def test_a_run_is_found_by_the_start_of_its_id(tmp_path):
    for name in ("ab1", "ab2"):
        folder = tmp_path / "s/b/k/m" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record(run_id=name).model_dump_json())
    assert find_one(tmp_path, "ab1")[1].run_id == "ab1"
    for prefix, words in (("x", "no run 'x'"), ("ab", r"matches 2 runs \(ab1, ab2\)")):
        with pytest.raises(UserError, match=words):
            find_one(tmp_path, prefix)


def test_differences_name_packages_and_hardware():
    then = record().provenance
    now = then.model_copy(
        update={
            "packages": {"torch": "9.0", "numpy": "1"},
            "device": "gpu",
            "started": "later",
            "git_dirty": True,
            "weights_sha256": "ef" * 32,
            "method_sha256": "12" * 32,
        }
    )
    assert differences(then, then) == []
    assert differences(then, now) == [
        "torch: 2.11.0 -> 9.0",
        "numpy: none -> 1",
        "device: cpu -> gpu",
        "weights_sha256: abababababab... -> efefefefefef...",
    ]


def test_hashes_of_another_scheme_cannot_be_checked():
    then = record().provenance.model_copy(
        update={"method_sha256": "12" * 32, "benchmark_sha256": "tree:" + "34" * 32}
    )
    now = then.model_copy(
        update={
            "method_sha256": "tree:" + "56" * 32, "benchmark_sha256": "tree:" + "78" * 32,
            "data_sha256": "splits:" + "9a" * 32,
        }
    )  # fmt: skip
    assert unchecked(then, now) == ["data_sha256", "method_sha256"]
    assert differences(then, now) == [
        "benchmark_sha256: tree:343434343434... -> tree:787878787878..."
    ]
    assert unchecked(then, then) == unchecked(now, now) == []
    without = then.model_copy(update={"method_sha256": None})
    assert "method_sha256" not in unchecked(without, now)


def test_a_judgement_cannot_be_changed():
    found = judge(counts([0.5]), counts([0.5]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.verdict = "outside"


def test_a_run_that_is_not_there_is_told_with_some_that_are(tmp_path):
    with pytest.raises(UserError, match="`plan` lists planned runs"):
        find_one(tmp_path, "lora")
    for number, name in enumerate(("adapter", "linear", "lora", "spm")):
        touch(tmp_path, name, f"{number}b1")
    with pytest.raises(UserError) as told:
        find_one(tmp_path, "lora")
    assert str(told.value).endswith(
        "; finished are 2b1 (lora on cells), 0b1 (adapter on cells), 1b1 (linear on cells) and 1 "
        "more; --results names another folder"
    )


def touch(root, method, run_id):
    folder = root / "demo" / "cells" / "demo_vit" / method / run_id
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
