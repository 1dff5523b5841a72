"""Prediction, interpolation and metrics against float64 computations written here."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import IGNORE, Example
from benchmark.data.batches import Normalise
from benchmark.evaluate import (
    coarse_logits,
    evaluate,
    label_strips,
    same_class_counts,
    window_starts,
)
from benchmark.metrics import summarise
from benchmark.spec import Protocol
from methods import pixelwise


def join(coarse, padded, size, target):
    return torch.cat([logits for _, logits in label_strips(coarse, padded, size, target)], 1)


@pytest.mark.parametrize("target", [(64, 96), (50, 200), (301, 17)])
def test_strips_equal_one_bilinear_resize(target, monkeypatch):
    monkeypatch.setitem(pixelwise.CHUNK, "cpu", 1000)
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
        self.normalise = Normalise((0.5,) * 3, (0.25,) * 3)
        self.weight = nn.Parameter(torch.randn(classes, 3, 1, 1))
        self.passes = []  # pixels of each batch

    @property
    def backbone(self):
        return self

    def forward(self, images):
        self.passes.append(len(images) * images.shape[-1] * images.shape[-2])
        return F.conv2d(F.avg_pool2d(images, self.stride), self.weight)


@pytest.mark.parametrize("pixels", [64 * 96, 3 * 64 * 64 + 1])
@pytest.mark.parametrize("size", [(160, 96), (96, 248), (256, 256)])
def test_sliding_windows_agree_with_the_whole_image(size, pixels):
    torch.manual_seed(0)
    model, image = Local(5), torch.randn(1, 3, *size)
    whole = coarse_logits(model, image, Protocol(), pixels)
    model.passes.clear()
    cut = Protocol(eval_max_pixels=64 * 96, eval_window=64)
    parts = coarse_logits(model, image, cut, pixels)
    torch.testing.assert_close(parts, whole)
    windows = sum(model.passes) // 64**2
    assert max(model.passes) <= pixels and len(model.passes) == -(-windows // (pixels // 64**2))


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
    whole = coarse_logits(model, image, Protocol(), 0)
    for pixels in (0, 4900, 3 * 4900):  # one window at a time, and three
        parts = coarse_logits(model, image, Protocol(eval_max_pixels=4900, eval_window=70), pixels)
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


def tiny_examples(height, width):
    random, examples = np.random.default_rng(0), []
    for index in range(3):
        shape = (height + 7 * index, width)
        image = random.integers(0, 255, (*shape, 3)).astype(np.uint8)
        image = ndimage.uniform_filter(image, (9, 9, 1))
        label = random.integers(0, 4, shape).astype(np.uint8)
        label[:3] = IGNORE
        examples.append(Example(str(index), image, label))
    return examples


@pytest.mark.parametrize("windows", [False, True])
def test_metrics_equal_a_float64_recomputation(windows):
    torch.manual_seed(1)
    model = Local(5).eval()
    protocol = Protocol(eval_max_pixels=4096, eval_window=32) if windows else Protocol()
    examples = tiny_examples(161, 187) if windows else tiny_examples(40, 64)
    counts = evaluate(model, Tiny(), examples, protocol, "fp32")
    assert (len(model.passes) > len(examples)) is windows
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


@pytest.mark.parametrize("values", [1, 1000, 2**24])
def test_counts_do_not_hang_on_the_strips_or_on_what_else_is_counted(values, monkeypatch):
    torch.manual_seed(2)
    model, examples, seen = Local(5).eval(), tiny_examples(41, 63), []
    expected = evaluate(model, Tiny(), examples, Protocol(), "fp32")
    monkeypatch.setitem(pixelwise.CHUNK, "cpu", values)
    keep = lambda example, predicted: seen.append((example.id, predicted))  # noqa: E731
    counts = evaluate(model, Tiny(), examples, Protocol(), "fp32", seen=keep)
    assert counts.keys() == expected.keys()
    for key, value in counts.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-6 if value.dtype == float else 0)
    assert same_class_counts(
        evaluate(model, Tiny(), examples, Protocol(), "fp32", full=False), expected
    )
    for example, (id, predicted), row in zip(examples, seen, counts["prediction"], strict=True):
        valid = example.label != IGNORE
        assert id == example.id and predicted.dtype == np.uint8
        np.testing.assert_array_equal(np.bincount(predicted[valid], minlength=5), row)
