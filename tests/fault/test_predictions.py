"""The predictions that a run keeps are those that it was scored on."""

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.data.base import BENCHMARKS, Example
from benchmark.execution.splits import decoded
from benchmark.planning.plan import plan
from benchmark.reporting.gallery_items import gallery_items
from benchmark.results import predictions, store
from benchmark.results.load import load_results
from tests.helpers.tiny import run, select

pytestmark = pytest.mark.usefixtures("tiny")

MAP = np.random.default_rng(0).integers(0, 5, (64, 64)).astype(np.uint8)


def test_a_run_keeps_what_it_was_scored_on(tmp_path):
    cells = plan(select("linear,bitfit"))
    run(tmp_path, select("linear,bitfit"))
    kept = [predictions.read(tmp_path / cell.folder) for cell in cells]
    assert kept[0].keys() == kept[1].keys() and len(kept[0]) == 3  # the split has no more
    counts = store.read_counts(tmp_path / cells[0].folder)
    labels = {example.id: example.label for example in decoded("tiny", None, "test")}
    for id, predicted in kept[0].items():
        row = counts["ids"].tolist().index(id)
        for k in range(3):
            assert (predicted == k).sum() == counts["prediction"][row, k]
            right = (predicted == k) & (labels[id] == k)
            assert right.sum() == counts["intersection"][row, k]


def test_the_same_few_images_of_a_large_split():
    ids = [str(number) for number in range(1000)]
    chosen = predictions.choose(ids, "a")
    assert len(chosen) == predictions.KEPT
    assert chosen == predictions.choose(ids[::-1], "a") != predictions.choose(ids, "b")


def test_large_maps_are_thinned_to_labels_not_means():
    values = np.arange(1000 * 700).reshape(1000, 700) % 251
    thin = predictions.thin(values)
    assert thin.shape == (334, 234) and max(thin.shape) <= predictions.LONGEST_SIDE
    assert (thin == values[::3, ::3]).all()
    assert predictions.thin(values[:384, :384]).shape == (384, 384)


def test_a_flipped_byte_is_no_prediction(tmp_path):
    recorder = predictions.PredictionRecorder(["a"], "b")
    recorder(Example("a", np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)), MAP)
    recorder.write(tmp_path)
    path = tmp_path / "predictions.npz"
    np.testing.assert_array_equal(predictions.read(tmp_path)["a"], MAP)
    content = path.read_bytes()
    middle = content.index(b"0.npy") + 60
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    assert predictions.read(tmp_path) == {}


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_what_cannot_be_read_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "predictions.npz").write_bytes(content)
    assert predictions.read(tmp_path) == {}


def test_a_gallery_shows_what_the_runs_kept(tmp_path):
    run(tmp_path, select("linear,bitfit", seeds=(0, 1)))
    runs = load_results(tmp_path)
    items, notes = gallery_items(runs, tmp_path, lambda name: BENCHMARKS.get(name)(None))
    assert notes == [] and len(items) == 3
    examples = {example.id: example for example in decoded("tiny", None, "test")}
    for item in items:
        assert {part.method for part in item.predictions} == {"linear", "bitfit"}
        label = examples[item.image].label
        for part in item.predictions:
            folder = runs[(runs["method"] == part.method) & (runs["seed"] == 0)]["folder"].iloc[0]
            found = predictions.read(tmp_path / folder)[item.image]
            ious = [
                ((found == k) & (label == k)).sum() / ((found == k) | (label == k)).sum()
                for k in np.unique(label)
            ]
            assert part.miou == pytest.approx(np.mean(ious))


def test_a_gallery_without_data_or_predictions_says_why(tmp_path):
    run(tmp_path, select())
    runs = load_results(tmp_path)

    def missing(name):
        raise UserError(f"{name}: its data are not here")

    assert gallery_items(runs, tmp_path, missing) == (
        [],
        ["tiny: no images in the gallery: tiny: its data are not here"],
    )
    for path in tmp_path.rglob("predictions.npz"):
        path.unlink()
    items, notes = gallery_items(runs, tmp_path, missing)
    assert items == [] and "no run stored predictions" in notes[0]
