"""A network whose trained tensors are spread over the processes of a cell (FSDP2).

For methods that train the whole backbone: each process holds a share of the parameters, of their
gradients and of what the optimiser keeps, and a block is put together where it is computed
(`torch.distributed.fsdp.fully_shard`; Zhao et al., PyTorch FSDP, VLDB 2023). Gradients are summed,
not averaged (`engine.ranks` says why). Checkpoints hold whole tensors, so any number of processes
resumes them, sharded or not.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from benchmark.core.spec import Protocol
from benchmark.engine.ranks import Ranks
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter
from methods.base import Method

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def refusal(backbone: StagedBackbone, method: Method, protocol: Protocol) -> str:
    """Why a network cannot be sharded, on one line; empty = it can.

    Args:
        backbone: of the network.
        method: that was applied to it.
        protocol: of the run.
    """
    frozen = any(not parameter.requires_grad for parameter in backbone.model.parameters())
    if frozen or len(backbone.inserted):
        return (
            f"--shard is for methods that train the whole backbone, which {method.name} does not; "
            "leave --shard out"
        )
    if any(
        getattr(type(method), hook) is not getattr(Method, hook)
        for hook in ("before_training", "auxiliary_loss", "after_step", "state_dict")
    ):
        return f"--shard cannot spread what {method.name} does around a step; leave --shard out"
    if protocol.ema or protocol.val_every:
        return "--shard does not go with ema or val_every; leave one of them out"
    return ""


def shard(segmenter: Segmenter, ranks: Ranks) -> None:
    """Spreads the parameters over the processes, in place; each block is put together by itself.

    Args:
        segmenter: whole, on the device of this process, with equal tensors in all of them.
        ranks: the processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    device = next(segmenter.parameters()).device.type
    mesh = init_device_mesh(device, (ranks.count,))
    model = segmenter.backbone.model
    blocks = [
        model.get_submodule(name) for one in segmenter.backbone.stage_blocks() for name in one
    ]
    for module in (*blocks, segmenter):
        fully_shard(module, mesh=mesh)
        found = cast(FSDPModule, module)
        found.set_gradient_divide_factor(1.0)
        found.set_force_sum_reduction_for_comms(True)  # the only one that gloo has


def is_sharded(segmenter: nn.Module) -> bool:
    """Whether `shard` was called on it."""
    return any(_is_spread(parameter) for parameter in segmenter.parameters())


def _is_spread(value: Tensor) -> "TypeGuard[DTensor]":
    # Its module takes long to load, and has been where there is such a tensor.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def whole(value: Tensor) -> Tensor:
    """A tensor put together, in all processes; others are returned as they are."""
    return value.full_tensor() if _is_spread(value) else value


def whole_in(state: Any) -> Any:
    """The same for all tensors in the nested state of an optimiser."""
    if isinstance(state, Tensor):
        return whole(state)
    if isinstance(state, Mapping):
        return {key: whole_in(value) for key, value in state.items()}
    return [whole_in(value) for value in state] if isinstance(state, list) else state


def spread_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, spread as another one of its shape is; where that is whole, as it is."""
    if not _is_spread(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def spread_state(optimiser: torch.optim.Optimizer) -> None:
    """Spreads what an optimiser has loaded as the parameters are."""
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                state[name] = spread_as(value, parameter)


@torch.no_grad()
def put_together(sharded: Segmenter, segmenter: Segmenter) -> None:
    """Copies all tensors of a sharded segmenter into a whole one that was built alike."""
    theirs = dict(sharded.named_parameters()) | dict(sharded.named_buffers())
    for name, tensor in (*segmenter.named_parameters(), *segmenter.named_buffers()):
        tensor.copy_(whole(theirs[name]))
