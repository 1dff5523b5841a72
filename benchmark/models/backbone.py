"""A timm model as four stages with named parts and hooks at which methods attach.

Nothing of the timm model is replaced: what a method adds lives in `inserted` and acts through
forward hooks, so the names in the state dict of the pretrained model stay timm's own.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from methods.base import Kind, Role

STAGES = 4
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Layout = Literal["tokens", "NHWC", "NCHW"]

_BLOCK_CLASS = re.compile(
    r"(Block|Bottleneck|Residual|DepthwiseSeparableConv|DenseLayer|ConvBnAct|GhostBottleneck)$"
)
_LAYERS = {"attn": ("qkv", "proj"), "mlp": ("fc1", "fc2")}
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


class StagedBackbone(nn.Module):
    """Satisfies `methods.Backbone` for a timm model with `forward_intermediates`.

    Stages are native for models with several resolutions (the four deepest levels of timm's
    `feature_info`); a plain ViT is cut into four groups of blocks, as equal as possible. One
    small forward pass at construction checks that the module which ends each stage really
    yields the features of that stage, in the layout this class believes it has.

    What lies behind the last stage (classifier, final norm, head convolution) never enters a
    feature map and is removed: otherwise `backbone parameters` would count dead ones.

    Args:
        model: a timm model created with `num_classes=0`.
        name: what users call it.
        mean: per-channel mean that images are normalised with; by default timm's.
        std: per-channel standard deviation likewise.

    Attributes:
        kind, model, channels, strides, prefix_tokens, inserted: see `methods.Backbone`.
        mean, std: normalisation of images in [0, 1], three numbers each.
        divisor: height and width of images must be multiples of it.
        stage_ends: names of the modules whose output is the output of a stage.
        weights_source: where the weights came from.
        weights_sha256: hash of the weights file; None where there is none.

    Raises:
        UserError: the model has no four stages, or its stages cannot be hooked.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str = "",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.name = name or type(model).__name__
        self.weights_source = "none (random)"
        self.weights_sha256: str | None = None
        config = getattr(model, "pretrained_cfg", None) or {}
        self.mean = tuple(mean or config.get("mean") or IMAGENET_MEAN)
        self.std = tuple(std or config.get("std") or IMAGENET_STD)

        levels = _levels(model, self.name)
        self._indices = [index for index, _ in levels]
        self.stage_ends = tuple(info["module"] for _, info in levels)
        self.channels = tuple(int(info["num_chs"]) for _, info in levels)
        self.strides = tuple(int(info["reduction"]) for _, info in levels)
        self.divisor = max(self.strides)
        _drop_tail(model, self._indices)

        self.model = model.eval().requires_grad_(False)
        self.inserted = nn.ModuleDict()
        self._input_size = (0, 0)
        self._roles = _roles(self.model)
        if not self._roles["block"]:
            raise UserError(f"backbone {self.name!r}: no blocks found in {type(model).__name__}")
        self._blocks = _blocks_by_stage(self.model, self._roles["block"], self.stage_ends)
        transformer = bool(self._roles["attention"])
        plain = transformer and len(set(self.strides)) == 1
        self.kind: Kind = "plain" if plain else "hierarchical" if transformer else "cnn"
        self.pretrained_modules: WeakSet[nn.Module] = WeakSet(self.model.modules())
        self.pretrained_names = frozenset(self.model.state_dict())
        self._layout: Layout = "NCHW"
        self.prefix_tokens = 0
        self._block_shapes: dict[str, tuple[int, ...]] = {}
        self._probe()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the four stages.

        Args:
            images: (N, 3, H, W), normalised; H and W multiples of `divisor`.

        Returns:
            Four maps (N, channels[i], H / strides[i], W / strides[i]).

        """
        self._input_size = (images.shape[-2], images.shape[-1])
        model = cast(Any, self.model)
        return model.forward_intermediates(
            images, indices=self._indices, intermediates_only=True, output_fmt="NCHW", norm=False
        )

    def names(self, role: Role) -> list[str]:
        """Dotted names of the modules with a role, in forward order.

        `qkv`, `proj`, `fc1`, `fc2` are layers with a weight of their own and a forward call:
        attention that uses the weight of `qkv` without calling it (separate q and v biases in
        BEiT, EVA, Swin V2) is left out, because a hook or wrapper there would never run.
        """
        return list(self._roles[role])

    def stage_blocks(self) -> tuple[tuple[str, ...], ...]:
        """Names of the blocks of each of the four stages, in forward order."""
        return self._blocks

    def width(self, block: str) -> int:
        """Channels of the output of a block (they may differ inside a stage)."""
        return self._block_shapes[block][self.channel_axis(block)]

    def channel_axis(self, block: str) -> int:
        """Where the channels of the output of a block are: 1 (N, C, H, W) or -1 (..., C)."""
        four = len(self._block_shapes[block]) == 4
        return 1 if four and self._layout == "NCHW" else -1

    def insert(self, name: str, module: nn.Module) -> nn.Module:
        """Registers a trainable module under `inserted[name]` and returns it."""
        if name in self.inserted:
            raise ValueError(f"{name!r} is inserted twice")
        self.inserted[name] = module
        return module

    def before(self, target: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(x) -> x` on the (first) input of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (fn(args[0]), *args[1:])

        self.model.get_submodule(target).register_forward_pre_hook(hook)

    def after(self, target: str, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(x, y) -> y` on the input and output of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            return fn(args[0], output)

        self.model.get_submodule(target).register_forward_hook(hook)

    def at_boundary(self, stage: int, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the output of stage 0..3 as a map (N, C, H, W); prefix tokens pass by.

        The next stage and the decoder both see what `fn` returns. Several functions at one
        boundary run in the order in which they were attached.
        """
        self.after(self.stage_ends[stage], lambda _, y: self._on_map(stage, y, fn))

    def _on_map(self, stage: int, y: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
        if self._layout == "NCHW":
            return fn(y)
        if self._layout == "NHWC":
            return fn(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        height, width = (size // self.strides[stage] for size in self._input_size)
        prefix, tokens = y[:, : self.prefix_tokens], y[:, self.prefix_tokens :]
        changed = fn(tokens.transpose(1, 2).unflatten(2, (height, width)))
        return torch.cat([prefix, changed.flatten(2).transpose(1, 2)], dim=1)

    @torch.no_grad()
    def _probe(self) -> None:
        """One small non-square pass that finds the layout and checks the stage ends."""
        outputs: dict[str, Tensor] = {}
        handles = [
            self.model.get_submodule(name).register_forward_hook(
                lambda _module, _args, y, name=name: outputs.update({name: y})
            )
            for name in {*self.stage_ends, *(name for blocks in self._blocks for name in blocks)}
        ]
        like = next(self.model.parameters())
        images = torch.linspace(
            -1, 1, 3 * 6 * self.divisor**2, device=like.device, dtype=like.dtype
        ).reshape(1, 3, 2 * self.divisor, 3 * self.divisor)
        try:
            features = self(images)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise UserError(
                f"backbone {self.name!r} does not take {size} images: {reason}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()

        refusal = UserError(
            f"backbone {self.name!r}: its four stages cannot be told apart ({self.stage_ends})"
        )
        if len(features) != STAGES or not outputs.keys() >= set(self.stage_ends):
            raise refusal
        seen = [outputs[end] for end in self.stage_ends]
        if seen[0].ndim == 3:
            self._layout = "tokens"
            self.prefix_tokens = seen[0].shape[1] - features[0][0, 0].numel()
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            self._layout = "NHWC"
        for stage, feature in enumerate(features):
            shape = (1, self.channels[stage], *(s // self.strides[stage] for s in self._input_size))
            maps: list[Tensor] = []
            try:
                self._on_map(stage, seen[stage], lambda x, maps=maps: maps.append(x) or x)  # type: ignore[misc]
            except (RuntimeError, IndexError) as error:
                raise refusal from error
            same = tuple(feature.shape) == shape and maps[0].shape == feature.shape
            if not same or not (
                feature.is_meta or torch.allclose(maps[0], feature, rtol=0, atol=0, equal_nan=True)
            ):
                raise refusal
        self._block_shapes = {name: tuple(y.shape) for name, y in outputs.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "StagedBackbone":
        # Hooks are closures over the inserted modules: a copy would call those of the original.
        raise TypeError("a StagedBackbone cannot be copied; build a fresh one and apply the method")


def _levels(model: nn.Module, name: str) -> list[tuple[int, dict[str, Any]]]:
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


def _drop_tail(model: nn.Module, indices: list[int]) -> None:
    """Removes what comes after the last stage."""
    if hasattr(model, "prune_intermediate_layers"):
        cast(Any, model).prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
        model.head = nn.Identity()


def _roles(model: nn.Module) -> dict[str, list[str]]:
    """Names by role, found from class names and timm's naming of parts."""
    modules = dict(model.named_modules())
    roles: dict[str, list[str]] = {
        role: []
        for role in ("block", "qkv", "proj", "fc1", "fc2", "mlp", "attention", "conv", "norm")
    }
    blocks: list[str] = []
    for name, module in modules.items():
        inside = any(name.startswith(block + ".") for block in blocks)
        if name and not inside and _BLOCK_CLASS.search(type(module).__name__):
            blocks.append(name)
    roles["block"] = blocks
    for name, module in modules.items():
        parent_name, _, leaf = name.rpartition(".")
        parent = modules[parent_name]
        in_block = any(name.startswith(block + ".") for block in blocks)
        if isinstance(module, _NORMS) and module.weight is not None:
            roles["norm"].append(name)
        elif leaf == "attn" and in_block:
            roles["attention"].append(name)
        elif leaf == "mlp" and in_block and hasattr(module, "fc2"):
            roles["mlp"].append(name)
        elif isinstance(module, nn.Linear | nn.Conv2d) and in_block:
            owner = parent_name.rpartition(".")[2]
            uncalled = leaf == "qkv" and getattr(parent, "q_bias", None) is not None
            if leaf in _LAYERS.get(owner, ()) and not uncalled:
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


def _blocks_by_stage(
    model: nn.Module, blocks: list[str], ends: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
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
