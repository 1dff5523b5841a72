"""A timm model as four stages with named parts and hooks at which methods attach.

What a method adds lives in `inserted` and acts through forward hooks, so the modules of the
pretrained model and the names in its state dict stay timm's own. Only `around` puts a function in
the place of a module's `forward`.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmark.core.errors import UserError
from benchmark.models.introspect import (
    STAGES,
    Seen,
    blocks_by_stage,
    branches_of,
    drop_tail,
    levels,
    roles_of,
)
from benchmark.models.stem import in_chans_of, per_channel
from methods.base import Branch, Kind, Role, Unsupported

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Layout = Literal["tokens", "NHWC", "NCHW"]


class StagedBackbone(nn.Module):
    """Satisfies `methods.Backbone` for a timm model with `forward_intermediates`.

    Stages are native for models with several resolutions (the four deepest levels of timm's
    `feature_info`); a plain ViT is cut into four groups of blocks, as equal as possible. One
    small forward pass at construction checks that the module which ends each stage really
    yields the features of that stage, in the layout this class believes it has.

    What comes after the last stage (classifier, final norm, head convolution) never enters a
    feature map and is removed: otherwise `backbone parameters` would count dead ones.

    Args:
        model: a timm model created with `num_classes=0`.
        name: what users call it.
        mean: of R, G and B, that images are normalised with; by default timm's.
        std: standard deviation of R, G and B; by default timm's.

    Attributes:
        kind, model, in_chans, channels, strides, embedding_channels, prefix_tokens, inserted,
            pass_state: see `methods.Backbone`.
        mean, std: normalisation of images in [0, 1], a number for each of their channels.
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
        self.in_chans = in_chans_of(model)
        self.mean = per_channel(mean or config.get("mean") or IMAGENET_MEAN, self.in_chans)
        self.std = per_channel(std or config.get("std") or IMAGENET_STD, self.in_chans)

        ends = levels(model, self.name)
        self._indices = [index for index, _ in ends]
        self.stage_ends = tuple(info["module"] for _, info in ends)
        self.channels = tuple(int(info["num_chs"]) for _, info in ends)
        self.strides = tuple(int(info["reduction"]) for _, info in ends)
        self.divisor = max(self.strides)
        drop_tail(model, self._indices)

        self.model = model.eval().requires_grad_(False)
        self.inserted = nn.ModuleDict()
        self.pass_state: dict[str, Any] = {}
        self._input_size = (0, 0)
        self._on_images: list[Callable[[Tensor], Tensor]] = []
        self._on_features: list[Callable[[list[Tensor]], list[Tensor]]] = []
        self._hooks: list[RemovableHandle] = []
        self._replaced: list[nn.Module] = []
        self._at_boundaries: dict[int, int] = {}
        self._roles = roles_of(self.model)
        if not self._roles["block"]:
            raise UserError(f"backbone {self.name!r}: no blocks found in {type(model).__name__}")
        self._blocks = blocks_by_stage(self.model, self._roles["block"], self.stage_ends)
        transformer = bool(self._roles["attention"])
        plain = transformer and len(set(self.strides)) == 1
        self.kind: Kind = "plain" if plain else "hierarchical" if transformer else "cnn"
        self.pretrained_modules: WeakSet[nn.Module] = WeakSet(self.model.modules())
        self.pretrained_names = frozenset(self.model.state_dict())
        self._layout: Layout = "NCHW"
        self.prefix_tokens = 0
        self.embedding_channels = 0
        self._embedding_shape: tuple[int, ...] = ()
        self._block_shapes: dict[str, tuple[int, ...]] = {}
        self._branches: tuple[Branch, ...] = ()
        self._probe()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the four stages.

        Args:
            images: (N, in_chans, H, W), normalised; H and W multiples of `divisor`.

        Returns:
            Four maps (N, channels[i], H / strides[i], W / strides[i]).

        """
        self.pass_state.clear()
        for change_images in self._on_images:
            images = change_images(images)
        images = self.laid_out(images)
        self._input_size = (images.shape[-2], images.shape[-1])
        model = cast(Any, self.model)
        features = model.forward_intermediates(
            images, indices=self._indices, intermediates_only=True, output_fmt="NCHW", norm=False
        )
        for change_features in self._on_features:
            features = change_features(features)
        return features

    def laid_out(self, maps: Tensor) -> Tensor:
        """Maps in the memory layout that the model computes fastest in; convolutions hand it on."""
        return maps.contiguous(memory_format=torch.channels_last) if self.kind == "cnn" else maps

    def names(self, role: Role) -> list[str]:
        """Dotted names of the modules with a role, in forward order.

        Only modules that a forward pass calls: attention that uses the weight of `qkv` without
        calling it (separate q and v biases in BEiT, EVA, Swin V2) has no `qkv`, because a hook or
        wrapper there would never run.
        """
        return list(self._roles[role])

    def stage_blocks(self) -> tuple[tuple[str, ...], ...]:
        """Names of the blocks of each of the four stages, in forward order."""
        return self._blocks

    def width(self, block: str) -> int:
        """Channels of the output of a block (they may differ inside a stage)."""
        return self._block_shapes[block][self._axis(self._block_shapes[block])]

    def branches(self) -> tuple[Branch, ...]:
        """Residual branches with a norm in front, in forward order; empty where there are none."""
        return self._branches

    def insert(self, name: str, module: nn.Module) -> nn.Module:
        """Registers a trainable module under `inserted[name]` and returns it."""
        if name in self.inserted:
            raise ValueError(f"{name!r} is inserted twice")
        self.inserted[name] = module
        return module

    def on_images(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the images (N, C, H, W); it may pad them by multiples of the strides."""
        self._on_images.append(fn)

    def on_features(self, fn: Callable[[list[Tensor]], list[Tensor]]) -> None:
        """Calls `fn` on the four maps that the decoder will see; the stages do not see them."""
        self._on_features.append(fn)

    def before(self, target: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(x) -> x` on the (first) input of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (fn(args[0]), *args[1:])

        self._hooks.append(self.model.get_submodule(target).register_forward_pre_hook(hook))

    def after(self, target: str, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(x, y) -> y` on the input and output of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            return fn(args[0], output)

        self._hooks.append(self.model.get_submodule(target).register_forward_hook(hook))

    def around(self, target: str, fn: Callable[..., Tensor]) -> None:
        """Calls `fn(forward, *args)` in place of `forward(*args)` of the module named `target`."""
        module = self.model.get_submodule(target)
        module.forward = functools.partial(fn, module.forward)  # type: ignore[method-assign]
        self._replaced.append(module)

    def beside(self, branch: Branch, fn: Callable[[Tensor], Tensor]) -> None:
        """Adds `fn(h)` to what a branch returns; h is what its part receives from the norm."""
        # A convolutional MLP receives maps; every other part has the channels last.
        mlp = getattr(self.model.get_submodule(branch.block), "mlp", None)
        is_map = isinstance(getattr(mlp, "fc1", None), nn.Conv2d)
        kept: list[Tensor] = []

        def keep(_: Tensor, h: Tensor) -> Tensor:
            kept[:] = [h]
            return h

        def add(_: Tensor, y: Tensor) -> Tensor:
            h = kept.pop()
            update = fn(h.movedim(1, -1) if is_map else h)
            return y + (update.movedim(-1, 1) if self._axis(y.shape) == 1 else update)

        self.after(branch.norm, keep)
        self.after(branch.end, add)

    def behind(self, branch: Branch, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(y, x) -> y` on what a branch returns; y is added to the residual x after."""
        kept: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            kept[:] = [x]
            return x

        def change(_: Tensor, y: Tensor) -> Tensor:
            x = kept.pop()
            if self._axis(y.shape) == 1:
                return fn(y.movedim(1, -1), x.movedim(1, -1)).movedim(-1, 1)
            return fn(y, x)

        self.before(branch.start, keep)
        self.after(branch.end, change)

    def after_block(self, block: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(y) -> y` on the output of a block."""

        def change(_: Tensor, y: Tensor) -> Tensor:
            return fn(y.movedim(1, -1)).movedim(-1, 1) if self._axis(y.shape) == 1 else fn(y)

        self.after(block, change)

    def at_boundary(self, stage: int, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the output of stage 0..3 as a map (N, C, H, W); prefix tokens bypass it.

        The next stage and the decoder both see what `fn` returns. Several functions at one
        boundary run in the order in which they were attached.
        """
        self.after(self.stage_ends[stage], lambda _, y: self._on_map(stage, y, fn))
        self._at_boundaries[stage] = self._at_boundaries.get(stage, 0) + 1

    def at_embedding(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the embedding as a map (N, C, H, W); prefix tokens bypass it.

        The embedding is what the first block receives. Several functions run in the order in which
        they were attached.

        Raises:
            Unsupported: the first block receives no map.

        """
        tokens = len(self._embedding_shape) == 3
        if tokens != (self._layout == "tokens"):
            raise Unsupported(f"the first stage of {type(self.model).__name__} receives no map")
        self.before(self._blocks[0][0], lambda x: self._on_map(0, x, fn))

    def to_map(self, stage: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Splits (N, H, W, C) or (N, tokens, C) of a stage into a map and its prefix tokens.

        Returns:
            (N, C, H, W) and (N, P, C); P is 0 where the model has no prefix tokens.

        """
        if x.ndim == 4:
            return x.movedim(-1, 1), x.new_zeros(x.shape[0], 0, x.shape[-1])
        height, width = (size // self.strides[stage] for size in self._input_size)
        # One split: the way back of two slices would fill two gradients with zeros.
        prefix, tokens = x.split([self.prefix_tokens, x.shape[1] - self.prefix_tokens], dim=1)
        return tokens.transpose(1, 2).unflatten(2, (height, width)), prefix

    def from_map(self, x: Tensor, prefix: Tensor, like: Tensor) -> Tensor:
        """The inverse of `to_map`, for a tensor with the dimensions of `like`."""
        if like.ndim == 4:
            return x.movedim(1, -1)
        return torch.cat([prefix, x.flatten(2).transpose(1, 2)], dim=1)

    @property
    def changes_images(self) -> bool:
        """Whether something was attached by `on_images`."""
        return bool(self._on_images)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Stages at whose ends something was attached by `at_boundary`."""
        return tuple(sorted(self._at_boundaries))

    def touches_beyond_boundary(self, stage: int) -> bool:
        """Whether more was attached to the module that ends a stage than by `at_boundary`."""
        end = self.model.get_submodule(self.stage_ends[stage])
        more = len(end._forward_hooks) > self._at_boundaries.get(stage, 0)
        return more or bool(end._forward_pre_hooks) or "forward" in vars(end)

    def resume(self, outputs: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Features, from what the four stages return before anything is done to their ends.

        Args:
            outputs: of all four stages, in the model's own layout.
            size: height and width of the images.
        """
        self.pass_state.clear()
        self._input_size = size
        features = []
        for stage, y in enumerate(outputs):
            y = self.model.get_submodule(self.stage_ends[stage])(y)
            features.append(self._as_map(stage, y))
        for change_features in self._on_features:
            features = change_features(features)
        return features

    def release(self) -> None:
        """Takes out every inserted module and every function that was attached."""
        for handle in self._hooks:
            handle.remove()
        for module in self._replaced:
            module.__dict__.pop("forward", None)
        for attached in (self._hooks, self._replaced, self._on_images, self._on_features):
            cast(list[Any], attached).clear()
        self._at_boundaries.clear()
        self.pass_state.clear()
        self.inserted.clear()

    def _axis(self, shape: Iterable[int]) -> int:
        """Where the channels of the output of a block or branch are."""
        return 1 if len(tuple(shape)) == 4 and self._layout == "NCHW" else -1

    def _on_map(self, stage: int, y: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
        if self._layout == "NCHW":
            return fn(y)
        x, prefix = self.to_map(stage, y)
        return self.from_map(fn(x), prefix, y)

    def _as_map(self, stage: int, y: Tensor) -> Tensor:
        return y if self._layout == "NCHW" else self.to_map(stage, y)[0]

    @torch.no_grad()
    def _probe(self) -> None:
        """One small non-square pass that finds the layout and checks the stage ends."""
        seen: dict[str, Seen] = {}

        def note(name: str, args: tuple[Any, ...], y: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(y, Tensor):
                # Copies: some modules work in place.
                seen[name] = Seen(args[0].clone(), y.clone())

        handles = [
            module.register_forward_hook(lambda _, args, y, name=name: note(name, args, y))
            for name, module in self.model.named_modules()
            if name
        ]
        like = next(self.model.parameters())
        images = torch.linspace(
            -1, 1, self.in_chans * 6 * self.divisor**2, device=like.device, dtype=like.dtype
        ).reshape(1, self.in_chans, 2 * self.divisor, 3 * self.divisor)
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
            f"backbone {self.name!r}: its four stages cannot be separated ({self.stage_ends})"
        )
        if len(features) != STAGES or not seen.keys() >= set(self.stage_ends):
            raise refusal
        outputs = [seen[end].y for end in self.stage_ends]
        if outputs[0].ndim == 3:
            self._layout = "tokens"
            self.prefix_tokens = outputs[0].shape[1] - features[0][0, 0].numel()
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            self._layout = "NHWC"
        for stage, feature in enumerate(features):
            shape = (1, self.channels[stage], *(s // self.strides[stage] for s in self._input_size))
            try:
                found = self._as_map(stage, outputs[stage])
            except (RuntimeError, IndexError) as error:
                raise refusal from error
            same = tuple(feature.shape) == shape and found.shape == feature.shape
            if not same or not (
                feature.is_meta or torch.allclose(found, feature, rtol=0, atol=0, equal_nan=True)
            ):
                raise refusal
        blocks = [name for stage_blocks in self._blocks for name in stage_blocks]
        self._embedding_shape = tuple(seen[blocks[0]].x.shape)
        self.embedding_channels = self._embedding_shape[self._axis(self._embedding_shape)]
        self._block_shapes = {name: tuple(seen[name].y.shape) for name in blocks}
        self._roles = {
            role: [name for name in names if name in seen] for role, names in self._roles.items()
        }
        self._branches = branches_of(self.model, self._blocks, seen)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StagedBackbone":
        # Hooks are closures over the inserted modules: a copy would call those of the original.
        raise TypeError("a StagedBackbone cannot be copied; build a fresh one and apply the method")
