"""Cross-entropy of coarse logits against full-size labels, without logits of full size."""

from collections.abc import Iterator
from dataclasses import dataclass
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
    ignore_index=ignored, reduction="sum")` to rounding, with no logits of the labels' size:

    * The gradient of the loss is known as soon as the loss is: softmax less one-hot. So some pixels
      are scored and their softmax is brought back to the coarse grid before the next ones.
    * Resizing is linear on each axis. The sum of the scores of the right classes is the product of
      the coarse logits with one-hot labels that were brought to the coarse grid, once for all maps.
    * In the gap between two coarse rows, scores change in equal steps from line to line, so their
      exponentials change by equal factors: a gap takes two exponentials a column, not one a pixel.

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
        gaps = _gaps(h, height, logits.dtype, logits.device)
        # (N, h, M, K, w). Less the largest of each place, no score of a pixel is above 0.
        maps = logits.reshape(-1, count, classes, h, w).permute(1, 3, 0, 2, 4)
        maps = maps - maps.amax(3, keepdim=True)
        # A look at values of another device makes the host wait.
        deep = maps.device.type != "cpu" or bool(maps.amin() < DEEPEST)
        gradient = torch.empty_like(maps) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        onehot = _coarse(labels, ignored, classes, down, across)
        # Half as many, because the rows, their slopes and what is brought to them are held as well.
        many = max(1, held_on(logits.device) // (2 * maps[0].numel() // w * width))
        for first in range(0, count, many):
            images = slice(first, first + many)
            part, right = maps[images], onehot[images, :, None]
            kept = (labels[images] != ignored).to(maps.dtype)
            # (n, h + 2, M, K, W): the first and the last row are there twice, as nothing is beyond.
            rows = torch.matmul(part[:, gaps.rows], across)
            logs, softmax = _score(rows, kept, gaps, deep, gradient is not None)
            total += logs
            total -= (part * right).sum(dtype=torch.float64)
            if gradient is not None and softmax is not None:
                softmax[:, 1] += softmax[:, 0]
                softmax[:, h] += softmax[:, h + 1]
                coarse = torch.matmul(softmax[:, 1 : h + 1], across.t())
                torch.sub(coarse, right, out=gradient[images])
        ctx.shape = logits.shape
        ctx.save_for_backward(None if gradient is None else gradient.permute(2, 0, 3, 1, 4))
        return total.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else (gradient * grad).reshape(ctx.shape), None, None


@dataclass(frozen=True)
class _Gaps:
    """Where lines of pixels are between coarse rows; the gap g is between rows g and g + 1.

    Attributes:
        rows: (h + 2,) of the coarse grid, with the first and the last one twice.
        lines: (h + 1, J) lines in each gap; of gaps with fewer than J, also some that are not.
        inside: (h + 1, J), 1 where a line is in the gap, else 0.
        shares: (h + 1, J) of the lower row in a line.
        step: by which the share grows from line to line.
    """

    rows: Tensor
    lines: Tensor
    inside: Tensor
    shares: Tensor
    step: float


@lru_cache(maxsize=64)
def _gaps(coarse: int, fine: int, dtype: torch.dtype, device: torch.device) -> _Gaps:
    with torch.inference_mode(False):
        step = coarse / fine
        at = (torch.arange(fine, dtype=torch.float64) + 0.5) * step + 0.5
        gap = torch.arange(coarse + 1)
        first = torch.searchsorted(at, gap.double())
        last = torch.searchsorted(at, gap.double() + 1)
        lines = first[:, None] + torch.arange(int((last - first).amax()))
        shares = (lines.double() + 0.5) * step + 0.5 - gap[:, None]
        inside = lines < last[:, None]
        rows = torch.arange(-1, coarse + 1).clamp(0, coarse - 1)
        return _Gaps(
            rows=rows.to(device),
            lines=lines.clamp(max=fine - 1).to(device),
            inside=inside.to(device, dtype),
            shares=shares.to(device, dtype),
            step=step,
        )


def _score(
    rows: Tensor, kept: Tensor, gaps: _Gaps, deep: bool, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Scores all pixels of some images.

    Args:
        rows: logits of the coarse rows at the columns of the labels, (n, h + 2, M, K, W).
        kept: (n, H, W), 1 where a pixel counts, else 0.
        gaps: of the rows.
        deep: whether all exponentials of a pixel may vanish.
        wanted: whether the softmax is.

    Returns:
        The sum of the logarithms of the sums of exponentials, float64 (), and the softmax brought
        to the rows, as `rows`.
    """
    count, length = len(rows), gaps.shares.shape[1]
    # (n (h + 1), ...), a gap each.
    slopes = (rows[:, 1:] - rows[:, :-1]).flatten(0, 1)
    above = rows[:, :-1].flatten(0, 1)
    counted = (kept[:, gaps.lines] * gaps.inside[..., None]).flatten(0, 1)[:, :, None]
    shares = gaps.shares.repeat(count, 1)
    logs = torch.zeros((), dtype=torch.float64, device=rows.device)
    softmax = torch.zeros_like(rows) if wanted else None
    brought = torch.empty(len(above), 2, above[0].numel()).to(rows) if wanted else None
    held = _held((len(above), length, *above.shape[1:]), rows)
    for some in _pieces(len(above), len(held)):
        scores = held[: len(above[some])]
        if deep:
            at = shares[some, :, None, None, None]
            torch.addcmul(above[some, None], slopes[some, None], at, out=scores)
            largest = scores.amax(3)
            scores.sub_(largest[:, :, :, None]).exp_()
        else:
            _exponentials(above[some], slopes[some], shares[some, 0], gaps.step, scores)
        # (l, J, M, W). Where no line is, all may have vanished.
        sums = scores.sum(3).clamp_(min=torch.finfo(scores.dtype).tiny)
        if brought is not None:
            scores *= (counted[some] / sums)[:, :, :, None]
            both = torch.stack([1 - shares[some], shares[some]], dim=1)
            torch.matmul(both, scores.flatten(2), out=brought[some])
        sums.log_()
        logs += ((sums + largest if deep else sums) * counted[some]).sum(dtype=torch.float64)
    if brought is not None and softmax is not None:
        parts = brought.view(count, -1, 2, *above.shape[1:])
        softmax[:, :-1] += parts[:, :, 0]
        softmax[:, 1:] += parts[:, :, 1]
    return logs, softmax


def _exponentials(above: Tensor, slopes: Tensor, first: Tensor, step: float, out: Tensor) -> None:
    """exp(above + share slope) for the shares first, first + step, ...: twice as many at a time.

    Args:
        above: (l, M, K, W).
        slopes: (l, M, K, W).
        first: (l,).
        step: between shares.
        out: (l, J, M, K, W).
    """
    torch.addcmul(above, slopes, first[:, None, None, None], out=out[:, 0])
    out[:, 0].exp_()
    factor = (slopes * step).exp_()[:, None]
    done, length = 1, out.shape[1]
    while done < length:
        more = min(done, length - done)
        torch.mul(out[:, :more], factor, out=out[:, done : done + more])
        factor, done = factor * factor, done + more


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
