"""Prompts as tokens of the sequence of a plain ViT."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Backbone, Unsupported


class Prompts(nn.Module):
    """Tokens P_i (p, D_i) of each layer i, drawn from U(-v, v), v = sqrt(6 / (3 ph pw + D_i)).

    Args:
        widths: D_i of the layers with prompts of their own.
        tokens: p.
        patch_area: ph * pw, pixels of a patch.

    """

    def __init__(self, widths: list[int], tokens: int, patch_area: int) -> None:
        super().__init__()
        self.tokens = tokens
        bounds = [(6 / (3 * patch_area + width)) ** 0.5 for width in widths]
        self.layers = nn.ParameterList(
            nn.Parameter(torch.empty(tokens, width).uniform_(-bound, bound))
            for width, bound in zip(widths, bounds, strict=True)
        )

    def of_layer(self, index: int, like: Tensor) -> Tensor:
        """Prompts of a layer for each of the N images of `like`, (N, p, D_i), in its type."""
        return self.layers[index].to(like.dtype).expand(like.shape[0], -1, -1)


def prompt_sequence(backbone: Backbone, prompts: Prompts, deep: bool) -> None:
    """Attaches what puts the prompts after the prefix tokens and takes them out again.

    Deep ones are put in before each block and taken out after it. Shallow ones go through a whole
    stage, are taken out at its end and put back before the next one.

    Args:
        backbone: of kind `plain`.
        prompts: of each block, or of the first one.
        deep: which of the two.

    """
    stages = backbone.stage_blocks()
    spans: Sequence[tuple[str, str]] = (
        [(name, name) for stage in stages for name in stage]
        if deep
        else [(stage[0], stage[-1]) for stage in stages]
    )
    carried: list[Tensor] = []
    start, stop = backbone.prefix_tokens, backbone.prefix_tokens + prompts.tokens

    def put(x: Tensor, span: int) -> Tensor:
        inner = prompts.of_layer(span, x) if deep or span == 0 else carried.pop()
        # Split, not sliced: the backward pass of slices fills a gradient with zeros for each.
        before, after = x.split([start, x.shape[1] - start], dim=1)
        return torch.cat([before, inner, after], dim=1)

    def take(x: Tensor, y: Tensor, span: int) -> Tensor:
        before, inner, after = y.split([start, prompts.tokens, y.shape[1] - stop], dim=1)
        if not deep and span < len(spans) - 1:
            carried[:] = [inner]
        return torch.cat([before, after], dim=1)

    for span, (first, last) in enumerate(spans):
        backbone.before(first, partial(put, span=span))
        backbone.after(last, partial(take, span=span))
    if getattr(backbone.model, "rope", None) is not None:
        for block in (block for stage in stages for block in stage):
            backbone.around(f"{block}.attn", partial(unturned, prompts=prompts.tokens))


def unturned(
    forward: Callable[..., Tensor], x: Tensor, rope: Tensor, *more: Any, prompts: int, **kwargs: Any
) -> Tensor:
    """Attention with rotary positions, where prompts have none: like prefix tokens they stay as is.

    Args:
        forward: of timm's attention, which turns the tokens behind the prefix.
        x: (N, prefix + prompts + patches, C).
        rope: sines and cosines (..., patches, 2 d) of the patches.
        *more: further arguments of `forward`.
        prompts: number of prompts.
        **kwargs: further arguments of `forward`.

    """
    half = rope.shape[-1] // 2
    angle = rope.new_zeros(*rope.shape[:-2], prompts, rope.shape[-1])
    angle[..., half:] = 1  # the cosine of no angle
    return forward(x, torch.cat([angle, rope], dim=-2), *more, **kwargs)


def require_free_tokens(name: str, backbone: Backbone) -> None:
    """Refuses blocks in which each token has a place, other than by rotary positions.

    Raises:
        Unsupported: the blocks do.

    """
    model = backbone.model
    blocks = [model.get_submodule(block) for stage in backbone.stage_blocks() for block in stage]
    inputs = list(inspect.signature(blocks[0].forward).parameters.values())
    if any(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in inputs[1:]):
        raise Unsupported(_refusal(name, model, "are given the height and width of the map"))
    positions = ("rel_pos", "rel_pos_h", "rel_pos_bias", "relative_position_bias_table", "pos_proj")
    owners = (model, *(part for block in blocks for part in block.modules()))
    if any(getattr(owner, n, None) is not None for owner in owners for n in positions):
        raise Unsupported(_refusal(name, model, "use the position of every token inside"))
    rotary = getattr(model, "rope", None) is not None
    if rotary and "rope" not in inspect.signature(_attention(blocks[0]).forward).parameters:
        raise Unsupported(_refusal(name, model, "turn every token by its position"))
    if any(
        isinstance(part, nn.modules.conv._ConvNd) for block in blocks for part in block.modules()
    ):
        raise Unsupported(_refusal(name, model, "arrange the tokens as a map"))


def _attention(block: nn.Module) -> nn.Module:
    return getattr(block, "attn", block)


def _refusal(name: str, model: nn.Module, reason: str) -> str:
    return (
        f"{name} needs blocks that take any set of tokens; those of {type(model).__name__} {reason}"
    )
