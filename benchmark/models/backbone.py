"""A timm model as at most four stages with named parts and hooks at which methods attach.

What a method adds lives in `inserted` and acts through forward hooks, so the modules of the
pretrained model and the names in its state dict stay timm's own. Only `around` puts a function in
the place of a module's `forward`.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmark.core.errors import UserError
from benchmark.models.introspect import (
    Held,
    Level,
    as_map,
    blocks_by_stage,
    branches_of,
    candidates,
    channel_axes,
    drop_tail,
    entry,
    is_map,
    kind_of,
    levels,
    roles_of,
)
from benchmark.models.observe import Observed, first_of, observe
from benchmark.models.stem import per_channel
from methods.base import Branch, Kind, Role, Unsupported

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class StagedBackbone(nn.Module):
    """Satisfies `methods.Backbone` for a timm model with `forward_intermediates`.

    Stages are native for models with several resolutions (the deepest levels of timm's
    `feature_info`, at most four); a plain ViT is cut into four groups of blocks, as equal as
    possible. Small forward passes at construction find out the rest: which module ends each
    stage, where the channels are in what each module returns, where attention is. They check that
    what is attached to the end of a stage reaches the features and the next stage.

    What comes after the last stage (classifier, final norm, head convolution) never enters a
    feature map and is removed: otherwise `backbone parameters` would count dead ones.

    Args:
        model: a timm model created with `num_classes=0`.
        name: what users call it.
        mean: of R, G and B, that images are normalised with; by default timm's.
        std: standard deviation of R, G and B; by default timm's.
        in_chans: channels of the images that it takes.
        side: of the square images that the model was built for, where it takes no others; by
            default timm's.

    Attributes:
        kind, model, in_chans, channels, strides, embedding_channels, prefix_tokens, inserted,
            pass_state: see `methods.Backbone`.
        mean, std: normalisation of images in [0, 1], a number for each of their channels.
        divisor: height and width of images must be multiples of it.
        fixed_side: the only height and width that the model takes; None where it takes any.
        stage_ends: names of the modules whose output is the output of a stage.
        weights_source: where the weights came from.
        weights_sha256: hash of the weights file; None where there is none.

    Raises:
        UserError: the model gives no dense features, or its stages cannot be hooked.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str = "",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        side: int | None = None,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        self.name = name or type(model).__name__
        self.weights_source = "none (random)"
        self.weights_sha256: str | None = None
        config = getattr(model, "pretrained_cfg", None) or {}
        self.in_chans = in_chans
        self.mean = per_channel(mean or config.get("mean") or IMAGENET_MEAN, self.in_chans)
        self.std = per_channel(std or config.get("std") or IMAGENET_STD, self.in_chans)

        ends = levels(model, self.name)
        self._indices = [end.index for end in ends]
        self.channels = tuple(end.channels for end in ends)
        self.strides = tuple(end.stride for end in ends)
        self.divisor = max(self.strides)
        listed = cast(Any, model).feature_info if len(set(self.strides)) == 1 else []
        blocks = [str(dict(info)["module"]) for info in listed]
        drop_tail(model, ends)

        self.model = model.eval().requires_grad_(False)
        self.inserted = nn.ModuleDict()
        self.pass_state: dict[str, Any] = {}
        self._input_size = (0, 0)
        self._on_images: list[Callable[[Tensor], Tensor]] = []
        self._on_features: list[Callable[[list[Tensor]], list[Tensor]]] = []
        self._hooks: list[RemovableHandle] = []
        self._replaced: list[nn.Module] = []
        self._at_boundaries: dict[int, int] = {}
        self.pretrained_modules: WeakSet[nn.Module] = WeakSet(self.model.modules())
        self.pretrained_names = frozenset(self.model.state_dict())
        self.kind: Kind = "plain"
        self.fixed_side: int | None = None
        observed = self._observe(side or config.get("input_size", (0, 0, 0))[-1], ends)
        self.stage_ends = self._find_ends(ends, observed)
        self._blocks = blocks_by_stage(self.model, self.stage_ends, observed, blocks)
        every = [name for stage in self._blocks for name in stage]
        self._roles = roles_of(self.model, every, observed)
        self.kind = kind_of(every, self.strides, observed)
        self._read(observed)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the stages.

        Args:
            images: (N, in_chans, H, W), normalised; of a size that `padded` returns.

        Returns:
            Maps (N, channels[i], H / strides[i], W / strides[i]), one a stage.

        """
        self.pass_state.clear()
        features = self._run(self.laid_out(self.change_images(images)))
        return self.change_features(features)

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size to which images are padded: one that passes, or that windows are cut from."""
        least, step = self.fixed_side or 0, self.divisor
        return max(least, -(-height // step) * step), max(least, -(-width // step) * step)

    def laid_out(self, maps: Tensor) -> Tensor:
        """Maps in the memory layout that the model computes fastest in; convolutions hand it on."""
        return maps.contiguous(memory_format=torch.channels_last) if self.kind == "cnn" else maps

    def as_computed(self, stage: int, y: Tensor) -> Tensor:
        """The output of a stage in the memory layout in which the model computes it."""
        last = torch.channels_last if self._rows_first[stage] else torch.contiguous_format
        return y.contiguous(memory_format=last)

    def names(self, role: Role) -> list[str]:
        """Dotted names of the modules with a role, in forward order.

        Only modules that a forward pass calls: attention that uses the weight of `qkv` without
        calling it (separate q and v biases in BEiT, EVA, Swin V2) has no `qkv`, because a hook or
        wrapper there would never run.
        """
        return list(self._roles[role])

    def stage_blocks(self) -> tuple[tuple[str, ...], ...]:
        """Names of the blocks of each stage, in forward order."""
        return self._blocks

    def width(self, block: str) -> int:
        """Channels of the output of a block (they may differ inside a stage)."""
        return self._widths[block]

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
        """Calls `fn` on the images (N, C, H, W); it may pad them by multiples of the strides.

        Raises:
            Unsupported: it changes the size of images where the model takes no other.

        """
        side = self.fixed_side
        if side is not None:
            like = next(self.model.parameters())
            blank = torch.zeros(1, self.in_chans, side, side, device=like.device)
            if fn(blank).shape != blank.shape:
                raise Unsupported(
                    f"{type(self.model).__name__} takes {side}x{side} px images only, so "
                    "nothing can be put around them"
                )
        self._on_images.append(fn)

    def on_features(self, fn: Callable[[list[Tensor]], list[Tensor]]) -> None:
        """Calls `fn` on the maps that the decoder will see; the stages do not see them."""
        self._on_features.append(fn)

    def before(self, target: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(x) -> x` on the (first) input of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (fn(args[0]), *args[1:])

        self._hooks.append(self.model.get_submodule(target).register_forward_pre_hook(hook))

    def after(self, target: str, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(x, y) -> y` on the (first) input and output of the module named `target`."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, tuple):
                return fn(args[0], output[0]), *output[1:]
            return fn(args[0], output)

        self._hooks.append(self.model.get_submodule(target).register_forward_hook(hook))

    def around(self, target: str, fn: Callable[..., Tensor]) -> None:
        """Calls `fn(forward, *args)` in place of `forward(*args)` of the module named `target`."""
        module = self.model.get_submodule(target)
        module.forward = functools.partial(fn, module.forward)  # type: ignore[method-assign]
        self._replaced.append(module)

    def beside(self, branch: Branch, fn: Callable[[Tensor], Tensor]) -> None:
        """Adds `fn(h)` to what a branch returns; h is what its part receives from the norm."""
        inner, outer = self._channel_axes[branch.norm], self._channel_axes[branch.end]
        kept: list[Tensor] = []

        def keep(_: Tensor, h: Tensor) -> Tensor:
            kept[:] = [h]
            return h

        def add(_: Tensor, y: Tensor) -> Tensor:
            update = fn(_channels_last(kept.pop(), inner))
            return y + _channels_back(update, outer)

        self.after(branch.norm, keep)
        self.after(branch.end, add)

    def behind(self, branch: Branch, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(y, x) -> y` on what a branch returns; y is added to the residual x after."""
        axis = self._channel_axes[branch.end]
        kept: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            kept[:] = [x]
            return x

        def change(_: Tensor, y: Tensor) -> Tensor:
            x = kept.pop()
            return _channels_back(fn(_channels_last(y, axis), _channels_last(x, axis)), axis)

        self.before(branch.start, keep)
        self.after(branch.end, change)

    def after_block(self, block: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(y) -> y` on the output of a block."""

        if block in self._other_prefix:
            raise Unsupported(
                f"{block} of {type(self.model).__name__} returns a different number of extra "
                "tokens than the other blocks"
            )
        if block in self._no_map:
            raise Unsupported(
                f"{block} of {type(self.model).__name__} does not return a feature map"
            )
        axis = self._channel_axes[block]
        self.after(block, lambda _, y: _channels_back(fn(_channels_last(y, axis)), axis))

    def at_boundary(self, stage: int, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the output of stage 0..3 as a map (N, C, H, W); prefix tokens bypass it.

        The next stage and the decoder both see what `fn` returns. Several functions at one
        boundary run in the order in which they were attached.

        Raises:
            Unsupported: there is no such stage, or its output is no map.

        """
        if stage >= len(self._ends):
            raise Unsupported(
                f"{type(self.model).__name__} has {len(self._ends)} stages, so there is "
                f"no end of stage {stage + 1} to attach to"
            )
        held = self._ends[stage]
        if held is None:
            raise Unsupported(self._other_order(stage))
        self.after(self.stage_ends[stage], lambda _, y: self._on_map(stage, y, held, fn))
        self._at_boundaries[stage] = self._at_boundaries.get(stage, 0) + 1

    def at_embedding(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the embedding as a map (N, C, H, W); prefix tokens bypass it.

        The embedding is what the first block receives. Several functions run in the order in which
        they were attached.

        Raises:
            Unsupported: the first block does not receive a feature map.

        """
        if self._embedding is None:
            raise Unsupported(
                f"the first stage of {type(self.model).__name__} does not receive a feature map"
            )
        held = self._embedding
        self.before(self._blocks[0][0], lambda x: self._on_map(0, x, held, fn))

    def to_map(self, stage: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Splits (N, H, W, C) or (N, tokens, C) of a stage into a map and its prefix tokens.

        Returns:
            (N, C, H, W) and (N, P, C); P is 0 where the model has no prefix tokens.

        Raises:
            Unsupported: the block works on something else, such as windows.

        """
        if self._ends[stage] is None:
            raise Unsupported(self._other_order(stage))
        return self._split(stage, x, self.prefix_tokens)

    def _split(self, stage: int, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        height, width = (size // self.strides[stage] for size in self._input_size)
        if x.ndim == 4:
            return x.movedim(-1, 1), x.new_zeros(x.shape[0], 0, x.shape[-1])
        if x.shape[1] - count != height * width:
            raise Unsupported(
                f"a block in stage {stage + 1} of {type(self.model).__name__} returns "
                f"{tuple(x.shape[1:])}, which is not a feature map of {height}x{width} positions"
            )
        # One split: the way back of two slices would fill two gradients with zeros.
        prefix, tokens = x.split([count, x.shape[1] - count], dim=1)
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

    @property
    def hands_on_maps(self) -> bool:
        """Whether the features can be told from what the modules return that end the stages."""
        return None not in self._ends

    @property
    def is_cut(self) -> bool:
        """Whether the modules that end the stages return their output and nothing else."""
        return not self._several

    @property
    def indices(self) -> list[int]:
        """Of the stages' maps among all that timm's `forward_intermediates` returns."""
        return list(self._indices)

    @property
    def layouts(self) -> tuple[Held, ...] | None:
        """How the embedding and then the end of each stage hold a map; None where one does not."""
        held = [self._embedding, *self._ends]
        return None if None in held else tuple(cast(list[Held], held))

    def block_layout(self, stage: int, block: str) -> Held | None:
        """How a block's output holds the map of its stage; None where it may not."""
        end = self._ends[stage]
        if end is None or block in self._no_map or block in self._other_prefix:
            return None
        if end.dimensions == 4:
            return Held(4, self._channel_axes[block], 0)
        return Held(3, -1, self.prefix_tokens)

    def begin(self, size: tuple[int, int]) -> None:
        """What `forward` does first, where parts of a pass are run one by one.

        Args:
            size: height and width of the images.
        """
        self.pass_state.clear()
        self._input_size = size

    def change_images(self, images: Tensor) -> Tensor:
        """Images after what was attached by `on_images`."""
        for change in self._on_images:
            images = change(images)
        return images

    def change_features(self, features: list[Tensor]) -> list[Tensor]:
        """Maps after what was attached by `on_features`."""
        for change in self._on_features:
            features = change(features)
        return features

    def touches_beyond_boundary(self, stage: int) -> bool:
        """Whether more was attached to the module that ends a stage than by `at_boundary`."""
        end = self.model.get_submodule(self.stage_ends[stage])
        more = len(end._forward_hooks) > self._at_boundaries.get(stage, 0)
        return more or bool(end._forward_pre_hooks) or "forward" in vars(end)

    def resume(self, outputs: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Features, from what the stages return before anything is done to their ends.

        Args:
            outputs: of all stages, in the model's own layout.
            size: height and width of the images.
        """
        self.begin(size)
        features = []
        for stage, y in enumerate(outputs):
            y = self.model.get_submodule(self.stage_ends[stage])(y)
            held = cast(Held, self._ends[stage])
            features.append(y if held.axis == 1 else self._split(stage, y, held.prefix)[0])
        return self.change_features(features)

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

    def _other_order(self, stage: int) -> str:
        return (
            f"stage {stage + 1} of {type(self.model).__name__} works on the positions of its map "
            "in another order"
        )

    def _on_map(self, stage: int, y: Tensor, held: Held, fn: Callable[[Tensor], Tensor]) -> Tensor:
        if held.axis == 1:
            return fn(y)
        x, prefix = self._split(stage, y, held.prefix)
        return self.from_map(fn(x), prefix, y)

    def _run(self, images: Tensor) -> list[Tensor]:
        self._input_size = (images.shape[-2], images.shape[-1])
        return cast(Any, self.model).forward_intermediates(
            images, indices=self._indices, intermediates_only=True, output_fmt="NCHW", norm=False
        )

    def _images(self, height: int, width: int) -> Tensor:
        """One image without a repetition, so that two outputs are equal only if they are one."""
        like = next(self.model.parameters())
        count = self.in_chans * height * width
        ramp = torch.linspace(-1, 1, count, device=like.device, dtype=like.dtype)
        return ramp.reshape(1, self.in_chans, height, width)

    def _observe(self, side: int, ends: Sequence[Level]) -> Observed:
        """A pass of a small image that is not square, or of one of the only size there is.

        Raises:
            UserError: the model takes neither, or its maps do not have the size of their strides.

        """
        problem: UserError | None = None
        # What pairs positions of the last map needs an even number of them.
        for divisor in (max(self.strides), 2 * max(self.strides)):
            height, width = 2 * divisor, 3 * divisor
            try:
                observed = observe(self.model, self._run, self._images(height, width))
                self._require_cover(ends, observed)
                self.divisor = divisor
                return observed
            except UserError as error:
                problem = error
            except Exception as error:
                reason = f"does not take {width}x{height} px images: {_line(error)}"
                problem = UserError(f"backbone {self.name!r} {reason}")
                problem.__cause__ = error
        assert problem is not None
        if not side:
            raise problem
        try:
            observed = observe(self.model, self._run, self._images(side, side))
        except Exception as error:
            raise UserError(f"{problem}; nor {side}x{side} px ones: {_line(error)}") from error
        self._require_cover(ends, observed)
        self.fixed_side = side
        return observed

    def _require_cover(self, ends: Sequence[Level], observed: Observed) -> None:
        """Raises UserError unless the maps have the size of their strides."""
        for stage, (end, feature) in enumerate(zip(ends, observed.features, strict=True)):
            # A side that is no multiple of the stride is never trained on.
            size = tuple(-(-side // end.stride) for side in self._input_size)
            if tuple(feature.shape) != (1, end.channels, *size):
                height, width = self._input_size
                raise UserError(
                    f"backbone {self.name!r}: of {width}x{height} px, the map of stage {stage + 1} "
                    f"has {feature.shape[-1]}x{feature.shape[-2]} positions in place of "
                    f"{size[1]}x{size[0]} (stride {end.stride}), so it does not cover the image"
                )

    def _find_ends(self, ends: Sequence[Level], observed: Observed) -> tuple[str, ...]:
        """The module at whose output each stage can be changed.

        Raises:
            UserError: there is no such module.

        """
        open_ = [
            candidates(end, feature, observed)
            for end, feature in zip(ends, observed.features, strict=True)
        ]
        while all(open_):
            chosen = [names[0] for names in open_]
            unseen = self._unseen(chosen, observed)
            if unseen is None:
                return tuple(chosen)
            del open_[unseen][0]
        stage = next(number for number, names in enumerate(open_) if not names)
        raise UserError(
            f"backbone {self.name!r}: nothing can be attached behind its stage {stage + 1}, "
            f"because no module of {type(self.model).__name__} hands that map to the next stage"
        )

    def _unseen(self, ends: Sequence[str], observed: Observed) -> int | None:
        """The first stage where a change to the output of its end misses a feature or a stage."""
        # A change needs a gradient, as nothing else does, and so does all that depends on it.
        reached: dict[str, bool] = {}
        changed: dict[str, Tensor] = {}

        def change(name: str, output: Any) -> Any:
            y = first_of(output)
            reached[name] = y.requires_grad
            changed[name] = y.detach().clone().requires_grad_()
            return (changed[name], *output[1:]) if isinstance(output, tuple) else changed[name]

        handles = [
            self.model.get_submodule(name).register_forward_hook(
                lambda _, __, y, name=name: change(name, y)
            )
            for name in ends
        ]
        try:
            with torch.enable_grad():
                features = self._run(self._images(*self._input_size))
        finally:
            for handle in handles:
                handle.remove()
        for stage, (name, feature) in enumerate(zip(ends, features, strict=True)):
            late = stage > 0 and not reached.get(name, False)
            if late or name not in changed or not feature.requires_grad:
                return stage
        return None

    def _maps(self) -> list[tuple[int, int]]:
        """Height and width of the map of each stage, for the images of the last pass."""
        height, width = self._input_size
        return [(height // stride, width // stride) for stride in self.strides]

    def _read(self, observed: Observed) -> None:
        """Layouts and widths, from what stays when the size of the images changes."""
        passes = [(observed, self._maps())]
        if self.fixed_side is None:
            images = self.laid_out(self._images(4 * self.divisor, 2 * self.divisor))
            passes.append((observe(self.model, self._run, images), self._maps()))
        blocks = [(stage, name) for stage, names in enumerate(self._blocks) for name in names]
        first = blocks[0][1]
        self._channel_axes = channel_axes(self.model, [one.seen for one, _ in passes])
        self._widths = {
            name: observed.seen[name].y.shape[self._channel_axes[name]] for _, name in blocks
        }
        self._ends = [
            as_map(observed.seen[end].y, feature)
            for end, feature in zip(self.stage_ends, observed.features, strict=True)
        ]
        last, _ = passes[-1]
        self._rows_first = [
            last.seen[end].y.ndim == 4
            and last.seen[end].y.is_contiguous(memory_format=torch.channels_last)
            and not last.seen[end].y.is_contiguous()
            for end in self.stage_ends
        ]
        self._several = any(observed.seen[end].several for end in self.stage_ends)
        # Tokens that stay when the positions of the map are taken off, in every pass.
        beside = {
            name: {
                one.seen[name].y.shape[1] - math.prod(maps[stage])
                for one, maps in passes
                if one.seen[name].y.ndim == 3
            }
            for stage, name in blocks
        }
        ends = [end.prefix for end in self._ends if end is not None and end.dimensions == 3]
        if self.fixed_side is None:
            ends += [max(more) for more in beside.values() if len(more) == 1]
        self.prefix_tokens = max([0, *ends])
        self._other_prefix = {
            name
            for name, more in beside.items()
            if self.prefix_tokens and more and more != {self.prefix_tokens}
        }
        entering = [(one.seen[first].x, maps[0]) for one, maps in passes]
        self.embedding_channels, held = entry(entering)
        self._embedding = None if self._ends[0] is None else held
        # Of four dimensions, but not those of a map: windows, say.
        self._no_map = {
            name
            for one, maps in passes
            for name, seen in one.seen.items()
            if not is_map(seen.y, self._channel_axes.get(name, -1), maps[0])
        }
        found = branches_of(self.model, self._blocks, observed.seen, self._channel_axes)
        self._branches = tuple(
            branch for branch in found if not {branch.norm, branch.end} & self._no_map
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "StagedBackbone":
        # Hooks are closures over the inserted modules: a copy would call those of the original.
        attached = (self._hooks, self._replaced, self._on_images, self._on_features)
        wrapped = any(module not in self.pretrained_modules for module in self.model.modules())
        if any(attached) or wrapped or len(self.inserted):
            raise TypeError(
                "a StagedBackbone that a method was applied to cannot be copied; build a fresh one "
                "and apply the method"
            )
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            if name != "pretrained_modules":
                twin.__dict__[name] = copy.deepcopy(value, memo)
        twin.pretrained_modules = WeakSet(twin.model.modules())
        return twin


def _channels_last(x: Tensor, axis: int) -> Tensor:
    return x.movedim(1, -1) if axis == 1 else x


def _channels_back(x: Tensor, axis: int) -> Tensor:
    return x.movedim(-1, 1) if axis == 1 else x


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
