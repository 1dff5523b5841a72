"""Counts and interpolation against independent float64 computations written here."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import IGNORE, Example
from benchmark.evaluate import (
    band,
    boundary_counts,
    class_counts,
    coarse_logits,
    evaluate,
    label_strips,
    window_starts,
)
from benchmark.metrics import summarise
from benchmark.spec import Protocol


def random_maps(seed, classes=4, shape=(37, 53)):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, shape).astype(np.uint8)
    label[random.random(shape) < 0.1] = IGNORE
    return random.integers(0, classes, shape).astype(np.uint8), label


def test_class_counts_equal_pixel_by_pixel_counting():
    predicted, label = random_maps(0)
    got = class_counts(predicted, label, 4)
    expected = np.zeros((3, 4), int)
    for p, t in zip(predicted.flat, label.flat, strict=True):
        if t != IGNORE:
            expected[0][p] += p == t
            expected[1][p] += 1
            expected[2][t] += 1
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_band_is_the_mask_without_its_erosion(reach):
    mask = ndimage.binary_opening(np.random.default_rng(reach).random((40, 61)) < 0.8)
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach)
    np.testing.assert_array_equal(band(mask, reach), mask & ~eroded)


def test_boundary_counts_equal_the_definition():
    predicted, label = np.zeros((2, 60, 80), np.uint8)
    predicted[10:40, 10:40] = 1
    label[12:42, 8:40] = 1
    label[:5] = IGNORE
    intersection, union = boundary_counts(predicted, label, 3)
    valid = label != IGNORE
    for k in range(3):
        bands = []
        for map_ in (predicted, label):
            mask = valid & (map_ == k)
            bands.append(mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=2))
        assert intersection[k] == (bands[0] & bands[1]).sum()
        assert union[k] == (bands[0] | bands[1]).sum()


def join(coarse, padded, size, target):
    return torch.cat([logits for _, logits in label_strips(coarse, padded, size, target)], 1)


@pytest.mark.parametrize("target", [(64, 96), (50, 200), (301, 17)])
def test_strips_equal_one_bilinear_resize(target, monkeypatch):
    monkeypatch.setattr("benchmark.evaluate.STRIP_VALUES", 1000)
    coarse = torch.randn(3, 8, 12)
    whole = F.interpolate(coarse[None].double(), target, mode="bilinear")[0]
    strips = join(coarse, (64, 96), (64, 96), target)
    torch.testing.assert_close(strips.double(), whole, atol=1e-5, rtol=0)


def test_padding_is_cut_off_before_the_resize():
    coarse = torch.randn(3, 8, 12)
    full = join(coarse, (64, 96), (64, 96), (64, 96))
    cut = join(coarse, (64, 96), (50, 70), (50, 70))
    torch.testing.assert_close(cut, full[:, :50, :70])


class Local(nn.Module):
    """A stand-in network whose output at a place depends on that place only."""

    def __init__(self, classes, stride=4):
        super().__init__()
        self.stride, self.divisor = stride, 8
        self.mean, self.std = (0.5,) * 3, (0.25,) * 3
        self.weight = nn.Parameter(torch.randn(classes, 3, 1, 1))
        self.largest = 0

    @property
    def backbone(self):
        return self

    def forward(self, images):
        self.largest = max(self.largest, images.shape[-1] * images.shape[-2])
        return F.conv2d(F.avg_pool2d(images, self.stride), self.weight)


@pytest.mark.parametrize("size", [(160, 96), (96, 248), (256, 256)])
def test_sliding_windows_agree_with_the_whole_image(size):
    torch.manual_seed(0)
    model, image = Local(5), torch.randn(1, 3, *size)
    whole = coarse_logits(model, image, Protocol())
    model.largest = 0
    parts = coarse_logits(model, image, Protocol(eval_max_pixels=96 * 64, eval_window=64))
    torch.testing.assert_close(parts, whole)
    assert model.largest <= 64 * 64


class Fractional(Local):
    """Four logits per 14 pixels, as a pyramid over patches of 14 gives."""

    def __init__(self, classes):
        super().__init__(classes)
        self.divisor = 14

    def forward(self, images):
        return F.conv2d(F.interpolate(F.avg_pool2d(images, 14), scale_factor=4), self.weight)


def test_windows_of_logits_that_are_no_whole_number_of_pixels_wide():
    torch.manual_seed(0)
    model, image = Fractional(5), torch.randn(1, 3, 140, 280)
    whole = coarse_logits(model, image, Protocol())
    parts = coarse_logits(model, image, Protocol(eval_max_pixels=4900, eval_window=70))
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("side", [64, 65, 100, 513, 1000])
def test_windows_cover_the_side_and_overlap(side):
    side = -(-side // 8) * 8
    starts = window_starts(side, 64, 8)
    assert starts[0] == 0 and (starts[-1] + 64 == side or side <= 64)
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= 64 * 2 // 3 + 8).all()
    assert all(start % 8 == 0 for start in starts)


class Tiny:
    name, folder = "tiny", None
    classes = ("a", "b", "c", "d", "never")

    def scale(self, height, width):
        return 0.5


def test_metrics_equal_a_float64_recomputation():
    torch.manual_seed(1)
    model, random = Local(5).eval(), np.random.default_rng(0)
    examples = []
    for index in range(3):
        shape = (40 + 7 * index, 64)
        image = random.integers(0, 255, (*shape, 3)).astype(np.uint8)
        image = ndimage.uniform_filter(image, (9, 9, 1))
        label = random.integers(0, 4, shape).astype(np.uint8)
        label[:3] = IGNORE
        examples.append(Example(str(index), image, label))
    counts = evaluate(model, Tiny(), examples, Protocol(), "fp32")
    metrics = summarise(counts, Tiny.classes)

    # From the definitions, with per-pixel probabilities of the same network.
    predicted, labels, chosen, confidence = [], [], [], []
    for example in examples:
        h, w = example.label.shape
        x = torch.from_numpy(example.image.transpose(2, 0, 1).copy())[None].float()
        small = (round(h * 0.5), round(w * 0.5))
        x = F.interpolate(x, small, mode="bilinear", antialias=True).round().clamp(0, 255)
        x = (x / 255 - 0.5) / 0.25
        padded = tuple(-(-s // 8) * 8 for s in small)
        x = F.pad(x, (0, padded[1] - small[1], 0, padded[0] - small[0]))
        logits = model(x).double()
        ys = (np.arange(h) + 0.5) * small[0] / h / 4 - 0.5
        xs = (np.arange(w) + 0.5) * small[1] / w / 4 - 0.5
        grid = np.stack(np.meshgrid(ys, xs, indexing="ij"))
        logits = np.stack(
            [
                ndimage.map_coordinates(plane, grid, order=1, mode="nearest")
                for plane in logits[0].detach().numpy()
            ]
        )
        probabilities = np.exp(logits) / np.exp(logits).sum(0)
        valid = example.label != IGNORE
        labels.append(example.label[valid])
        predicted.append(probabilities.argmax(0)[valid])
        chosen.append(np.take_along_axis(probabilities, example.label[None] % 5, 0)[0][valid])
        confidence.append(probabilities.max(0)[valid])
    p, t = np.concatenate(predicted), np.concatenate(labels)
    iou = [((p == k) & (t == k)).sum() / ((p == k) | (t == k)).sum() for k in range(4)]
    share = [(t == k).mean() for k in range(4)]
    assert metrics.miou == pytest.approx(np.mean(iou), abs=1e-3)
    assert metrics.pixel_accuracy == pytest.approx((p == t).mean(), abs=1e-3)
    assert metrics.fw_iou == pytest.approx(np.dot(iou, share), abs=1e-3)
    recall = [((p == k) & (t == k)).sum() / (t == k).sum() for k in range(4)]
    assert metrics.mean_accuracy == pytest.approx(np.mean(recall), abs=1e-3)
    assert metrics.nll == pytest.approx(-np.log(np.concatenate(chosen)).mean(), rel=1e-4)
    c = np.concatenate(confidence)
    bins = np.minimum((c * 15).astype(int), 14)
    ece = sum(
        abs((p == t)[bins == b].sum() - c[bins == b].sum()) for b in range(15) if (bins == b).any()
    ) / len(c)
    assert metrics.ece == pytest.approx(ece, abs=1e-3)
    assert metrics.class_iou["never"] is None
    assert metrics.absent_classes == ["never"]
    per_image = [
        np.mean([((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in range(4)])
        for a, b in zip(predicted, labels, strict=True)
    ]
    assert metrics.image_miou == pytest.approx(np.mean(per_image), abs=1e-3)
