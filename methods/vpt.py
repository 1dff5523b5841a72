"""Visual prompt tuning: learnt tokens beside the patch tokens."""

import inspect
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from methods.base import Backbone, Kind, Method, Unsupported, register


class Prompts(nn.Module):
    """Tokens (layers, p, D), drawn from U(-v, v) with v = sqrt(6 / (3 * ph * pw + D))."""

    def __init__(self, layers: int, tokens: int, width: int, patch_area: int) -> None:
        super().__init__()
        bound = (6 / (3 * patch_area + width)) ** 0.5
        self.tokens = nn.Parameter(torch.empty(layers, tokens, width).uniform_(-bound, bound))


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

    Attributes:
        tokens: prompts per layer, p.
        depth: `deep` or `shallow`.
        lr: learning rate of the prompts.

    """

    supports: ClassVar[frozenset[Kind]] = frozenset(("plain",))
    identity_at_init: ClassVar[bool] = False
    reference: ClassVar[str] = "Jia et al., Visual Prompt Tuning, ECCV 2022, arXiv 2203.12119"

    tokens: int = 10
    depth: Literal["deep", "shallow"] = "deep"
    lr: float = 3e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("tokens", self.tokens >= 1, "an integer of at least 1")

    def apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the prompts and the hooks that put them in and take them out."""
        self.require_kind(backbone)
        stages = backbone.stage_blocks()
        blocks = [name for stage in stages for name in stage]
        self._require_free_tokens(backbone, blocks[0])
        layers = len(blocks) if self.depth == "deep" else 1
        width, patch_area = backbone.channels[0], backbone.strides[0] ** 2
        prompts = Prompts(layers, self.tokens, width, patch_area)
        backbone.insert("prompts", prompts)
        if self.depth == "deep":
            spans = [(name, name) for name in blocks]
        else:
            spans = [(stage[0], stage[-1]) for stage in stages]
        carried: list[Tensor] = []
        start, stop = backbone.prefix_tokens, backbone.prefix_tokens + self.tokens

        def put(x: Tensor, span: int) -> Tensor:
            if self.depth == "shallow" and span > 0:
                inner = carried.pop()
            else:
                inner = prompts.tokens[span].to(x.dtype).expand(x.shape[0], -1, -1)
            return torch.cat([x[:, :start], inner, x[:, start:]], dim=1)

        def take(y: Tensor, span: int) -> Tensor:
            if self.depth == "shallow" and span < len(spans) - 1:
                carried[:] = [y[:, start:stop]]
            return torch.cat([y[:, :start], y[:, stop:]], dim=1)

        for span, (first, last) in enumerate(spans):
            backbone.before(first, lambda x, span=span: put(x, span))  # type: ignore[misc]
            backbone.after(last, lambda x, y, span=span: take(y, span))  # type: ignore[misc]

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
