"""The registry of decoders."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

Builder = Callable[[Sequence[int], Sequence[int], int], nn.Module]
"""(channels, strides, number of classes) -> decoder."""

DECODERS: dict[str, Builder] = {}

D = TypeVar("D", bound=Builder)


def register_decoder(name: str) -> Callable[[D], D]:
    """Decorator of a class or function: makes a decoder selectable under `name`."""

    def add(build: D) -> D:
        if name in DECODERS:
            raise ValueError(f"decoder {name!r} is registered twice")
        DECODERS[name] = build
        return build

    return add
