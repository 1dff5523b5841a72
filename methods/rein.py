"""Rein: learnt tokens that refine the features after every block."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, register


class Reins(nn.Module):
    """Tokens of all blocks of one width, and the layers that these share; see `Rein`.

    Args:
        blocks: number of blocks n.
        width: their channels C.
        tokens: m.
        rank: r.
        patch_area: pixels of a patch; sets the range of the initial tokens.

    """

    def __init__(self, blocks: int, width: int, tokens: int, rank: int, patch_area: int) -> None:
        super().__init__()
        bound = (6 / (3 * patch_area + (width * rank) ** 0.5)) ** 0.5
        self.a = nn.Parameter(torch.empty(blocks, tokens, rank).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(blocks, rank, width).uniform_(-bound, bound))
        self.to_feature, self.to_delta = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor([1e-3]))

    def forward(self, f: Tensor, block: int) -> Tensor:
        """Features (..., C) after a block, by its index, to the same shape."""
        tokens = self.a[block] @ self.b[block]
        shares = (f @ tokens.T * f.shape[-1] ** -0.5).softmax(-1)
        delta = shares[..., 1:] @ self.to_feature(tokens[1:])
        return f + self.scale * self.to_delta(delta + f)


@register("rein")
@dataclass(frozen=True, kw_only=True)
class Rein(Method):
    """Refines every block's features with learnt low-rank tokens.

    Refines the patch features f (L, C) after every block i with m low-rank tokens:

        T_i = A_i B_i,    A_i (m, r), B_i (r, C)
        S = softmax(f T_i^T / sqrt(C)),    d = S[:, 1:] (T_i[1:] W_T + b_T)
        f <- f + c ((d + f) W_f + b_f)

    A share of the attention may go to the first token, which adds nothing. A_i and B_i belong to
    the block and start in U(-v, v), v = sqrt(6 / (3 * ph * pw + sqrt(C r))), with the stride of
    the first stage as patch size; W_T, W_f and the scalar c, which starts at 0.001, are shared by
    all blocks of equal width. Prefix tokens bypass it. The published link from the tokens
    to the queries of a mask decoder is left out: there is no query decoder.

    The published code has lr 1e-4; tokens and scale never decay there.

    Parameters: n (m r + r C) + 2 (C C + C) + 1 for each width C that n blocks have. With m = 100,
    r = 16: ViT-B 1,347,841; ViT-L 2,530,817, with the link the paper's 2.99 million. C C weighs
    where blocks are wide: ResNet-50 11,416,068.

    Attributes:
        tokens: m, 2 at least.
        rank: r, at most m.
        lr: learning rate of all of it.

    """

    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Wei et al., Stronger, Fewer, & Superior: Harnessing Vision Foundation Models for Domain "
        "Generalized Semantic Segmentation, CVPR 2024, arXiv 2312.04265"
    )
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"tokens": (50, 100, 200), "rank": (8, 16, 32)}

    tokens: int = 100
    rank: int = 16
    lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("tokens", self.tokens >= 2, "an integer of at least 2")
        fits = 1 <= self.rank <= self.tokens
        self._require("rank", fits, f"an integer from 1 to tokens={self.tokens}")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the tokens of each width and attaches them after the blocks."""
        # Only tokens (N, L, C) have a prefix; maps (N, H, W, C) keep all of their first axis.
        start = backbone.prefix_tokens

        def refine(y: Tensor, reins: Reins, index: int) -> Tensor:
            prefix, patches = y.split([start, y.shape[1] - start], dim=1)
            return torch.cat([prefix, reins(patches, index)], dim=1)

        for width, blocks in self._by_width(backbone).items():
            patch_area = backbone.strides[0] ** 2
            reins = Reins(len(blocks), width, self.tokens, self.rank, patch_area)
            backbone.insert(f"reins_{width}", reins)
            for index, block in enumerate(blocks):
                backbone.after_block(block, partial(refine, reins=reins, index=index))

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """The docstring's term for each width."""
        m, r = self.tokens, self.rank
        widths = {c: len(blocks) for c, blocks in self._by_width(backbone).items()}
        return sum(n * (m * r + r * c) + 2 * (c * c + c) + 1 for c, n in widths.items())

    def without_weight_decay(self) -> tuple[str, ...]:
        """The factors of the tokens."""
        return (".a", ".b")

    def _by_width(self, backbone: Backbone) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for block in (block for stage in backbone.stage_blocks() for block in stage):
            found.setdefault(backbone.width(block), []).append(block)
        return found
