import time

import numpy as np
import pytest

from benchmark.core.errors import DataError
from benchmark.data import available
from benchmark.data.base import IGNORE, SPLITS, read_example

pytestmark = pytest.mark.no_torch

NAMES = ("streets", "fields", "cells", "surfaces", "figures")


@pytest.fixture(scope="module", params=NAMES)
def drawn(request):
    benchmark = available()[request.param]()
    start = time.process_time()
    examples = {
        split: [read_example(benchmark, id) for id in benchmark.ids(split)] for split in SPLITS
    }
    return benchmark, examples, time.process_time() - start


def test_needs_no_files(drawn):
    benchmark, _, _ = drawn
    assert benchmark.folder is None
    assert 4 <= len(benchmark.classes) <= 8


def test_same_id_gives_same_example(drawn):
    benchmark, examples, _ = drawn
    again = type(benchmark)()
    for example in (examples["train"][7], examples["test"][0]):
        image, label = again.read(example.id)
        assert np.array_equal(image, example.image)
        assert np.array_equal(label, example.label)


def test_splits_are_disjoint_in_ids_and_in_content(drawn):
    _, examples, _ = drawn
    everything = [example for split in SPLITS for example in examples[split]]
    assert len({example.id for example in everything}) == len(everything)
    assert len({example.image.tobytes() for example in everything}) == len(everything)


def test_labels_are_classes_or_a_little_void(drawn):
    benchmark, examples, _ = drawn
    labels = np.stack([example.label for example in examples["train"]])
    assert set(np.unique(labels)) <= {*range(len(benchmark.classes)), IGNORE}
    assert 0 < (labels == IGNORE).mean() < 0.05


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_class_is_seen_and_somewhere_not_tiny(drawn, split):
    benchmark, examples, _ = drawn
    for index, name in enumerate(benchmark.classes):
        shares = [float((example.label == index).mean()) for example in examples[split]]
        assert max(shares) >= 0.005, name


def test_colour_does_not_give_the_class_away(drawn):
    benchmark, examples, _ = drawn
    pixels = np.concatenate([e.image.reshape(-1, 3)[::7] for e in examples["train"]]) / 255
    labels = np.concatenate([e.label.reshape(-1)[::7] for e in examples["train"]])
    spread = np.mean(
        [pixels[labels == c].mean(0) for c in range(len(benchmark.classes))], axis=1
    ).std()
    assert spread < 0.7 * pixels.std()


def test_images_are_small_and_drawn_quickly(drawn):
    _, examples, seconds = drawn
    for example in examples["val"]:
        assert example.image.shape == (*example.label.shape, 3)
        assert example.image.dtype == example.label.dtype == np.uint8
        assert all(96 <= side <= 128 for side in example.label.shape)
    count = sum(len(examples[split]) for split in SPLITS)
    assert seconds / count < 0.1


def test_an_unknown_id_is_a_data_error(drawn):
    benchmark, _, _ = drawn
    with pytest.raises(DataError, match=benchmark.name):
        benchmark.read("train/9999")
