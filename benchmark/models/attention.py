"""Attention by torch's fused kernel, or by the two products and the softmax that it consists of.

Which of them is faster depends on the machine, the precision and the shape: on a GPU the fused one
is, while on a CPU its way back in bf16 takes about twice as long as the products do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from benchmark.core.spec import Attention


@contextmanager
def attention_in(module: nn.Module, kind: Attention) -> Iterator[None]:
    """Inside the block every attention of timm that knows both ways goes one of them.

    Results are equal to rounding. What has no choice stays as it is, and what was chosen before
    comes back at the end.

    Args:
        module: that holds the attention, such as a segmenter.
        kind: `fused` or `explicit`.
    """
    choosing = [cast(Any, part) for part in module.modules() if hasattr(part, "fused_attn")]
    before = [part.fused_attn for part in choosing]
    try:
        for part in choosing:
            part.fused_attn = kind == "fused"
        yield
    finally:
        for part, fused in zip(choosing, before, strict=True):
            part.fused_attn = fused
