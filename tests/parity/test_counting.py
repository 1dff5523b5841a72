"""Counts against slow computations from the definitions, in numpy and float64."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmark.data.base import IGNORE
from benchmark.engine.counts import (
    BINS,
    bands,
    best_class,
    calibration,
    class_counts,
    log_probabilities,
)

CLASSES = 6
"""Of which the last two are never labelled, and the last one never predicted."""

SHAPES = [(1, 1), (1, 210), (170, 2), (37, 53), (128, 96), (203, 157)]


def regions(random, shape, classes):
    """A map of blobs, as labels are, with a few lone pixels."""
    height, width = shape
    noise = ndimage.gaussian_filter(random.random((classes, height, width)), (0, 9, 9))
    out = noise.argmax(0)
    lone = random.random(shape) < 0.002
    return np.where(lone, random.integers(0, classes, shape), out).astype(np.uint8)


def pair(shape, void="some"):
    random = np.random.default_rng(sum(shape))
    predicted = regions(random, shape, CLASSES - 1)
    label = np.where(random.random(shape) < 0.8, predicted, 0) if void == "much" else predicted
    label = ndimage.shift(label, (3, -2), order=0, mode="nearest")
    label = np.where(label < CLASSES - 2, label, 0).astype(np.uint8)
    if void != "none":
        label[regions(random, shape, 4 if void == "some" else 2) == 0] = IGNORE
    if void == "all":
        label[:] = IGNORE
    return predicted, label


def on_torch(*maps):
    return [torch.from_numpy(x) for x in maps]


every = pytest.mark.parametrize("shape", SHAPES, ids=str)
voids = pytest.mark.parametrize("void", ["none", "some", "much", "all"])


@every
@voids
def test_class_counts_equal_pixel_by_pixel_counting(shape, void):
    predicted, label = pair(shape, void)
    expected = np.zeros((3, CLASSES), int)
    for p, t in zip(predicted.flat, label.flat, strict=True):
        if t != IGNORE:
            expected[0][p] += p == t
            expected[1][p] += 1
            expected[2][t] += 1
    got = class_counts(*on_torch(predicted, label), CLASSES)
    assert got.dtype == torch.int64
    np.testing.assert_array_equal(got, expected)
    assert not expected[2, -2:].any() and not expected[1, -1]


@pytest.mark.parametrize("classes", [1, 2, 150, 255])
def test_no_class_is_taken_for_void(classes):
    random = np.random.default_rng(classes)
    predicted, label = random.integers(0, classes, (2, 60, 60)).astype(np.uint8)
    label[random.random(label.shape) < 0.3] = IGNORE
    valid = label != IGNORE
    right, guessed, true = class_counts(*on_torch(predicted, label), classes).numpy()
    for k in range(classes):
        assert right[k] == (valid & (predicted == k) & (label == k)).sum()
        assert guessed[k] == (valid & (predicted == k)).sum()
        assert true[k] == (label == k).sum()


def by_erosion(mask, reach):
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach)


@every
@pytest.mark.parametrize("reach", [1, 2, 5, 16])
def test_bands_are_the_masks_without_their_erosion(reach, shape):
    predicted, label = pair(shape)
    got = bands(torch.stack(on_torch(predicted, label)), reach).numpy()
    alone = bands(torch.from_numpy(label)[None], reach).numpy()
    for k in range(CLASSES):
        for number, x in enumerate((predicted, label)):
            inside = (got >> number & 1).astype(bool) & (x == k)
            np.testing.assert_array_equal(inside, by_erosion(x == k, reach))
        np.testing.assert_array_equal(alone & (label == k), by_erosion(label == k, reach))


def check_borders(predicted, label, classes):
    reach = max(1, round(0.02 * np.hypot(*label.shape)))
    counts = class_counts(*on_torch(predicted, label), classes, borders=True)
    assert counts.dtype == torch.int64 and counts.shape == (5, classes)
    assert torch.equal(counts[:3], class_counts(*on_torch(predicted, label), classes))
    valid = label != IGNORE
    for k in range(classes):
        ours, theirs = (by_erosion(valid & (x == k), reach) for x in (predicted, label))
        assert counts[3, k] == (ours & theirs).sum()
        assert counts[4, k] == (ours | theirs).sum()


@every
@voids
def test_boundary_counts_equal_the_definition(shape, void):
    check_borders(*pair(shape, void), CLASSES)


@pytest.mark.parametrize("classes", [1, 2, 150, 255])
def test_boundary_counts_of_any_number_of_classes(classes):
    random = np.random.default_rng(classes)
    predicted, label = (
        random.integers(0, classes, (9, 7)).repeat(7, 0).repeat(9, 1).astype(np.uint8)
        for _ in range(2)
    )
    predicted[0, 0] = label[0, 0] = classes - 1  # the highest index is used
    label[random.random(label.shape) < 0.05] = IGNORE
    check_borders(predicted, label, classes)


@pytest.mark.parametrize("classes", [1, 2, 11, 150, 255])
@pytest.mark.parametrize("values", ["distinct", "with ties", "one ulp apart", "infinite"])
def test_the_best_class_is_that_of_argmax(values, classes):
    logits = 9 * torch.randn(classes, 31, 17, generator=torch.Generator().manual_seed(classes))
    if values == "with ties":
        logits = logits.round()
        logits[:, :9] = 0
    if values == "one ulp apart":
        logits = torch.tensor(3.0).nextafter(logits.sign())
    if values == "infinite":
        logits = logits.masked_fill(logits < -5, -torch.inf).masked_fill(logits > 25, torch.inf)
        logits[0] = logits[0].clamp(min=-30)  # no pixel has nothing but -inf
    expected = logits.numpy().copy()
    best, below = best_class(logits)
    np.testing.assert_array_equal(best, expected.argmax(0))
    assert best.dtype == torch.uint8
    finite = np.isfinite(expected).all(0)
    expected = expected[:, finite]
    np.testing.assert_array_equal(below.numpy()[:, finite], expected - expected.max(0))


def test_logits_that_are_no_numbers_still_give_a_class():
    logits = torch.full((3, 2, 2), torch.nan)
    logits[1, 0] = 5
    assert (best_class(logits)[0] < 3).all()


@every
@voids
@pytest.mark.parametrize("sharpness", [0.1, 1, 30])
def test_calibration_equals_the_definition(shape, void, sharpness):
    _, label = pair(shape, void)
    torch.manual_seed(0)
    logits = sharpness * torch.randn(CLASSES, *shape)
    label = torch.from_numpy(label)
    predicted, below = best_class(logits.clone())
    best, true = log_probabilities(below, label)
    nll, pixels, right, confidence = calibration(predicted, label, best, true)

    values = logits.double().numpy()
    values -= values.max(0)
    chances = np.exp(values) / np.exp(values).sum(0)
    valid = label.numpy() != IGNORE
    chances, values, truth = chances[:, valid], values[:, valid], label.numpy()[valid]
    place = np.minimum((chances.max(0) * BINS).astype(int), BINS - 1)
    hit = chances.argmax(0) == truth
    expected = [
        [weight[place == number].sum() for number in range(BINS)]
        for weight in (np.ones(len(truth)), hit, chances.max(0))
    ]
    surprise = (np.log(np.exp(values).sum(0)) - values[truth, np.arange(len(truth))]).sum()
    assert nll.item() == pytest.approx(surprise, rel=1e-6)
    assert pixels.dtype == right.dtype == torch.int64
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(right, expected[1])
    np.testing.assert_allclose(confidence, expected[2], rtol=1e-6)
