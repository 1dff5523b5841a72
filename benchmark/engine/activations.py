"""Activation checkpointing: memory for time, with equal gradients.

A block of the backbone keeps its input alone for the way back, and computes the rest once more when
its gradient is asked for (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, by
`torch.utils.checkpoint`). What is attached to the block as a whole is outside and runs once, so it
may hand things on; timm's `set_grad_checkpointing` would run it twice, and not all models of timm
have that. What is inside runs twice, on equal numbers: random streams are put back before, and the
running statistics of a BatchNorm move the first time alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.engine.losses import Criterion
from benchmark.models.segmenter import Segmenter
from methods.base import Method

TOLERANCE = 1e-3
"""Largest difference of two gradients that are equal but for rounding, as a share of the larger."""
LEAST = 1e-4
"""Share of the largest gradient of all below which one may be nothing but rounding."""


@contextmanager
def checkpointed(segmenter: Segmenter) -> Iterator[None]:
    """A forward pass in it keeps the input of each block alone; its backward pass may be outside.

    Args:
        segmenter: whose blocks are meant.
    """
    model = segmenter.backbone.model
    names = [name for stage in segmenter.backbone.stage_blocks() for name in stage]
    blocks = [model.get_submodule(name) for name in names]
    former = [(block, vars(block).get("forward")) for block in blocks]
    try:
        for block in blocks:
            block.forward = partial(_forward, block, block.forward)  # type: ignore[method-assign]
        yield
    finally:
        for block, own in former:
            vars(block).pop("forward", None)
            if own is not None:
                block.forward = own  # type: ignore[method-assign]


def _forward(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    given = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    if not any(one.requires_grad for one in (*given, *block.parameters())):
        return forward(*args, **kwargs)  # nothing is kept anyway
    contexts = partial(_contexts, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first and the second computation of a block."""
    return nullcontext(), _without_statistics(block)


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """Inside it BatchNorm moves copies of its running statistics, which are gone after it."""
    moving = [
        module
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    kept = [dict(module._buffers) for module in moving]
    for module in moving:
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for module, buffers in zip(moving, kept, strict=True):
            module._buffers.update(buffers)


def is_exact(
    segmenter: Segmenter, method: Method, images: Tensor, labels: Tensor, criterion: Criterion
) -> bool:
    """Whether gradients are the same with and without, to rounding.

    They are not where something inside a block hands on what a second computation would change.

    Args:
        segmenter: on its device; running statistics and random streams move.
        method: that was applied to its backbone.
        images: (N, C, H, W), as a training step takes them.
        labels: (N, H, W) int64.
        criterion: the loss.
    """
    found: list[list[Tensor | None]] = []
    segmenter.train()
    for on in (False, True):
        with torch.random.fork_rng():
            segmenter.zero_grad()
            with checkpointed(segmenter) if on else nullcontext():
                loss = criterion(segmenter(images), labels)
            auxiliary = method.auxiliary_loss(segmenter.backbone, labels)
            (loss if auxiliary is None else loss + auxiliary).backward()
            found.append([parameter.grad for parameter in segmenter.parameters()])
    segmenter.zero_grad()
    least = LEAST * max(float(one.abs().max()) for one in found[0] if one is not None)
    return all(_alike(a, b, least) for a, b in zip(*found, strict=True))


def _alike(a: Tensor | None, b: Tensor | None, least: float) -> bool:
    if a is None or b is None:
        return a is b
    largest = max(float(a.abs().max()), float(b.abs().max()), least)
    return float((a - b).abs().max()) <= TOLERANCE * largest
