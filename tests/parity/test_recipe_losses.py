"""Losses of a protocol against segmentation_models_pytorch, image by image, in float64."""

import itertools

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch.nn import functional as F

from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE
from benchmark.engine.losses import Criterion, balanced

LOSSES = ("ce", "ce+dice", "focal", "lovasz")


class Data:
    def __init__(self, *frequencies):
        self.frequencies = torch.tensor(frequencies)

    def class_frequencies(self):
        return self.frequencies


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, 6, 7, generator=random, dtype=torch.float64)
    labels = torch.randint(5, (4, 20, 22), generator=random)
    labels[:, :4] = IGNORE
    labels[0][labels[0] == 2] = 0  # a class that an image lacks
    labels[3] = IGNORE  # an image without a label
    return logits, labels


def reference(loss, logits, labels):
    """By the library, one image after the other; what it does not know is left to torch."""
    full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    images = list(zip(full.split(1), labels.split(1), strict=True))
    labelled = [(f, y) for f, y in images if (y != IGNORE).any()]
    pixels = (labels != IGNORE).sum()
    if loss == "focal":
        focal = smp.FocalLoss("multiclass", ignore_index=IGNORE)  # a mean over pixels of an image
        return sum(focal(f, y) * (y != IGNORE).sum() for f, y in labelled) / pixels
    if loss == "lovasz":
        lovasz = smp.LovaszLoss("multiclass", per_image=True, ignore_index=IGNORE)
        return sum(lovasz(f.float(), y) for f, y in labelled) / len(images)
    entropy = F.cross_entropy(full, labels, ignore_index=IGNORE)
    if loss == "ce":
        return entropy
    dice = smp.DiceLoss("multiclass", ignore_index=IGNORE)
    return entropy + sum(dice(f, y) for f, y in labelled) / len(images)


def in_float64(criterion, logits, labels, batch=None):
    """`Criterion` computes in float32; this takes a copy of it that does not."""
    logits.float = lambda: logits
    return criterion(logits, labels, batch)


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_library_with_its_gradient(loss, batch):
    logits, labels = batch
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found, expected = in_float64(Criterion(loss), ours, labels), reference(loss, theirs, labels)
    found.backward()
    expected.backward()
    exact = {"rtol": 1e-9, "atol": 1e-10}
    if loss == "lovasz":  # the library computes it in float32 only
        exact = {"rtol": 1e-4, "atol": 1e-6, "check_dtype": False}
    torch.testing.assert_close(found, expected, **exact)
    torch.testing.assert_close(ours.grad, theirs.grad, **exact)


@pytest.mark.parametrize(
    "loss, weights", [*itertools.product(LOSSES, [None]), ("ce", True), ("focal", True)]
)
def test_parts_of_a_batch_add_up(loss, weights, batch):
    logits, labels = batch
    criterion = Criterion(
        loss, balanced(torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1])) if weights else None
    )
    whole, parts = (logits.clone().requires_grad_() for _ in range(2))
    in_float64(criterion, whole, labels).backward()
    total = criterion.total(labels)
    for part in (slice(0, 1), slice(1, 4)):
        in_float64(criterion, parts[part], labels[part], total).backward()
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-9, atol=1e-12)


def test_weighted_cross_entropy_is_torchs(batch):
    logits, labels = batch
    criterion = Criterion.of(Protocol(class_weights="balanced"), Data(0.4, 0.3, 0.2, 0.1, 0.0))
    weights = torch.tensor([0.25 / 0.4, 0.25 / 0.3, 0.25 / 0.2, 0.25 / 0.1, 0.0])
    torch.testing.assert_close(criterion.weights, weights)
    full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full, labels, weights.double(), ignore_index=IGNORE)
    torch.testing.assert_close(in_float64(criterion, logits, labels), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_labelled_costs_nothing(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    found = Criterion(loss)(logits, torch.full((2, 8, 8), IGNORE))
    found.backward()
    assert found == 0 and not logits.grad.any()
