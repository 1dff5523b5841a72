"""Decoders: four feature maps in, coarse logits out.

A decoder is built from the channels and strides of the four levels and the number of classes K. It
takes the maps (N, C_i, H_i, W_i), the finest first, and returns logits (N, K, h, w) of the same
image area at the resolution that it documents; whoever asks for labels resizes them.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.decoders.setr import SetrPup
from benchmark.models.decoders.smp import fpn, segformer, upernet

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


for _name, _build in {
    "linear": LinearDecoder,
    "fpn": fpn,
    "upernet": upernet,
    "segformer": segformer,
    "setr-pup": SetrPup,
}.items():
    register_decoder(_name)(_build)
