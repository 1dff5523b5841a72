import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmark.analysis import compare as c
from benchmark.analysis.uncertainty.family import holm
from benchmark.cli.compare import _ratio, compare
from benchmark.core.errors import UserError
from benchmark.results import store
from benchmark.results.metrics import class_iou
from tests.helpers.stored import counts, names, store_run

pytestmark = pytest.mark.no_torch


def with_ids(numbers, ids=None):
    return numbers | {"ids": np.array(ids or names(len(numbers["label"])))}


def call(*arguments):
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, list(map(str, arguments)))


def miou(numbers):
    return np.nanmean(class_iou(numbers))


def test_equal_runs_have_no_difference():
    same = with_ids(counts())
    found = c.difference(same, same)
    assert (found.miou, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert not found.is_loss()


def test_the_difference_is_that_of_the_metrics():
    a, b = with_ids(counts(accuracy=0.8)), with_ids(counts(accuracy=0.7, seed=1))
    found = c.difference(a, b)
    assert found.miou == pytest.approx(miou(b) - miou(a), abs=1e-12)
    assert found.low < found.miou < found.high < 0 and found.p == pytest.approx(2 / 2001)
    turned = c.difference(b, a)
    assert (turned.miou, turned.low, turned.high) == pytest.approx(
        (-found.miou, -found.high, -found.low)
    )


def test_draws_are_what_an_explicit_loop_gives():
    """Reference: images drawn one by one, counts summed, mIoU by benchmark.results.metrics."""
    a, b = with_ids(counts(12)), with_ids(counts(12, accuracy=0.78, seed=3))
    # One image alone has a rare class: draws without it leave the class out.
    for numbers in (a, b):
        for kind in ("intersection", "prediction", "label"):
            numbers[kind] = numbers[kind].copy()
            numbers[kind][1:, 2] = 0
    found = c.difference(a, b, draws=200, seed=5)
    weights = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=200)
    drawn = []
    for row in weights:
        chosen = np.repeat(np.arange(12), row)
        parts = [{kind: x[kind][chosen] for kind in c.CLASS_COUNTS} for x in (a, b)]
        drawn.append(miou(parts[1]) - miou(parts[0]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))
    below, above = (np.array(drawn) <= 0).sum(), (np.array(drawn) >= 0).sum()
    assert found.p == pytest.approx(min(1, 2 * (min(below, above) + 1) / 201))


def test_no_difference_is_called_in_about_one_of_twenty():
    """Two runs of equal quality, other luck: 400 tries at 5 % give 20, 99.9 % of times 8 to 36."""
    called = 0
    for trial in range(400):
        a = with_ids(counts(60, seed=2 * trial, spread=0.1))
        b = with_ids(counts(60, seed=2 * trial + 1, spread=0.1))
        called += c.difference(a, b, draws=300, seed=trial).p < 0.05
    assert 8 <= called <= 36


def test_a_clear_loss_is_found():
    """Two points at a spread of 5 between 60 images: standard error 0.9, so nearly always seen."""
    found = 0
    for trial in range(50):
        a = with_ids(counts(60, 0.80, seed=2 * trial, spread=0.03))
        b = with_ids(counts(60, 0.77, seed=2 * trial + 1, spread=0.03))
        found += c.difference(a, b, draws=300, seed=trial).is_loss()
    assert found >= 45


def test_images_are_matched_by_id_and_those_without_label_left_out():
    a, b = with_ids(counts()), with_ids(counts(accuracy=0.7, seed=1))
    order = np.random.default_rng(0).permutation(30)
    shuffled = {key: value[order] for key, value in b.items()}
    assert c.difference(a, shuffled) == c.difference(a, b)
    fewer = {key: value[:20] for key, value in b.items()}
    assert c.difference(a, fewer).images == 20
    a, b = ({k: v.copy() for k, v in numbers.items()} for numbers in (a, b))
    for numbers in (a, b):
        numbers["label"][:5] = 0
    assert c.difference(a, b).images == 25


def test_what_cannot_be_paired_is_told():
    a = with_ids(counts())
    with pytest.raises(ValueError, match="no image in common"):
        c.difference(a, with_ids(counts(), [f"other{i}" for i in range(30)]))
    with pytest.raises(ValueError, match="the labels differ, so the data are not the same"):
        c.difference(a, a | {"label": a["label"] + 1})
    with pytest.raises(ValueError, match="the classes differ"):
        c.difference(a, {k: v[:, :2] if v.ndim == 2 else v for k, v in a.items()})
    with pytest.raises(ValueError, match="no labelled image"):
        c.difference(a | {"label": a["label"] * 0}, a | {"label": a["label"] * 0})


def test_holm_by_hand():
    """Sorted .01 .03 .04 .2 times 4 3 2 1 = .04 .09 .08 .2, made non-decreasing."""
    assert holm([0.04, 0.01, 0.2, 0.03]) == pytest.approx([0.09, 0.04, 0.2, 0.09])
    assert holm([0.6, 0.7]) == [1, 1] and holm([]) == []


def test_what_differs_between_two_runs(tmp_path):
    a = store_run(tmp_path, numbers=counts(accuracy=0.9))
    b = store_run(
        tmp_path,
        "lora[rank=4]",
        inserted=600_000,
        method_params={"rank": 4},
        numbers=counts(accuracy=0.8, seed=1),
    )
    record = json.loads((b / "record.json").read_text())
    record["provenance"]["packages"]["torch"] = "9.9"
    record["provenance"]["git_commit"] = None
    (b / "record.json").write_text(json.dumps(record))
    pair = c.compare_runs(a, b)
    assert ("method_params.rank", None, 4) in c.spec_changes(pair.a, pair.b)
    assert not any(change[0].startswith("protocol") for change in c.spec_changes(pair.a, pair.b))
    assert c.environment_changes(pair.a, pair.b) == [
        ("git_commit", "0123456789abcdef", None),
        ("packages.torch", "2.11.0", "9.9"),
    ]
    classes = c.class_changes(pair.a, pair.b)
    sizes = [abs(after - before) for _, before, after in classes]
    assert len(classes) == 3 and sizes == sorted(sizes, reverse=True)
    assert ("params.inserted", 0, 600_000) in c.cost_changes(pair.a, pair.b)
    assert pair.difference.is_loss()
    answer = call(a.name, b.name[:8], "--results", tmp_path)
    assert answer.exit_code == 1
    for text in (
        "method: linear -> lora[rank=4]",
        "packages.torch: 2.11.0 -> 9.9",
        "infer.latency_ms_p50: 8.2 -> 13.2 (x 1.61)",
    ):
        assert text in answer.stdout
    assert call(b.name, a.name, "--results", tmp_path).exit_code == 0
    answer = call(a.name, a, "--results", tmp_path)
    assert answer.exit_code == 0 and "+0.00, 95 % [+0.00, +0.00], p 1.0000" in answer.stdout


def test_a_run_without_result_is_compared_as_far_as_it_goes(tmp_path):
    a, b = store_run(tmp_path), store_run(tmp_path, "vpt", status="failed")
    answer = call(a.name, b.name, "--results", tmp_path)
    assert answer.exit_code == 0 and "cannot be used" in answer.stdout
    (b / "images.npz").write_bytes((a / "images.npz").read_bytes()[:200])
    assert "cannot be used" in call(a.name, b.name, "--results", tmp_path).stdout


def test_a_tolerance_lets_small_losses_pass(tmp_path):
    a = store_run(tmp_path / "a", numbers=counts(accuracy=0.80, spread=0.0))
    store_run(tmp_path / "b", numbers=counts(accuracy=0.79, seed=1, spread=0.0))
    assert a.exists()
    assert call(tmp_path / "a", tmp_path / "b").exit_code == 1
    assert call(tmp_path / "a", tmp_path / "b", "--tolerance", "0.5").exit_code == 1
    assert call(tmp_path / "a", tmp_path / "b", "--tolerance", "5").exit_code == 0


def test_cells_of_two_folders_are_matched(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for root, accuracy in ((a, 0.8), (b, 0.6)):
        store_run(root, numbers=counts(accuracy=accuracy, seed=1))
        store_run(root, "bitfit", numbers=counts(seed=2))
    store_run(a, "vpt")
    store_run(b, "vpt", seed=1)
    store_run(b, "ssf")
    store_run(a, "ssf", status="failed")
    found = c.compare_folders(a, b)
    by_method = {pair.a.method: pair.difference for pair in found.pairs}
    assert by_method.keys() == {"linear", "bitfit"}
    assert by_method["linear"].is_loss() and by_method["bitfit"].p == 1
    assert by_method["linear"].p_holm == pytest.approx(2 * by_method["linear"].p)
    assert [record.method for record in found.only_a] == ["vpt"]
    assert sorted((r.method, r.seed) for r in found.only_b) == [("ssf", 0), ("vpt", 1)]
    answer = call(a, b)
    assert answer.exit_code == 1 and "2 runs in both, 1 significant losses" in answer.stdout
    assert "only in A: small / camvid" in answer.stdout
    assert call(b, a).exit_code == 0


def test_one_loss_among_many_cells_stays_significant(tmp_path):
    """With 2,000 draws the smallest p times 60 cells is 0.06."""
    a, b = tmp_path / "a", tmp_path / "b"
    for seed in range(60):
        same = counts(12, seed=seed)
        store_run(a, seed=seed, numbers=same)
        store_run(b, seed=seed, numbers=counts(12, accuracy=0.5) if seed == 7 else same)
    lost = [pair for pair in c.compare_folders(a, b).pairs if pair.difference.is_loss()]
    assert [pair.a.seed for pair in lost] == [7]


def test_a_pair_that_cannot_be_used_does_not_stop_the_others(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for root in (a, b):
        store_run(root)
        broken = store_run(root, "vpt")
    (broken / "images.npz").write_bytes(b"junk")
    answer = call(a, b)
    assert answer.exit_code == 0 and "not comparable: small / camvid" in answer.stdout
    store.write_counts(broken, names(30), {"label": np.zeros(30)})
    assert "shapes do not fit" in call(a, b).stdout


def test_bad_requests(tmp_path):
    run = store_run(tmp_path / "a")
    other = store_run(tmp_path / "b", "vpt")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        (("zzz", run.name), "neither a folder nor a run"),
        (("", run.name), "neither a folder nor a run"),
        ((run, tmp_path / "a"), "compare two runs or two folders"),
        ((tmp_path / "a", empty), "no finished run"),
        ((tmp_path / "a", tmp_path / "b"), "no finished run in common"),
    ):
        error = call(*arguments, "--results", tmp_path / "a").exception
        assert isinstance(error, UserError) and message in str(error), arguments
    (other / "record.json").write_text("{")
    assert "cannot be read" in str(call(run, other).exception)


def test_a_prefix_of_several_runs_is_not_guessed(tmp_path):
    ids = [store_run(tmp_path, seed=seed).name for seed in range(17)]
    first = next(x[0] for x in ids if sum(y[0] == x[0] for y in ids) > 1)
    with pytest.raises(UserError, match=r"matches \d+ runs"):
        c.find(first, tmp_path)
    assert c.find(ids[3], tmp_path).name == ids[3]


def test_what_could_not_be_measured_has_no_ratio():
    assert _ratio(["FLOPs: no counter"], []) == "['FLOPs: no counter'] -> []"
    assert _ratio(None, 3) == "- -> 3" and _ratio(2, 3) == "2 -> 3 (x 1.5)"
