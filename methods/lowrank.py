"""A linear layer with a low-rank update, computed with the products that a frozen layer needs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F


class LowRankLinear(torch.autograd.Function):
    """`y = x (W + s B A)^T + b`, whose gradient reaches x, A and B, but not W and b.

    The update is folded into the weight: its product costs r (in x out), the layer's own
    tokens (in x out). So the pass forward has one large product, as without the update, and the
    pass back has one, too, with `grad_x = g (W + s B A)`; the gradients of A and B need four
    products with a side of r. Nothing but x is kept for the way back. Taken apart, as
    `x W^T + s (x A^T) B^T`, the same has twice as many products forward and two sums of the size
    of y.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        """From x (..., in), W (out, in), b (out,), A (r, in), B (out, r) and s: y (..., out)."""
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale  # type: ignore[attr-defined]
        return F.linear(x, torch.addmm(weight, up, down, alpha=scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what `forward` received."""
        x, weight, down, up = ctx.saved_tensors
        tokens, grads = x.flatten(0, -2), grad.flatten(0, -2)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grads @ torch.addmm(weight, up, down, alpha=ctx.scale)
            grad_x = grad_x.view_as(x)
        # With the short side first the products are wide instead of tall, which is faster.
        grad_down = ((up.t() @ grads.t()) @ tokens).mul_(ctx.scale)
        grad_up = ((down @ tokens.t()) @ grads).mul_(ctx.scale).t()
        return grad_x, None, None, grad_down, grad_up, None
