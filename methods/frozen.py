"""A linear layer whose weight and bias are not trained, with the bias added inside the product."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`y = x W^T + b`, whose gradient reaches x, but not W and b.

    Args:
        x: (..., in).
        weight: W (out, in), of the type of x.
        bias: b (out,), of the type of x, or None.

    Returns:
        (..., out).
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return product(x, weight, bias)
    return _FrozenLinear.apply(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x W^T + b` without a gradient; the arguments are those of `frozen_linear`.

    On a CPU in bf16, torch writes the bias into the result first and adds the product to it, which
    for narrow layers takes half as long as the product itself. oneDNN adds it on the way.
    """
    if bias is not None and _fuses(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        y = product(x.reshape(-1, x.shape[-1]), weight, bias)
        # No view in autograd's eyes: wrappers of the layer may add to the result in place.
        return torch.ops.aten._unsafe_view(y, [*x.shape[:-1], len(weight)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grad @ weight, None, None


def _fuses(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and not torch.compiler.is_compiling()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
