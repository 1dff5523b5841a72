"""Prompts as tokens of the sequence of a plain ViT."""

import inspect
from collections.abc import Sequence
from functools import partial

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


def require_free_tokens(name: str, backbone: Backbone) -> None:
    """Refuses blocks that use the position of each token: a prompt has none.

    Raises:
        Unsupported: the blocks do.

    """
    module = backbone.model.get_submodule(backbone.stage_blocks()[0][0])
    inputs = list(inspect.signature(module.forward).parameters.values())
    needs_more = any(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in inputs[1:])
    positions = ("rope", "rel_pos_bias", "relative_position_bias_table")
    owners = (backbone.model, *module.modules())
    if needs_more or any(getattr(o, n, None) is not None for o in owners for n in positions):
        raise Unsupported(
            f"{name} needs blocks that take any set of tokens; those of "
            f"{type(backbone.model).__name__} use the position of every token inside"
        )
