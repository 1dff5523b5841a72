"""Where the parts of a timm model are: stages, blocks, residual branches, layers by role."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.models.observe import Observed, Seen
from methods.base import Branch, Kind, Role

MOST_STAGES = 4

_BLOCK_CLASS = re.compile(
    r"(Block(1d|2d)?|Bottleneck|Bottle2neck|Residual|DepthwiseSeparableConv|DenseLayer|ConvBnAct"
    r"|GhostBottleneck|DlaBasic|PreActBasic|SelectiveKernelBasic|XceptionModule|MBConv|MobileAttention)$"
)
_MLP = re.compile(r"(mlp|ffn)\w*")
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
class Level:
    """A feature map that timm says a model gives.

    Attributes:
        index: its number for `forward_intermediates`.
        channels: of the map.
        stride: in input pixels.
        module: whose output it is, as timm says.

    """

    index: int
    channels: int
    stride: int
    module: str


def levels(model: nn.Module, name: str) -> list[Level]:
    """The feature maps that end the stages, at most four.

    Raises:
        UserError: timm gives none.

    """
    refusal = UserError(f"backbone {name!r}: timm returns no dense features for it; choose another")
    if not hasattr(model, "forward_intermediates"):
        raise refusal
    try:
        infos = [dict(info) for info in cast(Any, model).feature_info]
        found = [
            Level(index, int(info["num_chs"]), int(info["reduction"]), str(info["module"]))
            for index, info in enumerate(infos)
        ]
    except (AttributeError, TypeError, KeyError) as error:
        raise refusal from error
    strides = [level.stride for level in found]
    if not found or strides != sorted(strides):
        raise refusal
    if len(set(strides)) == 1:
        depth, count = len(found), min(MOST_STAGES, len(found))
        return [found[round((stage + 1) * depth / count) - 1] for stage in range(count)]
    return found[-MOST_STAGES:]


def drop_tail(model: nn.Module, ends: Sequence[Level]) -> None:
    """Removes what comes after the last stage."""
    if hasattr(model, "prune_intermediate_layers"):
        indices = [end.index for end in ends]
        cast(Any, model).prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
    head = getattr(model, "head", None)
    used = any(end.module.split(".")[0] == "head" for end in ends)
    if isinstance(head, nn.Module) and not used and any(True for _ in head.parameters()):
        model.head = nn.Identity()


class Held(NamedTuple):
    """How a tensor holds a map.

    Attributes:
        dimensions: 4, or 3 where it holds tokens.
        axis: of the channels, 1 or -1.
        prefix: tokens before those of the map.

    """

    dimensions: int
    axis: int
    prefix: int


def as_map(y: Tensor, feature: Tensor) -> Held | None:
    """How an output holds a feature map (N, C, h, w); None where it does not."""
    n, channels, height, width = feature.shape
    if y.ndim == 4:
        for axis in (1, -1):
            if _equal(y.movedim(axis, 1), feature):
                return Held(4, axis, 0)
    elif y.ndim == 3 and y.shape[::2] == (n, channels) and y.shape[1] >= height * width:
        prefix = y.shape[1] - height * width
        tokens = y[:, prefix:].transpose(1, 2).unflatten(2, (height, width))
        if _equal(tokens, feature):
            return Held(3, -1, prefix)
    return None


def is_map(x: Tensor, axis: int, size: tuple[int, int]) -> bool:
    """Whether a tensor of four dimensions has the proportions of a map; true of all others.

    Args:
        x: what a module got or returned.
        axis: of its channels.
        size: height and width of a map of the same images.

    """
    if x.ndim != 4:
        return True
    height, width = x.shape[2:] if axis == 1 else x.shape[1:-1]
    return height * size[1] == width * size[0]


def entry(inputs: Sequence[tuple[Tensor, tuple[int, int]]]) -> tuple[int, Held | None]:
    """Channels of what the first block gets, and how that holds a map.

    Args:
        inputs: of each pass, with the height and width of the first stage's map.

    """
    shapes = [tuple(x.shape) for x, _ in inputs]
    axis = _stays(shapes) or -1
    maps = [shape[2:] if axis == 1 else shape[1:-1] for shape in shapes]
    sizes = [size for _, size in inputs]
    held = None
    if len(shapes[0]) == 4:
        same = all(is_map(x, axis, size) for x, size in inputs)
        held = Held(4, axis, 0) if same else None
    elif len(shapes[0]) == 3 and axis == -1:
        more = {tokens - h * w for (tokens,), (h, w) in zip(maps, sizes, strict=True)}
        held = Held(3, -1, max(more)) if len(more) == 1 and min(more) >= 0 else None
    return shapes[0][axis], held


def channel_axes(model: nn.Module, passes: Sequence[Mapping[str, Seen]]) -> dict[str, int]:
    """The axis of the channels, 1 or -1, in what each module returns.

    Args:
        model: a timm model.
        passes: of images of different sizes, or a single one where the model takes one size.

    """
    found: dict[str, int] = {}
    open_: dict[str, type[nn.Module]] = {}
    like: dict[type[nn.Module], int] = {}
    for name in passes[0]:
        axis = _stays([tuple(one[name].y.shape) for one in passes if name in one])
        kind = type(model.get_submodule(name))
        if axis is None:
            open_[name] = kind
        else:
            found[name] = like[kind] = axis
    # As many channels as rows and columns: as in the other modules of the class.
    return found | {name: like.get(kind, -1) for name, kind in open_.items()}


def _stays(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """1 or -1: the axis whose size does not follow that of the images; None where both may be."""
    dimensions = len(shapes[0])
    if dimensions != 4:
        first = {shape[1:-1] for shape in shapes}, {shape[-1] for shape in shapes}
        return 1 if len(first[0]) == 1 < len(first[1]) else -1
    if len(shapes) > 1:
        before, after = {shape[1] for shape in shapes}, {shape[3] for shape in shapes}
        if (len(before) == 1) != (len(after) == 1):
            return 1 if len(before) == 1 else -1
        return None
    # Maps of square images are square.
    (_, a, b, c) = shapes[0]
    return 1 if a != b == c else -1 if a == b != c else None


def candidates(level: Level, feature: Tensor, observed: Observed) -> list[str]:
    """Names of modules whose output may be the map of a level, the likeliest first.

    The last is the one that timm names, where its output holds the map in another order.
    """
    holding = [
        name
        for name, seen in observed.seen.items()
        if seen.calls == 1 and as_map(seen.y, feature) is not None
    ]
    # Of equal outputs, that of the outermost module is what the model hands on.
    holding.sort(
        key=lambda name: (name != level.module, name.count("."), observed.seen[name].begun)
    )
    named = observed.seen.get(level.module)
    other = named is not None and named.calls == 1 and level.module not in holding
    return [*holding, level.module] if other else holding


def roles_of(model: nn.Module, blocks: Sequence[str], observed: Observed) -> dict[str, list[str]]:
    """Names by role: from what a pass computes in the blocks, and the kinds of layers.

    Only modules that the pass called: a hook or a wrapper of another one would never run. The
    linear layers of attention before its first product make queries, keys and values (or gates);
    those after its last one bring its output back. The last layer of an MLP is `fc2`, and those
    before it, of which a gated MLP has two, are `fc1`.
    """
    modules = dict(model.named_modules())
    order = {name: index for index, name in enumerate(modules)}
    held = [name for name in modules if any(name.startswith(f"{block}.") for block in blocks)]
    within = {*held, *blocks}
    roles: dict[str, list[str]] = {role: [] for role in get_args(Role)}
    roles["block"] = list(blocks)
    roles["attention"] = [name for name in modules if name in within and observed.attends(name)]
    roles["mlp"] = [
        name
        for name in held
        if _MLP.fullmatch(name.rpartition(".")[2])
        and not any(attention.startswith(f"{name}.") for attention in roles["attention"])
        and len(_inside(name, modules, observed)) >= 2
    ]
    for name in roles["attention"]:
        events = observed.products[name]
        for layer in _inside(name, modules, observed):
            seen = observed.seen[layer]
            if seen.ended < events[0]:
                roles["qkv"].append(layer)
            elif seen.begun > events[-1] and name not in blocks:
                roles["proj"].append(layer)
    for name in roles["mlp"]:
        *first, last = sorted(
            _inside(name, modules, observed), key=lambda layer: observed.seen[layer].begun
        )
        roles["fc1"] += first
        roles["fc2"].append(last)
    linear_like = {*roles["qkv"], *roles["proj"], *roles["fc1"], *roles["fc2"]}
    for name, module in modules.items():
        if name not in observed.called:
            continue
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *_NORMS)) and (
            module.bias is not None
        ):
            roles["biased"].append(name)
        if _is_norm(module) and module.weight is not None:
            roles["norm"].append(name)
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == 1
            and blocks
            and order[name] > order[blocks[0]]
            and name not in linear_like
        ):
            roles["conv"].append(name)
    return {role: sorted(names, key=order.__getitem__) for role, names in roles.items()}


def _inside(name: str, modules: Mapping[str, nn.Module], observed: Observed) -> list[str]:
    """Linear layers, and convolutions that are ones at each position, below a module."""
    return [
        layer
        for layer in observed.seen
        if layer.startswith(f"{name}.")
        and _is_linear(modules[layer])
        and observed.seen[layer].of_images
    ]


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, (*_NORMS, nn.RMSNorm)):
        return True
    # Those that timm has beside torch's scale and do not shift.
    origins = {base.__module__ for base in type(module).__mro__}
    return "timm.layers.norm" in origins and hasattr(module, "weight")


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.kernel_size == (1, 1)
    return isinstance(module, nn.Linear)


def kind_of(blocks: Sequence[str], strides: Sequence[int], observed: Observed) -> Kind:
    """What a pass shows: a transformer where half of the blocks compute attention, or more."""
    attending = [name for name in observed.products if observed.attends(name)]
    with_it = sum(any(f"{a}.".startswith(f"{block}.") for a in attending) for block in blocks)
    if 2 * with_it < len(blocks):
        return "cnn"
    return "plain" if len(set(strides)) == 1 else "hierarchical"


def blocks_by_stage(
    model: nn.Module, ends: Sequence[str], observed: Observed, listed: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Blocks of each stage, in the order in which they are called.

    Args:
        model: a timm model.
        ends: names of the modules that end the stages.
        observed: a pass.
        listed: all blocks, where timm lists them (a plain transformer); what comes before, such as
            a convolutional stem, belongs to the embedding.

    """
    modules = dict(model.named_modules())
    units = {
        name
        for name, seen in observed.seen.items()
        if seen.calls == 1
        and seen.y.ndim >= 3
        and any(p.ndim > 1 for p in modules[name].parameters())
    }
    named: list[str] = []
    for name in modules:
        inside = any(name.startswith(f"{block}.") for block in named)
        is_block = name in listed if listed else _BLOCK_CLASS.search(type(modules[name]).__name__)
        if name in units and not inside and is_block:
            named.append(name)
    stages: list[tuple[str, ...]] = []
    last = 0
    for end in ends:
        first, last = last, observed.seen[end].ended
        inside_stage = [n for n in named if first <= observed.seen[n].begun < last]
        if not inside_stage:
            inside_stage = _units(units, modules, observed, first, last)
        stages.append(tuple(sorted(inside_stage, key=lambda name: observed.seen[name].begun)))
    return tuple(stages)


def _units(
    units: set[str], modules: Mapping[str, nn.Module], observed: Observed, first: int, last: int
) -> list[str]:
    """The largest modules that run between two events, but not what merely holds them."""

    def outermost(names: set[str]) -> list[str]:
        return [n for n in names if not any(n.startswith(f"{other}.") for other in names)]

    between = {
        n for n in units if first <= observed.seen[n].begun <= observed.seen[n].ended <= last
    }
    while True:
        found = outermost(between)
        holders = {n for n in found if isinstance(modules[n], nn.Sequential)} & {
            n for n in found if any(other.startswith(f"{n}.") for other in between)
        }
        if not holders:
            return found
        between -= holders


def branches_of(
    model: nn.Module,
    stages: Sequence[Sequence[str]],
    seen: Mapping[str, Seen],
    axes: Mapping[str, int],
) -> tuple[Branch, ...]:
    """Residual branches that behaved as `Branch` says in a pass.

    Args:
        model: a timm model.
        stages: its blocks by stage.
        seen: what a pass showed, by name of the module.
        axes: of the channels in what each module returns.

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
                    width=seen[f"{block}.{norm}"].y.shape[axes[f"{block}.{norm}"]],
                    start=f"{block}.{start}".removesuffix("."),
                    norm=f"{block}.{norm}",
                    end=f"{block}.{end}",
                )
                for part, start, norm, end in parts
            ]
            if (
                own
                and _is_sum(seen, block, own)
                and all(seen[branch.norm].y.ndim == seen[branch.end].y.ndim for branch in own)
            ):
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


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.is_meta:
        return a.shape == b.shape
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
