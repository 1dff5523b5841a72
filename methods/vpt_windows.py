"""Prompts as tokens of every attention window of a Swin."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Backbone, Unsupported
from methods.vpt_tokens import Prompts


def prompt_windows(backbone: Backbone, prompts: Prompts, deep: bool) -> None:
    """Attaches what puts the prompts into the windows of each block and takes them out again.

    Args:
        backbone: a Swin (version 1).
        prompts: of each block, or of the first one.
        deep: new prompts in each block; otherwise those of the first go through all blocks.

    """
    z: list[Tensor] = []

    def enter(x: Tensor, index: int) -> Tensor:
        if deep or index == 0:
            z[:] = [prompts.of_layer(index, x)]
        return x

    def attend(
        forward: Callable[..., Tensor], windows: Tensor, mask: Tensor | None = None, *, block: Any
    ) -> Tensor:
        n, p = z[0].shape[0], prompts.tokens
        extra = block.norm1(z[0]).repeat_interleave(windows.shape[0] // n, dim=0)
        y = window_attention(block.attn, torch.cat([extra, windows], dim=1), p, mask)
        if not deep:
            z[0] = z[0] + y[:, :p].unflatten(0, (n, -1)).mean(1)
            z[0] = z[0] + block.mlp(block.norm2(z[0]))
        return y[:, p:]

    def merge(x: Tensor, merging: Any) -> Tensor:
        if not deep:
            z[0] = merging.reduction(merging.norm(z[0].repeat(1, 1, 4)))
        return x

    for index, name in enumerate(name for stage in backbone.stage_blocks() for name in stage):
        block = cast(Any, backbone.model.get_submodule(name))
        backbone.before(name, partial(enter, index=index))
        backbone.around(f"{name}.attn", partial(attend, block=block))
    for name, module in backbone.model.named_modules():
        if type(module).__name__ == "PatchMerging":
            backbone.before(name, partial(merge, merging=module))


def window_attention(attn: Any, x: Tensor, prompts: int, mask: Tensor | None) -> Tensor:
    """Swin's window attention where the first tokens are prompts without a position.

    Args:
        attn: timm's `WindowAttention`.
        x: (windows, prompts + M * M, C), window by window, image by image.
        prompts: number of prompts.
        mask: (windows of an image, M * M, M * M) of shifted windows; None for plain ones.

    Returns:
        The shape of x.

    """
    pad = (prompts, 0, prompts, 0)
    bias = F.pad(attn._get_rel_pos_bias(), pad)
    if mask is not None:
        masks = F.pad(mask, pad).repeat(x.shape[0] // mask.shape[0], 1, 1)
        bias = bias + masks[:, None]
    q, k, v = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if attn.fused_attn:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    else:
        y = ((q * attn.scale) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
    return attn.proj_drop(attn.proj(y.transpose(1, 2).flatten(2)))


def require_windows(name: str, backbone: Backbone) -> None:
    """Refuses hierarchical models whose blocks are not Swin's.

    Raises:
        Unsupported: the blocks are others.

    """
    blocks = [name for stage in backbone.stage_blocks() for name in stage]
    needed = {f"{name}.attn.qkv" for name in blocks}
    modules = dict(backbone.model.named_modules())
    swin = all(
        f"{name}.norm2" in modules and hasattr(modules.get(f"{name}.attn"), "_get_rel_pos_bias")
        for name in blocks
    )
    if not (swin and needed <= set(backbone.names("qkv"))):
        raise Unsupported(
            f"{name} knows the window attention of Swin (version 1) only, not that of "
            f"{type(backbone.model).__name__}"
        )
