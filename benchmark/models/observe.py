"""What a forward pass shows of a model: what modules get and return, in which order, and where
attention is. Names of classes do not tell it; what they compute does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PRODUCTS = {
    torch.matmul,
    torch.bmm,
    torch.einsum,
    Tensor.matmul,
    Tensor.bmm,
    Tensor.__matmul__,
}


@dataclass(frozen=True)
class Seen:
    """What a module got and returned.

    Attributes:
        x: first argument.
        y: output, or the first of several.
        begun: number of the event at which it was called.
        ended: number of the event at which it returned.
        calls: times that it was called in the pass.
        of_images: whether what it got depends on the images.
        several: whether it returned more than `y`.

    """

    x: Tensor
    y: Tensor
    begun: int
    ended: int
    calls: int
    of_images: bool
    several: bool


@dataclass
class Observed:
    """A forward pass.

    Attributes:
        features: what it returned.
        seen: of each module that took and returned a tensor, its last call.
        called: names of all modules that ran.
        products: of each module, the events at which it multiplied two tensors that both depend on
            the images, as attention does with queries and keys, and with weights and values.

    """

    features: list[Tensor] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    products: dict[str, list[int]] = field(default_factory=dict)

    def attends(self, name: str) -> bool:
        """Whether a module computes attention: two products at least, in its own `forward`."""
        return len(self.products.get(name, ())) >= 2


def first_of(output: Any) -> Any:
    """What a module returned, or the first of several things: some hand on sizes, too."""
    return output[0] if isinstance(output, tuple) and output else output


class _Watch(TorchFunctionMode):
    """Notes the products of a pass by the module that is running."""

    def __init__(self, found: Observed) -> None:
        self.found, self.clock, self.running = found, 0, [""]

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        fused = func is F.scaled_dot_product_attention
        if fused or func in _PRODUCTS:
            operands = [one for one in args if isinstance(one, Tensor)]
            if fused or sum(one.requires_grad for one in operands) >= 2:
                own = self.found.products.setdefault(self.running[-1], [])
                own += [self.tick(), self.tick()] if fused else [self.tick()]
        return func(*args, **(kwargs or {}))


def observe(
    model: nn.Module, forward: Callable[[Tensor], list[Tensor]], images: Tensor
) -> Observed:
    """Runs a frozen model once and tells what was seen.

    Args:
        model: frozen, so that a tensor needs a gradient where it depends on the images.
        forward: runs the model on images (N, 3, H, W).
        images: that it runs on.
    """
    found = Observed()
    watch = _Watch(found)
    begun: dict[str, int] = {}
    calls: dict[str, int] = {}

    def enter(name: str) -> None:
        watch.running.append(name)
        begun[name] = watch.tick()
        found.called.add(name)
        calls[name] = calls.get(name, 0) + 1

    def leave(name: str, args: tuple[Any, ...], output: Any) -> None:
        watch.running.pop()
        y = first_of(output)
        if args and isinstance(args[0], Tensor) and isinstance(y, Tensor):
            # Copies: some modules work in place.
            several = isinstance(output, tuple)
            found.seen[name] = Seen(
                x=args[0].detach().clone(),
                y=y.detach().clone(),
                begun=begun[name],
                ended=watch.tick(),
                calls=calls[name],
                of_images=args[0].requires_grad,
                several=several,
            )

    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [
                module.register_forward_pre_hook(lambda _, __, name=name: enter(name)),
                module.register_forward_hook(lambda _, args, y, name=name: leave(name, args, y)),
            ]
    try:
        # A copy, because a model may work in place on what it is given.
        with torch.enable_grad(), watch:
            found.features = [y.detach() for y in forward(images.requires_grad_().clone())]
    finally:
        for handle in handles:
            handle.remove()
    return found
