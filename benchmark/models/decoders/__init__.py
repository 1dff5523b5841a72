"""Decoders: four feature maps in, coarse logits out.

A decoder is built from the channels and strides of the four levels and the number of classes K. It
takes the maps (N, C_i, H_i, W_i), the finest first, and returns logits (N, K, h, w) of the same
image area at the resolution that it documents; the caller resizes them to the labels.

Every module of this package is imported; `register_decoder` makes what it decorates selectable.
"""

import importlib
import pkgutil

from benchmark.models.decoders.base import DECODERS, register_decoder

__all__ = ["DECODERS", "register_decoder"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
