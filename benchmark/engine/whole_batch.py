"""What looks at a whole batch, where each process has a share of it.

BatchNorm in training takes its statistics from all images, and dropout draws for all of them from
one stream of random numbers. Inside `WholeBatch` both do what they do in a single process: means
and variances are those of all shares, and masks are drawn for all images, of which a share takes
its own. So the random streams of all processes stay those of one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchmark.core.errors import UserError
from benchmark.engine.ranks import Part, Ranks

_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
"""Multiply by a mask that does not depend on the values."""
_FILLS = (Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_)
_LIKES = (torch.rand_like, torch.randn_like)
_REFUSED = (F.alpha_dropout, F.feature_alpha_dropout, F.rrelu, F.gumbel_softmax, torch.bernoulli)


class WholeBatch(TorchFunctionMode):
    """Inside it, a forward or backward pass of a share computes what that of the batch does.

    Args:
        ranks: the processes.
        part: of the batch, and the share of this process.
    """

    def __init__(self, ranks: Ranks, part: Part) -> None:
        super().__init__()
        self._ranks, self._part = ranks, part

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a function of torch, or what stands in for it."""
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in _DROPOUTS:
            return self._dropout(func, *args, **kwargs)
        if func in _FILLS and self._is_of_images(args[0]):
            return args[0].copy_(self._own(func(self._whole(args[0]), *args[1:], **kwargs)))
        if func in _LIKES and self._is_of_images(args[0]):
            return self._own(func(self._whole(args[0]), *args[1:], **kwargs))
        if func in _REFUSED or kwargs.get("dropout_p"):
            name = getattr(func, "__name__", str(func))
            raise UserError(
                f"--devices cannot share out {name}, whose random numbers depend on the whole "
                "batch; leave --devices out, or use another method or decoder"
            )
        return func(*args, **kwargs)

    def _is_of_images(self, values: Tensor) -> bool:
        """Whether the first dimension counts images, or windows or tokens image by image."""
        return values.ndim > 0 and len(values) > 0 and len(values) % self._count == 0

    @property
    def _count(self) -> int:
        return self._part.own.stop - self._part.own.start

    def _whole(self, values: Tensor) -> Tensor:
        """Ones for all images of the part, laid out in memory as the values of the share are."""
        sizes = [len(values) // self._count * self._part.images, *values.shape[1:]]
        order = sorted(range(values.ndim), key=values.stride().__getitem__, reverse=True)
        ones = values.new_ones([sizes[axis] for axis in order])
        return ones.permute([order.index(axis) for axis in range(values.ndim)])

    def _own(self, whole: Tensor) -> Tensor:
        """What belongs to the images of this process."""
        each = len(whole) // self._part.images
        return whole.narrow(0, self._part.first * each, self._count * each)

    def _dropout(
        self,
        func: Callable[..., Tensor],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or p == 0 or not self._is_of_images(input):
            return func(input, p, training, inplace)
        with torch.no_grad():
            mask = self._own(func(self._whole(input.detach()), p, True))
        return input.mul_(mask) if inplace else input * mask

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(
                input, running_mean, running_var, weight, bias, False, momentum, eps
            )
        count = len(input) // self._count * self._part.images * input[0, 0].numel()
        if count == 1:  # as torch says it
            raise ValueError("Expected more than 1 value per channel when training")
        output, mean, variance = _BatchNorm.apply(input, weight, bias, eps, count, self._ranks)
        with torch.no_grad():
            if running_mean is not None and running_var is not None:
                running_mean.lerp_(mean.to(running_mean), momentum)
                unbiased = variance * (count / (count - 1))
                running_var.lerp_(unbiased.to(running_var), momentum)
        return output


class _BatchNorm(torch.autograd.Function):
    """Normalises by the mean and the variance of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        count: int,
        ranks: Ranks,
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = ranks.sum(x.sum(axes, dtype=wide)) / count
        variance = ranks.sum((x - _along(mean, x)).square().sum(axes, dtype=wide)) / count
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count, ctx.ranks, ctx.axes = eps, count, ranks, axes
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        normal = (x - _along(mean, x)) * _along(scale, x)
        own = torch.stack([grad.to(normal).sum(ctx.axes), (grad * normal).sum(ctx.axes)])
        both = ctx.ranks.sum(own.clone()) / ctx.count
        inner = grad - _along(both[0], x) - normal * _along(both[1], x)
        factor = scale if weight is None else scale * weight
        to_x = (inner * _along(factor, x)).to(x.dtype)
        to_weight = None if weight is None else own[1].to(weight.dtype)
        to_bias = (
            own[0].to(weight.dtype) if ctx.needs_input_grad[2] and weight is not None else None
        )
        return to_x, to_weight, to_bias, None, None, None


def _along(values: Tensor, x: Tensor) -> Tensor:
    """A value a channel (C,) as it is broadcast over x (N, C, ...)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
