"""Decoders: four feature maps in, coarse logits out.

A decoder is built from the channels and strides of the four levels and the number of classes K. It
takes the maps (N, C_i, H_i, W_i), the finest first, and returns logits (N, K, h, w) of the same
image area at the resolution that it documents; whoever asks for labels resizes them.
"""

from collections.abc import Callable, Sequence

from torch import nn

from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.decoders.setr import SetrPup
from benchmark.models.decoders.smp import fpn, segformer, upernet

DECODERS: dict[str, Callable[[Sequence[int], Sequence[int], int], nn.Module]] = {
    "linear": LinearDecoder,
    "fpn": fpn,
    "upernet": upernet,
    "segformer": segformer,
    "setr-pup": SetrPup,
}
