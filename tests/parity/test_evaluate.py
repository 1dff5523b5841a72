"""Prediction, interpolation and metrics against float64 computations written here."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import softmax
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE, Example
from benchmark.engine.evaluate import (
    STRIP,
    coarse_logits,
    evaluate,
    label_strips,
    same_class_counts,
    window_starts,
)
from benchmark.models.backbone import StagedBackbone
from benchmark.models.normalise import Normalise
from benchmark.results.metrics import summarise


def join(coarse, padded, size, target):
    strips = [logits for _, logits in label_strips(coarse, padded, size, target)]
    return torch.cat(strips, 1).transpose(1, 2)


@pytest.mark.parametrize("target", [(64, 96), (50, 200), (301, 17)])
def test_strips_equal_one_bilinear_resize(target, monkeypatch):
    monkeypatch.setitem(STRIP, "cpu", 1000)
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

    fixed_side, padded = None, StagedBackbone.padded

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


class OneSize(Local):
    """Takes images of 64x64 px and no others."""

    fixed_side = 64

    def forward(self, images):
        assert images.shape[-2:] == (64, 64)
        return super().forward(images)


@pytest.mark.parametrize("size", [(40, 50), (64, 64), (72, 96), (30, 200)])
def test_a_network_of_one_size_sees_an_image_by_windows_of_that_size(size):
    torch.manual_seed(0)
    fixed, free, image = OneSize(5), Local(5), torch.randn(1, 3, *size)
    free.load_state_dict(fixed.state_dict())
    height, width = fixed.padded(*size)
    assert height >= 64 and width >= 64 and height % 8 == width % 8 == 0
    padded = F.pad(image, (0, width - size[1], 0, height - size[0]))
    found = coarse_logits(fixed, padded, Protocol(), 64 * 64)
    torch.testing.assert_close(found, coarse_logits(free, padded, Protocol(), 64 * 64))


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


def written_out(model, example):
    """Logits (K, H, W) of `Tiny`'s image, interpolated pixel by pixel in float64."""
    h, w = example.label.shape
    x = torch.from_numpy(example.image.transpose(2, 0, 1).copy())[None].float()
    small = (round(h * 0.5), round(w * 0.5))
    x = F.interpolate(x, small, mode="bilinear", antialias=True).round().clamp(0, 255)
    x = (x / 255 - 0.5) / 0.25
    padded = tuple(-(-s // 8) * 8 for s in small)
    x = F.pad(x, (0, padded[1] - small[1], 0, padded[0] - small[0]))
    ys = (np.arange(h) + 0.5) * small[0] / h / 4 - 0.5
    xs = (np.arange(w) + 0.5) * small[1] / w / 4 - 0.5
    grid = np.stack(np.meshgrid(ys, xs, indexing="ij"))
    planes = model(x)[0].detach().double().numpy()
    return np.stack([ndimage.map_coordinates(p, grid, order=1, mode="nearest") for p in planes])


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
        probabilities = softmax(written_out(model, example), 0)
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
    monkeypatch.setitem(STRIP, "cpu", values)
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


class Many(Tiny):
    def __init__(self, classes):
        self.classes = tuple(map(str, range(classes)))


@pytest.mark.parametrize("classes", [1, 2, 11, 255])
@pytest.mark.parametrize("size", [(41, 63), (87, 34)], ids=str)
def test_counts_equal_slow_ones_of_the_same_network(size, classes):
    torch.manual_seed(classes)
    model, example = Local(classes).eval(), tiny_examples(*size)[1]
    label = (example.label * 7 % min(classes, 200)).astype(np.uint8)  # some classes are absent
    label[example.label == IGNORE] = IGNORE
    seen, example = [], Example("0", example.image, label)
    counts = evaluate(
        model,
        Many(classes),
        [example],
        Protocol(),
        "fp32",
        seen=lambda _, predicted: seen.append(predicted),
    )
    (predicted,) = seen

    logits = written_out(model, example)
    highest = np.sort(logits, 0)[-2:]
    clear = highest[-1] - highest[0] > 1e-4 if classes > 1 else np.full(label.shape, True)
    assert clear.mean() > 0.98
    assert predicted.dtype == np.uint8 and predicted.shape == label.shape
    np.testing.assert_array_equal(predicted[clear], logits.argmax(0)[clear])

    valid = label != IGNORE
    reach = max(1, round(0.02 * np.hypot(*label.shape)))
    for k in range(classes):
        ours, theirs = valid & (predicted == k), label == k
        assert counts["intersection"][0, k] == (ours & theirs).sum()
        assert counts["prediction"][0, k] == ours.sum()
        assert counts["label"][0, k] == theirs.sum()
        ours, theirs = (
            mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach)
            for mask in (ours, theirs)
        )
        assert counts["boundary_intersection"][0, k] == (ours & theirs).sum()
        assert counts["boundary_union"][0, k] == (ours | theirs).sum()
    chances = softmax(logits, 0)
    true = np.take_along_axis(chances, np.where(valid, label, 0)[None].astype(int), 0)[0]
    assert counts["nll"][0] == pytest.approx(-np.log(true[valid]).sum(), rel=1e-4, abs=1e-3)
    sure, hit = chances.max(0)[valid], (predicted == label)[valid]
    place = sure * 15
    edge = np.abs(place - place.round()) < 1e-3  # may fall into either bin
    bins = np.minimum(place.astype(int), 14)
    for key, weight in (("bin_count", 1), ("bin_correct", hit), ("bin_confidence", sure)):
        rows = np.bincount(bins, weight * np.ones(len(bins)), 15)
        assert np.abs(counts[key][0] - rows).sum() <= 2 * edge.sum() + 1e-3
    assert classes == 1 or edge.mean() < 0.05


class Written(TorchDispatchMode):
    """Values that operators write, by the shape of their output."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        if isinstance(out, torch.Tensor) and not function.is_view:
            self.shapes.append(tuple(out.shape))
        return out


def test_logits_are_of_full_size_in_one_strip_only_and_passed_a_few_times(monkeypatch):
    held = 40_000
    monkeypatch.setitem(STRIP, "cpu", held // torch.get_num_threads())
    model, examples = Local(32).eval(), tiny_examples(120, 200)
    with Written() as written:
        evaluate(model, Many(32), examples, Protocol(), "fp32")
    sizes = [np.prod(shape) for shape in written.shapes if len(shape) == 3 and shape[0] == 32]
    assert held / 2 < max(sizes) <= held
    assert sum(sizes) / (32 * sum(example.label.size for example in examples)) < 9
    largest = max(np.prod(shape, dtype=int) for shape in written.shapes)
    assert largest <= 3 * max(example.label.size for example in examples)  # of an image's bytes
