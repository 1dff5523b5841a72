"""The loss on labels of full size, against a float64 computation that upsamples pixel by pixel."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods import pixelwise
from methods.pixelwise import upsampled_cross_entropy


def written_out(logits, labels, ignored):
    """Pixel by pixel: four neighbours on the coarse grid, half-pixel centres; then -log softmax."""
    n, _, h, w = logits.shape
    _, height, width = labels.shape
    total = 0.0
    for image in range(n):
        for y in range(height):
            for x in range(width):
                if labels[image, y, x] == ignored:
                    continue
                at_y = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
                at_x = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
                y0, x0 = int(at_y), int(at_x)
                y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
                dy, dx = at_y - y0, at_x - x0
                score = (
                    logits[image, :, y0, x0] * (1 - dy) * (1 - dx)
                    + logits[image, :, y0, x1] * (1 - dy) * dx
                    + logits[image, :, y1, x0] * dy * (1 - dx)
                    + logits[image, :, y1, x1] * dy * dx
                )
                top = score.max()
                total += top + np.log(np.exp(score - top).sum()) - score[labels[image, y, x]]
    return total


def drawn(n, k, coarse, fine, dtype=torch.float64, void=0.2):
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, k, *coarse, generator=random, dtype=dtype)
    labels = torch.randint(0, k, (n, *fine), generator=random)
    labels[torch.rand(labels.shape, generator=random) < void] = 255
    return logits.requires_grad_(), labels


SHAPES = [
    (2, 3, (4, 5), (16, 20)),
    (1, 2, (1, 1), (3, 4)),
    (3, 4, (5, 7), (12, 9)),
    (2, 3, (6, 6), (6, 6)),
    (1, 3, (9, 8), (6, 5)),
]


@pytest.mark.parametrize(("n", "k", "coarse", "fine"), SHAPES)
def test_it_is_the_sum_written_out(n, k, coarse, fine):
    logits, labels = drawn(n, k, coarse, fine)
    found = upsampled_cross_entropy(logits, labels, 255)
    expected = written_out(logits.detach().numpy(), labels.numpy(), 255)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)


def gradient(logits, labels):
    (found,) = torch.autograd.grad(upsampled_cross_entropy(logits, labels, 255), logits)
    return found


@pytest.mark.parametrize(("n", "k", "coarse", "fine"), SHAPES)
def test_gradients_are_those_of_differences(n, k, coarse, fine):
    logits, labels = drawn(n, k, coarse, fine)
    assert torch.autograd.gradcheck(lambda x: upsampled_cross_entropy(x, labels, 255), logits)


@pytest.mark.parametrize(("n", "k", "coarse", "fine"), SHAPES)
@pytest.mark.parametrize("chunk", [1, 50])
def test_no_chunk_changes_loss_or_gradients(monkeypatch, n, k, coarse, fine, chunk):
    logits, labels = drawn(n, k, coarse, fine)
    whole = upsampled_cross_entropy(logits, labels, 255), gradient(logits, labels)
    monkeypatch.setitem(pixelwise.CHUNK, "cpu", chunk)
    parts = upsampled_cross_entropy(logits, labels, 255), gradient(logits, labels)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_in_float32_it_is_the_library_s_to_rounding():
    logits, labels = drawn(4, 11, (10, 10), (160, 160), torch.float32)
    ours = upsampled_cross_entropy(logits, labels, 255)
    (2 * ours).backward()
    mine, logits.grad = logits.grad, None
    up = F.interpolate(logits, (160, 160), mode="bilinear")
    theirs = F.cross_entropy(up, labels, ignore_index=255, reduction="sum")
    (2 * theirs).backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(mine, logits.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k", "coarse", "fine"), SHAPES)
@pytest.mark.parametrize("chunk", [1, 2**18])
def test_maps_of_the_same_images_add_up(monkeypatch, n, k, coarse, fine, chunk):
    monkeypatch.setitem(pixelwise.CHUNK, "cpu", chunk)
    logits, labels = drawn(n, k, coarse, fine)
    maps = torch.stack([logits, -logits, logits.flip(1) / 2]).detach().requires_grad_()
    together = upsampled_cross_entropy(maps, labels, 255)
    apart = sum(upsampled_cross_entropy(m, labels, 255) for m in maps)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)
    (ours,), (theirs,) = (torch.autograd.grad(loss, maps) for loss in (together, apart))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("largest", [1.0, 30.0, 1000.0])
def test_it_holds_for_any_range_of_the_logits(dtype, largest):
    # Between places with different classes no score comes near the largest of its neighbours.
    logits, labels = drawn(2, 4, (5, 3), (20, 24), dtype)
    logits = (logits.sign() * largest).detach().requires_grad_()
    ours = upsampled_cross_entropy(logits, labels, 255)
    up = F.interpolate(logits, labels.shape[-2:], mode="bilinear")
    theirs = F.cross_entropy(up, labels, ignore_index=255, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (mine,), (other,) = (torch.autograd.grad(loss, logits) for loss in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k", "coarse", "fine"), [*SHAPES, (2, 11, (10, 10), (160, 160))])
def test_exponentials_by_factors_are_those_of_every_pixel(monkeypatch, n, k, coarse, fine):
    logits, labels = drawn(n, k, coarse, fine)
    by_factors = upsampled_cross_entropy(logits, labels, 255), gradient(logits, labels)
    # As on a device whose values are not looked at.
    monkeypatch.setattr(pixelwise, "DEEPEST", 1.0)
    one_by_one = upsampled_cross_entropy(logits, labels, 255), gradient(logits, labels)
    torch.testing.assert_close(by_factors, one_by_one, rtol=1e-12, atol=1e-12)


def test_changed_labels_and_other_sizes_are_not_taken_for_what_was_known():
    logits, labels = drawn(2, 3, (4, 4), (8, 8))
    before = upsampled_cross_entropy(logits, labels, 255).detach()
    coarser = upsampled_cross_entropy(logits[..., :2, :2], labels, 255).detach()
    assert torch.equal(
        coarser, upsampled_cross_entropy(logits[..., :2, :2], labels.clone(), 255).detach()
    )
    labels.copy_(labels.flip(1))
    after = upsampled_cross_entropy(logits, labels, 255).detach()
    assert not torch.equal(after, before)
    assert torch.equal(after, upsampled_cross_entropy(logits, labels.clone(), 255).detach())


def test_void_alone_costs_nothing_and_pulls_nowhere():
    logits, labels = drawn(2, 3, (4, 4), (8, 8), void=1.1)
    loss = upsampled_cross_entropy(logits, labels, 255)
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()


def test_large_logits_stay_finite_and_wrong_ones_do_not_hide():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    right = upsampled_cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.long), 255)
    wrong = upsampled_cross_entropy(logits, torch.ones(1, 4, 4, dtype=torch.long), 255)
    assert float(right.detach()) == 0 and float(wrong.detach()) == pytest.approx(16 * 2e4)
    broken = (logits * float("nan")).detach().requires_grad_()
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    assert torch.isnan(upsampled_cross_entropy(broken, labels, 255))


def test_autocast_does_not_round_it():
    logits, labels = drawn(2, 5, (4, 4), (16, 16), torch.float32)
    plain = upsampled_cross_entropy(logits, labels, 255)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(upsampled_cross_entropy(logits, labels, 255), plain)


def test_without_gradient_nothing_is_kept():
    logits, labels = drawn(2, 5, (4, 4), (16, 16))
    with torch.no_grad():
        loss = upsampled_cross_entropy(logits, labels, 255)
    assert loss.grad_fn is None
    assert float(loss) == float(upsampled_cross_entropy(logits, labels, 255).detach())
