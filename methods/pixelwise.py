"""Cross-entropy of coarse logits against full-size labels, without logits of full size."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Logits of full size that are held at once: what stays near a core, or fits on a GPU."""


def held_on(device: torch.device) -> int:
    """`CHUNK` of a device."""
    return CHUNK.get(device.type, CHUNK["cpu"])


def upsampled_cross_entropy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Summed cross-entropy of logits that are resized bilinearly to the labels.

    Equal to `F.cross_entropy(F.interpolate(logits, (H, W), mode="bilinear"), labels,
    ignore_index=ignored, reduction="sum")` to rounding. Resizing is a product with a matrix on
    each side, and the gradient of the loss is known as soon as the loss is: softmax less one-hot.
    So a part of the pixels is resized, scored and brought back to the coarse grid before the next
    one, and nothing of the labels' size is kept for the way back.

    Args:
        logits: (N, K, h, w), float32 or float64.
        labels: (N, H, W) int64.
        ignored: label that counts nowhere.

    Returns:
        A scalar of the logits' type; 0 where every pixel is ignored.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _Summed.apply(logits, labels, ignored)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
        count, classes, *coarse = logits.shape
        height, width = labels.shape[1:]
        down = _weights(coarse[0], height, logits.dtype, logits.device)  # (h, H)
        across = _weights(coarse[1], width, logits.dtype, logits.device)  # (w, W)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(logits) if wanted else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        chunk = held_on(logits.device)
        many = max(1, chunk // (classes * height * width))
        rows = height if many > 1 else max(1, min(height, chunk // (classes * width)))
        for first in range(0, count, many):
            images = slice(first, first + many)
            for top in range(0, height, rows):
                lines = slice(top, top + rows)
                part = down[:, lines]
                # (n, K, rows, W); from here on changed in place.
                scores = torch.matmul(torch.matmul(part.t(), logits[images]), across)
                target = labels[images, lines]
                counted = target != ignored
                target = target.where(counted, 0)[:, None]
                scores -= scores.amax(1, keepdim=True)
                own = scores.gather(1, target)
                norm = scores.exp_().sum(1, keepdim=True)
                loss = (norm.log() - own)[:, 0]
                total += loss.where(counted, 0).sum(dtype=torch.float64)
                if gradient is not None:
                    kept = counted[:, None].to(scores.dtype)
                    scores *= kept / norm
                    scores.scatter_add_(1, target, -kept)
                    gradient[images] += torch.matmul(part, torch.matmul(scores, across.t()))
        ctx.save_for_backward(gradient)
        return total.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None if gradient is None else gradient * grad, None, None


@lru_cache(maxsize=64)
def _weights(coarse: int, fine: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(coarse, fine): what each coarse place gives to each fine one."""
    with torch.inference_mode(False):
        unit = torch.eye(coarse, dtype=dtype, device=device)[None]
        return F.interpolate(unit, fine, mode="linear", align_corners=False)[0]
