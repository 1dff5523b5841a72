"""Which trained tensors weight decay leaves out, and how rates fall towards the embedding."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from benchmark.models.segmenter import Segmenter
from methods.base import Method

Groups = list[dict[str, Any]]
"""Groups of an optimiser, as torch takes them."""


def only_weights(groups: Sequence[dict[str, Any]], segmenter: Segmenter, method: Method) -> Groups:
    """Groups in which matrices and kernels decay, and nothing else.

    Decay pulls towards 0. For a weight that is a prior; for the scale of a norm, a prompt or a
    token, 0 means nothing. Over many steps at a high rate little would be left of these.

    Args:
        groups: each with `params` and its rate.
        segmenter: that holds them.
        method: names its prompts, tokens and scales of several dimensions; timm names those of the
            backbone (positions, class tokens).

    Returns:
        The same groups in their order, each in up to two parts, what does not decay last.
    """
    declared = method.without_weight_decay()
    exempt: set[str] = getattr(segmenter.backbone.model, "no_weight_decay", set)()
    theirs = {f"backbone.model.{name}" for name in exempt}
    spared = {
        id(parameter)
        for name, parameter in segmenter.named_parameters()
        if parameter.ndim <= 1 or name in theirs or any(part in name for part in declared)
    }

    def parts(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        params = list(group["params"])
        yield group | {"params": [p for p in params if id(p) not in spared]}
        yield group | {"params": [p for p in params if id(p) in spared], "weight_decay": 0.0}

    return [part for group in groups for part in parts(group) if part["params"]]


def by_depth(groups: Groups, segmenter: Segmenter, factor: float) -> Groups:
    """Groups whose pretrained tensors have a rate that falls by a factor a block, downwards.

    The last block has factor^1, the embedding the lowest rate, and what a method put in or what
    follows the last block its own: layer-wise decay as of BEiT (Bao et al., ICLR 2022).
    """
    if factor == 1:
        return groups
    backbone = segmenter.backbone
    blocks = [name for stage in backbone.stage_blocks() for name in stage]
    depth: dict[int, int] = {}
    last = 0  # a layer between two blocks, such as a patch merging, belongs to the one before it
    for name, module in backbone.model.named_modules():
        at = [number for number, one in enumerate(blocks, 1) if f"{name}.".startswith(f"{one}.")]
        last = at[0] if at else last
        for parameter in module.parameters(recurse=False):
            if module in backbone.pretrained_modules:
                depth[id(parameter)] = last if at or last < len(blocks) else len(blocks) + 1
    split = []
    for group in groups:
        parts: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(depth.get(id(parameter), len(blocks) + 1), []).append(parameter)
        for at_depth, parameters in sorted(parts.items()):
            rate = group["lr"] * factor ** (len(blocks) + 1 - at_depth)
            split.append(group | {"params": parameters, "lr": rate})
    return split
