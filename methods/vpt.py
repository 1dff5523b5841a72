"""Visual prompt tuning: learnt tokens beside the patches, or learnt pixels around the image."""

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register


class Prompts(nn.Module):
    """Tokens (p, D) per layer, drawn from U(-v, v) with v = sqrt(6 / (3 * ph * pw + D))."""

    def __init__(self, widths: list[int], tokens: int, patch_area: int) -> None:
        super().__init__()
        bounds = [(6 / (3 * patch_area + width)) ** 0.5 for width in widths]
        self.layers = nn.ParameterList(
            nn.Parameter(torch.empty(tokens, width).uniform_(-bound, bound))
            for width, bound in zip(widths, bounds, strict=True)
        )


class Frame(nn.Module):
    """Learnt pixels around an image, of unit variance like a normalised image.

    Args:
        pad: thickness on each side, px.
        length: the sides of the image that the pixels are stored for, px.

    """

    def __init__(self, pad: int, length: int) -> None:
        super().__init__()
        self.pad = pad
        bound = 3**0.5
        rows, columns = (1, 3, 2 * pad, length + 2 * pad), (1, 3, length, 2 * pad)
        self.rows = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.columns = nn.Parameter(torch.empty(columns).uniform_(-bound, bound))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, H + 2 pad, W + 2 pad); bars are resized to the image's sides."""
        n, pad, (height, width) = images.shape[0], self.pad, images.shape[-2:]
        rows = _resized(self.rows, (2 * pad, width + 2 * pad)).expand(n, -1, -1, -1)
        columns = _resized(self.columns, (height, 2 * pad)).expand(n, -1, -1, -1)
        middle = torch.cat([columns[..., :pad], images, columns[..., pad:]], dim=-1)
        return torch.cat([rows[..., :pad, :], middle, rows[..., pad:, :]], dim=-2)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear")


@register("vpt")
@dataclass(frozen=True, kw_only=True)
class VPT(Method):
    """Puts p learnt tokens between the prefix tokens and the patch tokens of a plain ViT.

    Deep: every block i has tokens of its own, and what it makes of them is dropped:

        [c_i; _; E_i] = block_i([c_{i-1}; P_i; E_{i-1}])        L * p * D parameters

    Shallow: the tokens enter before block 1 and go through all blocks:

        [c_i; Z_i; E_i] = block_i([c_{i-1}; Z_{i-1}; E_{i-1}]),  Z_0 = P        p * D parameters

    At the end of a stage the prompts are taken out, so that features are patches only; the
    shallow ones are put back before the next stage. With D = 768, L = 12: 92,160 for p = 10.

    In Swin every window sees the same prompts, without a position: the relative bias and the mask
    are zero for them. Shallow ones leave attention as the mean over the windows, go through the
    MLP, and are repeated four times where patches merge. Parameters: p times the width of each
    block, or of the first.

    A CNN has no tokens. There, learnt pixels frame the image and the frame is cut off the
    features: 3 * 2 pad * (2 length + 2 pad) parameters.

    Attributes:
        tokens: prompts per layer, p.
        depth: `deep` or `shallow`; a CNN knows only the frame and refuses `shallow`.
        pad: CNN: thickness of the frame in px, a multiple of the largest stride.
        length: CNN: image side in px that the frame is stored for; else it is resized.
        lr: learning rate of the prompts.

    """

    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = "Jia et al., Visual Prompt Tuning, ECCV 2022, arXiv 2203.12119"

    tokens: int = 10
    depth: Literal["deep", "shallow"] = "deep"
    pad: int = 32
    length: int = 224
    lr: float = 3e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("tokens", self.tokens >= 1, "an integer of at least 1")
        self._require("pad", self.pad >= 1, "an integer of at least 1")
        self._require("length", self.length >= 1, "an integer of at least 1")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the prompts and the hooks that put them in and take them out."""
        if backbone.kind == "cnn":
            self._frame(backbone)
            return
        blocks = [name for stage in backbone.stage_blocks() for name in stage]
        windows = backbone.kind == "hierarchical"
        if windows:
            self._require_windows(backbone, blocks)
        else:
            self._require_free_tokens(backbone, blocks[0])
        prompts = Prompts(self._widths(backbone), self.tokens, backbone.strides[0] ** 2)
        backbone.insert("prompts", prompts)
        (self._in_windows if windows else self._in_sequence)(backbone, prompts)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """P times the widths of the prompted layers; the frame's pixels in a CNN."""
        if backbone.kind == "cnn":
            return 3 * 2 * self.pad * (2 * self.length + 2 * self.pad)
        return self.tokens * sum(self._widths(backbone))

    def _widths(self, backbone: Backbone) -> list[int]:
        """Widths of the layers with prompts of their own."""
        widths = [backbone.width(name) for stage in backbone.stage_blocks() for name in stage]
        return widths if self.depth == "deep" else widths[:1]

    def _in_sequence(self, backbone: Backbone, prompts: Prompts) -> None:
        """Plain ViT: prompts are tokens of the sequence."""
        stages = backbone.stage_blocks()
        if self.depth == "deep":
            spans = [(name, name) for stage in stages for name in stage]
        else:
            spans = [(stage[0], stage[-1]) for stage in stages]
        carried: list[Tensor] = []
        start, stop = backbone.prefix_tokens, backbone.prefix_tokens + self.tokens

        def put(x: Tensor, span: int) -> Tensor:
            if self.depth == "shallow" and span > 0:
                inner = carried.pop()
            else:
                inner = prompts.layers[span].to(x.dtype).expand(x.shape[0], -1, -1)
            # Split, not sliced: the way back of slices fills a gradient with zeros for each.
            before, after = x.split([start, x.shape[1] - start], dim=1)
            return torch.cat([before, inner, after], dim=1)

        def take(y: Tensor, span: int) -> Tensor:
            before, inner, after = y.split([start, self.tokens, y.shape[1] - stop], dim=1)
            if self.depth == "shallow" and span < len(spans) - 1:
                carried[:] = [inner]
            return torch.cat([before, after], dim=1)

        for span, (first, last) in enumerate(spans):
            backbone.before(first, lambda x, span=span: put(x, span))  # type: ignore[misc]
            backbone.after(last, lambda x, y, span=span: take(y, span))  # type: ignore[misc]

    def _in_windows(self, backbone: Backbone, prompts: Prompts) -> None:
        """Swin: prompts are tokens of every window."""
        blocks = [name for stage in backbone.stage_blocks() for name in stage]
        z: list[Tensor] = []

        def enter(x: Tensor, index: int) -> Tensor:
            if self.depth == "deep" or index == 0:
                z[:] = [prompts.layers[index].to(x.dtype).expand(x.shape[0], -1, -1)]
            return x

        def attend(windows: Tensor, mask: Tensor | None, block: Any) -> Tensor:
            n, p = z[0].shape[0], self.tokens
            extra = block.norm1(z[0]).repeat_interleave(windows.shape[0] // n, dim=0)
            y = _window_attention(block.attn, torch.cat([extra, windows], dim=1), p, mask)
            if self.depth == "shallow":
                z[0] = z[0] + y[:, :p].unflatten(0, (n, -1)).mean(1)
                z[0] = z[0] + block.mlp(block.norm2(z[0]))
            return y[:, p:]

        def merge(x: Tensor, merging: Any) -> Tensor:
            if self.depth == "shallow":
                z[0] = merging.reduction(merging.norm(z[0].repeat(1, 1, 4)))
            return x

        for index, name in enumerate(blocks):
            block = cast(Any, backbone.model.get_submodule(name))
            backbone.before(name, lambda x, i=index: enter(x, i))  # type: ignore[misc]
            backbone.around(
                f"{name}.attn",
                lambda _, x, mask=None, block=block: attend(x, mask, block),
            )
        for name, module in backbone.model.named_modules():
            if type(module).__name__ == "PatchMerging":
                backbone.before(name, lambda x, module=module: merge(x, module))  # type: ignore[misc]

    def _frame(self, backbone: Backbone) -> None:
        """CNN: learnt pixels around the image."""
        if self.depth == "shallow":
            raise Unsupported(f"{self.name} has one form on a CNN, without depth=shallow")
        stride = max(backbone.strides)
        self._require("pad", self.pad % stride == 0, f"a multiple of {stride}, the largest stride")
        frame = Frame(self.pad, self.length)
        backbone.insert("prompts", frame)
        margins = [self.pad // stride for stride in backbone.strides]
        backbone.on_images(frame)
        backbone.on_features(
            lambda maps: [x[..., m:-m, m:-m] for x, m in zip(maps, margins, strict=True)]
        )

    def _require_free_tokens(self, backbone: Backbone, block: str) -> None:
        """Refuses blocks that know the position of each token: a prompt has none."""
        module = backbone.model.get_submodule(block)
        inputs = list(inspect.signature(module.forward).parameters.values())
        needs_more = any(
            p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in inputs[1:]
        )
        names = ("rope", "rel_pos_bias", "relative_position_bias_table")
        owners = (backbone.model, *module.modules())
        if needs_more or any(getattr(o, n, None) is not None for o in owners for n in names):
            raise Unsupported(
                f"{self.name} needs blocks that take any set of tokens; those of "
                f"{type(backbone.model).__name__} use the position of every token inside"
            )

    def _require_windows(self, backbone: Backbone, blocks: list[str]) -> None:
        """Refuses hierarchical models whose blocks are not Swin's."""
        needed = {f"{name}.attn.qkv" for name in blocks}
        swin = all(
            hasattr(backbone.model.get_submodule(name), "norm2")
            and hasattr(backbone.model.get_submodule(f"{name}.attn"), "_get_rel_pos_bias")
            for name in blocks
        )
        if not (swin and needed <= set(backbone.names("qkv"))):
            raise Unsupported(
                f"{self.name} knows the window attention of Swin (version 1) only, not that of "
                f"{type(backbone.model).__name__}"
            )


def _window_attention(attn: Any, x: Tensor, prompts: int, mask: Tensor | None) -> Tensor:
    """Swin's window attention where the first tokens are prompts without a position.

    Args:
        attn: timm's `WindowAttention`.
        x: (windows, prompts + M * M, C), window by window, image by image.
        prompts: number of prompts.
        mask: (windows of an image, M * M, M * M) of shifted windows; None for plain ones.

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
