"""The processes that train one cell together, each on a device of its own.

Each holds the whole network and takes a share of every batch. Gradients are summed by hand, in
flat buffers after the backward pass, in place of torch's DistributedDataParallel:

* What is summed is little: the tensors that are trained, after all parts of a batch.
* Losses are divided by what the whole batch holds (its labelled pixels), so gradients are summed.
  DDP takes a mean over processes, which differs where one has more void pixels than another.
* The network stays as it is, with its names, its hooks and the functions that methods put in.

What every process does is decided by numbers that all of them have (`sum`, `agreed`, `first`), so
that none waits for another that does something else.
"""

import datetime
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from benchmark.core.errors import UserError

T = TypeVar("T")

BUCKET = 2**25
"""Numbers of gradients that are summed at once: 128 MiB in fp32."""
PATIENCE = datetime.timedelta(hours=2)
"""For another process to do its share, such as writing a large checkpoint to a slow disk."""


class RankLost(Exception):
    """Another process of this run has ended; the one that started them knows why."""


class Part(NamedTuple):
    """A part of a batch that passes at once, and the share of it that a process takes.

    Attributes:
        images: of the part, over all processes.
        first: of them that this process takes.
        own: where those of this process are among all that it takes of the batch.
    """

    images: int
    first: int
    own: slice


@dataclass(frozen=True)
class Ranks:
    """The processes of a cell, as one of them sees them.

    Attributes:
        rank: of this one, from 0. The first one alone writes files.
        count: how many they are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what the cell leaves."""
        return self.rank == 0

    def parts(self, images: int, size: int) -> list[Part]:
        """The parts of a batch, with the shares of this process, as equal as possible.

        Args:
            images: of the batch.
            size: of a part.

        Raises:
            UserError: a part has fewer images than there are processes.
        """
        found, held = [], 0
        for start in range(0, images, size):
            part = min(size, images - start)
            if part < self.count:
                raise UserError(too_small(images, -(-images // size), self.count))
            first, end = part * self.rank // self.count, part * (self.rank + 1) // self.count
            found.append(Part(part, first, slice(held, held + end - first)))
            held += end - first
        return found

    def places(self, images: int, size: int) -> list[int] | None:
        """Which images of a batch this process takes, in the order of its parts; None = all."""
        if self.count == 1:
            return None
        starts = range(0, images, size)
        return [
            start + part.first + number
            for start, part in zip(starts, self.parts(images, size), strict=True)
            for number in range(part.own.stop - part.own.start)
        ]

    def sum(self, values: Tensor) -> Tensor:
        """Sums of all processes, in place; the same bits in each of them.

        Raises:
            RankLost: another one has ended. So do all that follow.
        """
        if self.count > 1:
            with _lost():
                dist.all_reduce(values)
        return values

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their sums; None stays where no process has one."""
        if self.count == 1:
            return
        every = list(parameters)
        # An optimiser leaves out what has none. Asked on the CPU, which waits for no GPU then.
        holders = self.sum(torch.tensor([float(p.grad is not None) for p in every])).tolist()
        for bucket in _buckets([p for p, some in zip(every, holders, strict=True) if some]):
            flat = self.sum(torch.cat([_flat_gradient(p) for p in bucket]))
            for parameter, total in zip(
                bucket, flat.split([p.numel() for p in bucket]), strict=True
            ):
                # Laid out as the parameter is, which kernels of optimisers rely on.
                parameter.grad = torch.empty_like(parameter).copy_(total.view_as(parameter))

    def any(self, here: bool) -> bool:
        """Whether something holds in one of the processes."""
        return bool(self.sum(torch.tensor(float(here)))) if self.count > 1 else here

    def agreed(self, error: Exception | None) -> Exception | None:
        """Why all stop: the first reason that any of the processes has; None = none has one."""
        if self.count == 1:
            return error
        if not self.any(error is not None):
            return None
        return next(one for one in self.gather(error) if one is not None)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order, in each of them."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with _lost():
            dist.all_gather_object(found, value)
        return cast(list[T], found)

    def first(self, value: Callable[[], T]) -> T:
        """What the first process finds, in all of them; the others do not look.

        An exception there is raised there alone.
        """
        if self.count == 1:
            return value()
        held: list[Any] = [value() if self.is_first else None]
        with _lost():
            dist.broadcast_object_list(held, device=torch.device("cpu"))
        return cast(T, held[0])

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum(torch.zeros(1))


ALONE = Ranks()
"""A process that trains by itself, and sums nothing."""


def join(rank: int, count: int, meeting: Path, device: torch.device) -> Ranks:
    """Joins the processes of a cell; returns when all have.

    Args:
        rank: of this process, from 0.
        count: how many there will be.
        meeting: a file that does not exist yet, the same for all of them.
        device: that this process computes on.

    Raises:
        UserError: torch was built without the library that connects them.
    """
    check(device.type)
    if sys.platform == "linux":
        # All are on this machine, whose name may stand for an address that nothing listens to.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=PATIENCE
    )
    return Ranks(rank, count)


def check(device: str) -> None:
    """Refuses a torch that cannot connect processes.

    Args:
        device: cpu or cuda.

    Raises:
        UserError: a library is missing.
    """
    there = {
        "gloo": dist.is_available() and dist.is_gloo_available(),
        "nccl": dist.is_available() and dist.is_nccl_available(),
    }
    for library in ("gloo", "nccl") if device == "cuda" else ("gloo",):
        if not there[library]:
            raise UserError(
                f"this torch has no {library}, which --devices needs on {device}; leave --devices "
                "out, or install a torch that was built with it"
            )


def too_small(batch_size: int, accumulate: int, devices: int) -> str:
    """What to say where a batch has too few images for all devices."""
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    return (
        f"--devices {devices}: a batch of {batch_size}{parts} does not have an image for each "
        f"device; raise batch_size{', lower accumulate' if parts else ''} or use fewer devices"
    )


def is_lost(error: BaseException) -> bool:
    """Whether an exception means that another process has ended, where torch itself called it."""
    return isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch has no exception of its own for all of its libraries
        raise RankLost("the connection to another process of this run broke") from error


def _flat_gradient(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    return (torch.zeros_like(parameter) if gradient is None else gradient).reshape(-1)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[Sequence[nn.Parameter]]:
    """Parameters of one type that are summed together, always in the same order."""
    kinds: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.dtype, []).append(parameter)
    for alike in kinds.values():
        bucket: list[nn.Parameter] = []
        for parameter in alike:
            if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET:
                yield bucket
                bucket = []
            bucket.append(parameter)
        yield bucket
