"""Training curves: what is read is what the run wrote; smoothing keeps steps, means and lengths."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.analysis.curves import CURVE, KEYS, VALIDATION, read_curve, smooth, smoothed
from benchmark.analysis.runs import Runs
from tests.helpers.records import frame, record

pytestmark = pytest.mark.no_torch

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


def store(folder, losses):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": i, "loss": x, "total": x}) for i, x in enumerate(losses, 1)]
    (folder / CURVE).write_text("\n".join(lines) + "\n")


def curves(*losses, method="a"):
    keys = dict.fromkeys(KEYS, "x") | {"method": method}
    parts = [
        pd.DataFrame({"step": range(1, len(own) + 1), "loss": own}).assign(**keys | {"seed": seed})
        for seed, own in enumerate(losses)
    ]
    return pd.concat(parts, ignore_index=True)


def test_what_is_written_is_read(tmp_path):
    store(tmp_path, [2.0, 1.5, 0.25])
    steps, losses = read_curve(tmp_path)
    assert steps.tolist() == [1, 2, 3] and losses.tolist() == [2.0, 1.5, 0.25]


def test_only_steps_after_which_validation_was_evaluated_have_a_score(tmp_path):
    lines = ['{"step": 1, "loss": 2}', '{"step": 2, "loss": 1, "val_miou": 0.5}']
    (tmp_path / CURVE).write_text("\n".join(lines))
    steps, scores = read_curve(tmp_path, VALIDATION)
    assert steps.tolist() == [2] and scores.tolist() == [0.5]
    assert read_curve(tmp_path)[0].tolist() == [1, 2]


def test_a_missing_curve_is_none_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_curve(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1]\n", b"3\n", b'{"step": 1}\n', b'{"step": "x", "loss": 1}\n', b"\xff\xfe",
     b'{"step": 1, "loss": "no"}', b'{"step": 99999999999999999999, "loss": 1}', b"[" * 99999],
)  # fmt: skip
def test_a_damaged_curve_is_left_out_with_one_line(tmp_path, content):
    (tmp_path / CURVE).write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert read_curve(tmp_path) is None
    assert "\n" not in str(caught[0].message)


def test_curves_of_finished_runs_with_a_folder(tmp_path):
    runs = frame([record("a"), record("b"), record("c", status="failed", reason="x"), record("d")])
    runs["folder"] = ["one", "", "three", "nowhere"]
    store(tmp_path / "one", [1.0, 0.5])
    store(tmp_path / "three", [9.0])
    found = Runs(runs, tmp_path).training_curves
    assert found["method"].tolist() == ["a", "a"] and found["loss"].tolist() == [1.0, 0.5]
    assert list(found.columns) == [*KEYS, "step", "loss"]
    assert Runs(runs.drop(columns="folder"), tmp_path).training_curves.empty


@given(st.lists(st.floats(0, 9), min_size=1, max_size=40), st.integers(0, 12))
def test_smoothing_is_the_mean_of_the_window(losses, half):
    found = smooth(np.array(losses), 2 * half + 1)
    wanted = [np.mean(losses[max(i - half, 0) : i + half + 1]) for i in range(len(losses))]
    assert found == pytest.approx(wanted, abs=1e-9)


def test_seeds_are_averaged_and_their_ends_kept():
    table, window = smoothed(curves([1, 2, 3], [3, 4, 8]), share=0.1)
    assert window == 1
    assert table["step"].tolist() == [1, 2, 3]
    assert table["loss"].tolist() == [2, 3, 5.5]
    assert table["low"].tolist() == [1, 2, 3] and table["high"].tolist() == [3, 4, 8]


def test_a_curve_ends_with_its_shortest_seed():
    table, _ = smoothed(curves([1, 1, 1, 1], [3, 3]))
    assert table["step"].tolist() == [1, 2] and table["loss"].tolist() == [2, 2]


def test_the_window_is_odd_and_a_share_of_the_steps():
    assert smoothed(curves(np.ones(200)), share=0.1)[1] == 21
    assert smoothed(curves(np.ones(3)), share=0.1)[1] == 1
    assert smoothed(curves([1.0]).iloc[:0])[0].empty


def test_steps_without_a_finite_loss_are_left_out():
    table, _ = smoothed(curves([1, float("nan"), 3, float("inf")]))
    assert table["step"].tolist() == [1, 3] and table["loss"].tolist() == [1, 3]


@pytest.mark.skipif(not (PUBLISHED / "demo").is_dir(), reason="no published results here")
def test_published_curves_agree_with_their_records():
    path = next((PUBLISHED / "demo").rglob("record.json"))
    curve = json.loads(path.read_text())["curve"]
    steps, losses = read_curve(path.parent)
    tenth = max(1, curve["steps"] // 10)
    assert steps.tolist() == list(range(1, curve["steps"] + 1))
    assert losses[-tenth:].mean() == pytest.approx(curve["last_loss"])
