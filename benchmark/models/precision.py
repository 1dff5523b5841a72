"""Frozen weights in the type that products are computed in, while trained ones stay in fp32.

Autocast keeps no cast of a weight that needs no gradient: every pass casts every frozen weight
again. Here they are cast once. A layer's own tensors stay where they are; inside a block its
`forward` computes with the copies instead. So code that reads a weight (a state dict, a
checkpoint, a wrapper around the layer) finds it in fp32, and the numbers are those of autocast.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models.segmenter import Segmenter
from methods.frozen import frozen_linear


def autocast(device: torch.device, precision: str, cached: bool = True) -> torch.autocast:
    """The autocast context of fp32 or bf16.

    Args:
        device: where it computes.
        precision: fp32 or bf16.
        cached: a trained weight that is used twice is cast once. All threads share these casts, and
            the first that is done forgets them: how gradients round would depend on chance.
    """
    on = precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on, cache_enabled=cached)


@contextmanager
def cast_frozen(
    segmenter: Segmenter, precision: str, known: Mapping[int, Tensor] | None = None
) -> Iterator[None]:
    """Inside the block autocast finds the frozen weights and biases in its own type.

    That is those of the pretrained linear layers and convolutions whose weight is not trained,
    also where another layer wraps them. Where the block is entered without gradients, nothing is
    trained in it, and it is those of all linear layers and convolutions.

    Args:
        segmenter: on its device; nothing may be attached to it, or taken off, in the block.
        precision: fp32 or bf16; for fp32 nothing happens.
        known: copies that are there already, by the address of the tensor (`Tensor.data_ptr`).
    """
    layers = list(_kept(segmenter)) if precision == "bf16" else []
    try:
        for layer in layers:
            copies = {
                name: _cast(tensor, known or {})
                for name, tensor in layer.named_parameters(recurse=False)
                if not _trained(tensor)
            }
            layer.forward = partial(_forward, layer.forward, layer, copies)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _cast(tensor: Tensor, known: Mapping[int, Tensor]) -> Tensor:
    there = known.get(tensor.data_ptr())
    return tensor.detach().to(torch.bfloat16) if there is None else there


def _kept(segmenter: Segmenter) -> Iterator[nn.Linear | nn.Conv2d]:
    """Layers whose copies stay what their weights are, and whose `forward` is known."""
    pretrained = segmenter.backbone.pretrained_modules
    for layer in segmenter.modules():
        # Of subclasses (parametrized ones, too) and replaced functions it is not known what they
        # compute; of what a method added, whether it changes without a gradient.
        if (
            isinstance(layer, (nn.Linear, nn.Conv2d))
            and type(layer) in (nn.Linear, nn.Conv2d)
            and "forward" not in vars(layer)
            and layer._parameters.get("weight") is not None
            and not _trained(layer.weight)
            and (layer in pretrained or not torch.is_grad_enabled())
        ):
            yield layer


def _trained(parameter: Tensor) -> bool:
    return parameter.requires_grad and torch.is_grad_enabled()


def _forward(
    plain: Callable[[Tensor], Tensor],
    layer: nn.Linear | nn.Conv2d,
    copies: Mapping[str, Tensor],
    x: Tensor,
) -> Tensor:
    """What the layer computes under autocast; outside of it, what it always computes."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) != torch.bfloat16:
        return plain(x)
    weight, bias = copies["weight"], copies.get("bias", layer.bias)
    if isinstance(layer, nn.Linear):
        if bias is not None and bias is not copies.get("bias"):
            return F.linear(x, weight, bias)
        with torch.autocast(device, enabled=False):
            return frozen_linear(x.to(torch.bfloat16), weight, bias)
    return layer._conv_forward(x, weight, bias)
