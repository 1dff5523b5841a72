"""What happens to a hyperparameter, or to a merge, that does not fit a backbone."""

from dataclasses import fields

import torch
from torch import nn

from methods.base import Method, Unsupported


def is_default(method: Method, field: str) -> bool:
    """Whether a field has the value that it has where nobody sets it."""
    return getattr(method, field) == next(f.default for f in fields(method) if f.name == field)


def require_fit(method: Method, field: str, holds: bool, allowed: str) -> None:
    """Refuses a value that does not fit: what a user typed, the user can mend.

    Args:
        method: of the field.
        field: its name.
        holds: whether the value fits.
        allowed: which values do.

    Raises:
        Unsupported: the default does not fit.
        ValueError: another value does not.

    """
    message = f"{method.name}: {field} must be {allowed}, not {getattr(method, field)!r}"
    if not holds and is_default(method, field):
        raise Unsupported(f"{message}, its default; use {method.name}[{field}=...]")
    if not holds:
        raise ValueError(message)


@torch.no_grad()
def require_foldable(name: str, layer: nn.Module) -> None:
    """Refuses a convolution that changes its weight before it computes with it.

    Where weights are standardised, as in BiT and NFNets, an update of W is not one of the output.

    Raises:
        Unsupported: twice the weight does not give twice the product.

    """
    if not isinstance(layer, nn.Conv2d) or type(layer) is nn.Conv2d:
        return
    weight, side = layer.weight, 2 * max(layer.kernel_size)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, layer.in_channels, side, side, generator=generator).to(weight)
    zero = layer(torch.zeros_like(x))
    before = layer(x) - zero
    weight.mul_(2)
    after = layer(x) - zero
    weight.div_(2)
    if not torch.allclose(after, 2 * before, rtol=1e-3, atol=1e-5):
        raise Unsupported(
            f"nothing can be folded into {name}: a {type(layer).__name__} changes its weight "
            "before it computes with it"
        )
