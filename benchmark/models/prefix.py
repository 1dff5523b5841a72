"""The frozen beginning of a tuned backbone: how far it reaches, its outputs, and resuming from it.

A prefix is what the first `depth` stages return before anything of the method touches it. It is
the same for every method, seed and rate, so it can be computed once an image and kept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmark.data.batches import Prefix
from benchmark.models.backbone import StagedBackbone


class _Reached(Exception):
    """The last stage of the prefix is done; the rest need not run."""


def depth_of(backbone: StagedBackbone) -> int:
    """Leading stages (0..4) in which nothing of a method acts, but for what it does to their ends.

    A method acts in a stage where it trains, or attaches or replaces something there, or changes
    the images. What it attaches at the end of a stage, by `at_boundary`, comes after the prefix.
    """
    if backbone.changes_images or not backbone.is_cut:
        return 0
    blocks = backbone.stage_blocks()
    ends = {name: stage for stage, name in enumerate(backbone.stage_ends)}
    inside = {block: stage for stage, names in enumerate(blocks) for block in names}
    # What is changed at the end of a stage changes the next one.
    first = min((stage + 1 for stage in backbone.boundaries), default=len(ends))
    for name, module in backbone.model.named_modules():
        if name in ends:
            touched = backbone.touches_beyond_boundary(ends[name])
        else:
            touched = bool(
                module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            )
        own = [*module.parameters(recurse=False)]
        if touched or any(p.requires_grad for p in own) or (module.training and name):
            first = min(first, _stage(name, ends, inside))
    return first


@torch.no_grad()
def repeatable_depth(backbone: StagedBackbone, depth: int, side: int) -> int:
    """The most stages, up to a depth, from whose outputs the features come out bit for bit.

    Not all: where modules between two stages are no blocks, they may not run on what stands in for
    the images.

    Args:
        backbone: in evaluation mode.
        depth: stages, of `depth_of`.
        side: of the images that it will see.
    """
    device = next(backbone.model.parameters()).device
    images = torch.linspace(-2, 2, 2 * backbone.in_chans * side**2, device=device)
    images = images.view(2, backbone.in_chans, side, side)
    wanted = backbone(images)
    for stages in range(depth, 0, -1):
        # Whatever a model does not bear here, it is only that its stages are not kept.
        with suppress(RuntimeError, TypeError, ValueError, IndexError):
            found = go_on(backbone, compute(backbone, images, stages))
            if all(map(torch.equal, found, wanted)):
                return stages
    return 0


def _stage(name: str, ends: dict[str, int], inside: dict[str, int]) -> int:
    """The stage that a module belongs to; modules before or beside the stages count as 0."""
    while name:
        for known in (inside, ends):
            if name in known:
                return known[name]
        name = name.rpartition(".")[0]
    return 0


@torch.no_grad()
def compute(backbone: StagedBackbone, images: Tensor, depth: int) -> Prefix:
    """The prefix of images; what comes after it does not run.

    Args:
        backbone: as it trains.
        images: (N, C, H, W), normalised.
        depth: stages, at least 1.
    """
    outputs: list[Tensor] = []

    def take(_: nn.Module, __: Any, y: Tensor) -> None:
        # A copy: the next module may work in place.
        outputs.append(y.detach().clone())
        if len(outputs) == depth:
            raise _Reached

    handles = [
        # Before what the method attached there.
        backbone.model.get_submodule(end).register_forward_hook(take, prepend=True)
        for end in backbone.stage_ends[:depth]
    ]
    try:
        with suppress(_Reached):
            backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return Prefix(tuple(outputs), (images.shape[-2], images.shape[-1]))


@contextmanager
def answering(backbone: StagedBackbone, outputs: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside the block the modules of these stages return their outputs for any input."""
    replaced: list[nn.Module] = []

    def put(name: str, forward: Any) -> None:
        module = backbone.model.get_submodule(name)
        module.forward = forward  # type: ignore[method-assign]
        replaced.append(module)

    try:
        for stage, y in outputs.items():
            end = backbone.stage_ends[stage]
            for block in backbone.stage_blocks()[stage]:
                if block != end and not block.startswith(f"{end}."):
                    put(block, lambda x, *_, **__: x)
            put(end, lambda *_, y=y, **__: y)
        yield
    finally:
        for module in replaced:
            del cast(Any, module).forward


def go_on(backbone: StagedBackbone, prefix: Prefix) -> list[Tensor]:
    """What `backbone(images)` returns for the images of a prefix.

    The modules before the first stage run on an empty image of the right size, and their output
    is not looked at; with all stages known, nothing of the model runs.
    """
    # In memory as if they had just been computed, or sums would round differently.
    outputs = tuple(backbone.as_computed(stage, y) for stage, y in enumerate(prefix.outputs))
    prefix = Prefix(outputs, prefix.size)
    with answering(backbone, dict(enumerate(outputs))):
        if len(prefix.outputs) == len(backbone.stage_ends) and backbone.hands_on_maps:
            return backbone.resume(prefix.outputs, prefix.size)
        device = prefix.outputs[0].device
        images = torch.zeros(len(prefix), backbone.in_chans, *prefix.size, device=device)
        return backbone(images)
