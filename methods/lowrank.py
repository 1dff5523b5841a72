"""A linear layer with a low-rank update, computed with the products that a frozen layer needs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from methods.frozen import product


def low_rank_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """`y = x (W + s B A)^T + b`, whose gradient reaches x, A and B, but not W and b.

    The update is folded into the weight: its product costs r (in x out), the layer's own
    tokens (in x out). So the pass forward has one large product, as without the update, and the
    pass back has one, too, with `grad_x = g (W + s B A)`; the gradients of A and B need four
    products with a side of r. Taken apart, as `x W^T + s (x A^T) B^T`, the same has twice as many
    products forward and two sums of the size of y.

    Under autocast the products with tokens are in its type and give gradients of A and B that are
    rounded to it, as autocast's own do. W, A and B stay as they are: `W + s B A` is summed in their
    precision and rounded once, as the master weights of full tuning are, so that an update below
    the rounding of W is not lost, but moves the fraction of the entries that it carries across.

    Args:
        x: (..., in).
        weight: W (out, in).
        bias: b (out,), or None.
        down: A (r, in).
        up: B (out, r).
        scale: s.

    Returns:
        (..., out), of autocast's type inside of it, else of the type of x.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    return _LowRankLinear.apply(x, weight, bias, down, up, scale)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            folded = _folded(weight, down, up, scale, x.dtype)
            y = product(x, folded, None if bias is None else bias.to(x.dtype))
        # Of the type of W it is made again on the way back, which takes less than its memory does.
        kept = None if folded.dtype == weight.dtype else folded
        ctx.save_for_backward(x, weight, down, up, kept)
        ctx.scale = scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, folded = ctx.saved_tensors
        tokens, grads = x.flatten(0, -2), grad.flatten(0, -2)
        grad_x = None
        with torch.autocast(x.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                if folded is None:
                    folded = _folded(weight, down, up, ctx.scale, x.dtype)
                grad_x = (grads @ folded).view_as(x)
            grad_down = (grads @ up.to(x.dtype)).t() @ tokens
            grad_up = ((tokens @ down.to(x.dtype).t()).t() @ grads).t()
        grad_down = grad_down.to(down.dtype).mul_(ctx.scale)
        grad_up = grad_up.to(up.dtype).mul_(ctx.scale)
        return grad_x, None, None, grad_down, grad_up, None


def _folded(weight: Tensor, down: Tensor, up: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    return torch.addmm(weight, up, down, alpha=scale).to(dtype)
