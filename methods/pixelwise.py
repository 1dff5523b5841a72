"""Cross-entropy of coarse logits against full-size labels, without logits of full size."""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

CHUNK = {"cpu": 2**18, "cuda": 2**26}
"""Logits of full size that are held at once: what stays near a core, or fits on a GPU."""


def held_on(device: torch.device) -> int:
    """`CHUNK` of a device."""
    return CHUNK.get(device.type, CHUNK["cpu"])


DEEPEST = -60.0
"""How far below its place's largest a coarse logit may be for exponentials that never vanish."""

_COARSE = WeakIdKeyDictionary()
"""What `_coarse` remembers, by labels."""


def upsampled_cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Summed cross-entropy of logits that are resized bilinearly to the labels.

    Equal to `F.cross_entropy(F.interpolate(logits, (H, W), mode="bilinear"), labels,
    ignore_index=ignored, reduction="sum")` to rounding. Resizing is a product with a matrix on
    each side, and the gradient of the loss is known as soon as the loss is: softmax less one-hot.
    So some lines of pixels are resized, scored and brought back to the coarse grid before the next
    ones, and nothing of the labels' size is kept for the way back. The one-hot labels are brought
    to the coarse grid as well, once for all maps: as resizing is linear, their product with the
    coarse logits is the sum of the scores of the right classes.

    Args:
        logits: (N, K, h, w) or, for M maps of the same images, (M, N, K, h, w); float32 or float64.
        labels: (N, H, W) int64.
        ignored: label that counts nowhere.

    Returns:
        A scalar of the logits' type, summed over the maps; 0 where every pixel is ignored.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _Summed.apply(logits, labels, ignored)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
        *_, classes, h, w = logits.shape
        count, height, width = labels.shape
        down = _weights(h, height, logits.dtype, logits.device)  # (h, H)
        across = _weights(w, width, logits.dtype, logits.device)  # (w, W)
        # (N, h, M, K, w). Less the largest of each place, no score of a pixel is above 0.
        maps = logits.reshape(-1, count, classes, h, w).permute(1, 3, 0, 2, 4)
        maps = maps - maps.amax(3, keepdim=True)
        # A look at values of another device makes the host wait.
        deep = maps.device.type != "cpu" or bool(maps.amin() < DEEPEST)
        gradient = torch.empty_like(maps) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        onehot = _coarse(labels, ignored, classes, down, across)
        many = max(1, held_on(logits.device) // (height * maps[0, 0].numel()))
        for first in range(0, count, many):
            images = slice(first, first + many)
            part, right = maps[images], onehot[images, :, None]
            kept = (labels[images].flatten(0, 1) != ignored).to(maps.dtype)  # (n H, W)
            lines = torch.matmul(down.t(), part.flatten(2)).view(-1, *part.shape[2:])
            logs, softmax = _softmax(lines, across, kept, deep, gradient is not None)
            total += (logs * kept[:, None]).sum(dtype=torch.float64)
            total -= (part * right).sum(dtype=torch.float64)
            if gradient is not None and softmax is not None:
                torch.sub(_brought_back(softmax, down, part), right, out=gradient[images])
        ctx.shape = logits.shape
        ctx.save_for_backward(None if gradient is None else gradient.permute(2, 0, 3, 1, 4))
        return total.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else (gradient * grad).reshape(ctx.shape), None, None


def _softmax(
    lines: Tensor, across: Tensor, kept: Tensor, deep: bool, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Logarithms of the sums of exponentials, (L, M, W), and the softmax, (L, M, K, w).

    Args:
        lines: logits of L lines of pixels that are still coarse along the line, (L, M, K, w).
        across: what brings them to W pixels, (w, W), and the softmax back.
        kept: (L, W), 1 where a pixel counts, else 0, as its softmax is then.
        deep: whether all exponentials of a pixel may vanish.
        wanted: whether the softmax is.
    """
    (length, maps, classes, _), width = lines.shape, across.shape[1]
    sums = lines.new_empty(length, maps, width)
    largest = torch.empty_like(sums) if deep else None
    softmax = torch.empty_like(lines) if wanted else None
    held = _held((length, maps, classes, width), lines)
    for some in _pieces(length, len(held)):
        scores = torch.matmul(lines[some], across, out=held[: len(lines[some])])
        if largest is not None:
            scores -= torch.amax(scores, 2, out=largest[some])[:, :, None]
        total = torch.sum(scores.exp_(), 2, out=sums[some])
        if softmax is not None:
            scores *= (kept[some, None] / total)[:, :, None]
            torch.matmul(scores, across.t(), out=softmax[some])
    sums.log_()
    return sums if largest is None else sums.add_(largest), softmax


def _coarse(labels: Tensor, ignored: int, classes: int, down: Tensor, across: Tensor) -> Tensor:
    """One-hot labels (N, H, W) brought to the coarse grid, (N, h, K, w); ignored ones are 0.

    They are remembered while the labels exist: a loss and an auxiliary one ask for the same.
    """
    version = 0 if labels.is_inference() else labels._version
    key = (version, ignored, classes, len(down), len(across), down.dtype)
    known = _COARSE.setdefault(labels, {})
    if key not in known:
        parts = labels.split(max(1, held_on(labels.device) // (labels[0].numel() * classes)))
        known[key] = torch.cat(
            [_coarse_part(part, ignored, classes, down, across) for part in parts]
        )
    return known[key]


def _coarse_part(
    labels: Tensor, ignored: int, classes: int, down: Tensor, across: Tensor
) -> Tensor:
    target = labels.flatten(0, 1)  # (n H, W)
    counted = target != ignored
    target, kept = target.where(counted, 0)[:, None], counted.to(down.dtype)[:, None]
    found = down.new_empty(len(target), classes, len(across))
    held = _held((len(target), classes, across.shape[1]), down)
    for some in _pieces(len(target), len(held)):
        onehot = held[: len(target[some])].zero_().scatter_(1, target[some], kept[some])
        torch.matmul(onehot, across.t(), out=found[some])
    return _brought_back(found, down, found.new_empty(len(labels), len(down), *found.shape[1:]))


def _brought_back(lines: Tensor, down: Tensor, like: Tensor) -> Tensor:
    """Lines (n H, ...) of pixels to those of the coarse grid, (n, h, ...) as `like`."""
    return torch.matmul(down, lines.view(len(like), down.shape[1], -1)).view(like.shape)


def _held(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Memory for so many lines of a tensor of this shape as are held at once.

    It is reused for all of them: memory that is freed and allocated again is cleared by the system.
    """
    lines, *rest = shape
    return like.new_empty(max(1, min(lines, held_on(like.device) // prod(rest))), *rest)


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, length, size))


@lru_cache(maxsize=64)
def _weights(coarse: int, fine: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(coarse, fine): what each coarse place gives to each fine one."""
    with torch.inference_mode(False):
        unit = torch.eye(coarse, dtype=dtype, device=device)[None]
        return F.interpolate(unit, fine, mode="linear", align_corners=False)[0]
