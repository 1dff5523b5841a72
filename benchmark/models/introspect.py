"""Where the parts of a timm model are: stages, blocks, residual branches, layers by role."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from benchmark.core.errors import UserError
from methods.base import Branch, Role

STAGES = 4

_BLOCK_CLASS = re.compile(
    r"(Block|Bottleneck|Residual|DepthwiseSeparableConv|DenseLayer|ConvBnAct|GhostBottleneck)$"
)
_LAYERS = {"attn": ("qkv", "proj"), "mlp": ("fc1", "fc2")}
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_BRANCHES: dict[str, tuple[tuple[Literal["attention", "mlp"], str, str, str], ...]] = {
    "attn": (
        ("attention", "norm1", "norm1", "drop_path1"),
        ("mlp", "norm2", "norm2", "drop_path2"),
    ),
    "conv_dw": (("mlp", "", "norm", "drop_path"),),
}
"""By a child that the block has: part, start, norm and end of its residual branches in timm."""


@dataclass(frozen=True)
class Seen:
    """What a module got and returned in the probe.

    Attributes:
        x: first argument.
        y: output.

    """

    x: Tensor
    y: Tensor


def levels(model: nn.Module, name: str) -> list[tuple[int, dict[str, Any]]]:
    """(index for `forward_intermediates`, feature_info entry) of the four stage ends."""
    refusal = UserError(f"backbone {name!r}: timm gives no dense features in four stages for it")
    if not hasattr(model, "forward_intermediates"):
        raise refusal
    try:
        infos = [dict(info) for info in cast(Any, model).feature_info]
    except (AttributeError, TypeError) as error:
        raise refusal from error
    if len(infos) < STAGES:
        raise refusal
    if len({info["reduction"] for info in infos}) == 1:
        depth = len(infos)
        ends = [round((stage + 1) * depth / STAGES) - 1 for stage in range(STAGES)]
    else:
        ends = list(range(len(infos) - STAGES, len(infos)))
    modules = dict(model.named_modules())
    if any(infos[end]["module"] not in modules for end in ends):
        raise refusal
    return [(end, infos[end]) for end in ends]


def drop_tail(model: nn.Module, indices: list[int]) -> None:
    """Removes what comes after the last stage."""
    if hasattr(model, "prune_intermediate_layers"):
        cast(Any, model).prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
        model.head = nn.Identity()


def roles_of(model: nn.Module) -> dict[str, list[str]]:
    """Names by role, found from class names and timm's naming of parts."""
    modules = dict(model.named_modules())
    roles: dict[str, list[str]] = {role: [] for role in get_args(Role)}
    blocks: list[str] = []
    for name, module in modules.items():
        inside = any(name.startswith(block + ".") for block in blocks)
        if name and not inside and _BLOCK_CLASS.search(type(module).__name__):
            blocks.append(name)
    roles["block"] = blocks
    for name, module in modules.items():
        parent_name, _, leaf = name.rpartition(".")
        in_block = any(name.startswith(block + ".") for block in blocks)
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *_NORMS)) and (
            module.bias is not None
        ):
            roles["biased"].append(name)
        if isinstance(module, _NORMS) and module.weight is not None:
            roles["norm"].append(name)
        elif leaf == "attn" and in_block:
            roles["attention"].append(name)
        elif leaf == "mlp" and in_block and hasattr(module, "fc2"):
            roles["mlp"].append(name)
        elif isinstance(module, nn.Linear | nn.Conv2d) and in_block:
            owner = parent_name.rpartition(".")[2]
            if leaf in _LAYERS.get(owner, ()):
                roles[leaf].append(name)
    order = {name: index for index, name in enumerate(modules)}
    first = order[blocks[0]] if blocks else len(order)
    linear_like = {*roles["qkv"], *roles["proj"], *roles["fc1"], *roles["fc2"]}
    roles["conv"] = [
        name
        for name, module in modules.items()
        if isinstance(module, nn.Conv2d)
        and module.groups == 1
        and order[name] > first
        and name not in linear_like
    ]
    return roles


def blocks_by_stage(
    model: nn.Module, blocks: list[str], ends: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Blocks by stage, given the names of the modules that end the stages."""
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    last = [
        max(index for name, index in order.items() if name == end or name.startswith(end + "."))
        for end in ends
    ]
    stages: list[list[str]] = [[] for _ in ends]
    for block in blocks:
        stage = next((i for i, index in enumerate(last) if order[block] <= index), None)
        if stage is not None:
            stages[stage].append(block)
    return tuple(tuple(stage) for stage in stages)


def branches_of(
    model: nn.Module, stages: tuple[tuple[str, ...], ...], seen: Mapping[str, Seen]
) -> tuple[Branch, ...]:
    """Residual branches that behave as `Branch` says in the probe.

    Args:
        model: a timm model.
        stages: its blocks by stage.
        seen: what the probe saw, by name of the module.

    """
    found: list[Branch] = []
    for stage, blocks in enumerate(stages):
        for block in blocks:
            children = dict(model.get_submodule(block).named_children())
            parts = next((p for child, p in _BRANCHES.items() if child in children), ())
            if not all(f"{block}.{leaf}" in seen for _, _, *leaves in parts for leaf in leaves):
                continue
            own = [
                Branch(
                    block=block,
                    stage=stage,
                    part=part,
                    width=cast(Tensor, children[norm].weight).numel(),
                    start=f"{block}.{start}".removesuffix("."),
                    norm=f"{block}.{norm}",
                    end=f"{block}.{end}",
                )
                for part, start, norm, end in parts
            ]
            if own and _is_sum(seen, block, own):
                found += own
    return tuple(found)


def _is_sum(seen: Mapping[str, Seen], block: str, branches: list[Branch]) -> bool:
    """Whether a block returns its input plus what its branches return."""
    total, result = seen[block].x, seen[block].y
    for branch in branches:
        if not _close(seen[branch.start].x, total) or seen[branch.end].y.numel() != total.numel():
            return False
        total = total.reshape(seen[branch.end].y.shape) + seen[branch.end].y
    return _close(total, result)


def _close(a: Tensor, b: Tensor) -> bool:
    if a.numel() != b.numel() or a.is_meta:
        return a.numel() == b.numel()
    return torch.allclose(a.reshape(b.shape), b, rtol=1e-4, atol=1e-5)
