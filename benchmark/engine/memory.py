"""Memory of a training step and of inference, counted in bytes of tensors.

Every tensor that an operator takes or returns is followed from then on until its storage is freed;
the largest sum is the peak. It is the same on each repetition, with any allocator, number of
threads and other processes. What an operator uses inside and frees before it returns is not seen,
nor is the memory of Python and its libraries.
"""

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.core.errors import on_one_line
from benchmark.core.interrupt import OutOfMemory
from benchmark.core.parallel import uncollected
from benchmark.core.record import Memory, TrainMemory
from benchmark.engine.checkpoint import TrainState
from benchmark.engine.compute import computing
from benchmark.engine.feature_cache import FeatureCacheLoader
from benchmark.engine.losses import Criterion
from benchmark.engine.train import train
from methods.base import Method

STEPS = 2
"""The first creates the optimiser's state and all else that stays; the second is measured."""


class Count(TorchDispatchMode):
    """Bytes of the live tensors on a device that operators took or returned inside the block.

    Args:
        device: of the tensors that count.

    Attributes:
        held: bytes now.
        peak: most so far.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.held = self.peak = 0
        self.device = device
        self._known: dict[int, tuple[weakref.ref, int]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Follows tensors from now on; views of one storage count once."""
        for storage in _storages(tensors, self.device):
            key, size = id(storage), storage.nbytes()
            _, former = self._known.get(key, (None, 0))
            if key not in self._known or size != former:  # it is new, or was resized
                self._known[key] = weakref.ref(storage, partial(self._forget, key)), size
                self.held += size - former
        self.peak = max(self.peak, self.held)

    def existed(self, tensors: Iterable[Tensor]) -> None:
        """Follows tensors that an operator takes; unknown ones were there before the block."""
        self.add(tensors)

    def begins(self, phase: str) -> None:
        """Called with the name of every `torch.profiler.record_function` that is entered."""

    def restart(self) -> None:
        """Forgets the peak so far."""
        self.peak = self.held
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    @property
    def allocated(self) -> int | None:
        """Peak of the GPU's allocator since the last restart; None on a CPU."""
        gpu = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) if gpu else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operator, and looks at what goes in and what comes out."""
        if func.namespace == "profiler" and isinstance(args[0], str):
            self.begins(args[0])
        kwargs = kwargs or {}
        self.existed(_tensors((args, kwargs)))
        result = func(*args, **kwargs)
        self.add(_tensors(result))
        return result

    def _forget(self, key: int, _: weakref.ref) -> None:
        self.held -= self._known.pop(key)[1]


class _StepCount(Count):
    """A count of the last of `STEPS` training steps, which separates its parts.

    Attributes:
        steps: made so far.
        found: of the last step; None before it.
    """

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__(next(segmenter.parameters()).device)
        self.segmenter = segmenter
        self.steps = 0
        self.found: TrainMemory | None = None
        self._before_backward = 0
        self._state: list[Tensor] = []
        self._counting = contextlib.ExitStack()

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        """Steps are made in the block; the count begins after those that are not measured."""
        handle = register_optimizer_step_post_hook(self._stepped)
        # Cycles would be freed at one step or another, depending on what the process did before.
        with uncollected(), self._counting:
            try:
                yield
            finally:
                handle.remove()

    def existed(self, tensors: Iterable[Tensor]) -> None:
        """Counts what a step finds only now (an average of weights) as held from its beginning."""
        held, peak = self.held, self.peak
        super().existed(tensors)
        self.peak = peak + self.held - held
        self._before_backward += self.held - held

    def begins(self, phase: str) -> None:
        """Looks at what is held before a backward pass, one a part of the batch."""
        if phase == "backward":
            self._before_backward = max(self._before_backward, self.held - self._gradients())

    def mark(self) -> None:
        """A step is over; its gradients are still there."""
        self.steps += 1
        if self.steps == STEPS - 1:
            parameters = list(self.segmenter.parameters())
            self.add([*parameters, *self.segmenter.buffers(), *self._state])
            self.add([one.grad for one in parameters if one.grad is not None])
            self._state.clear()
            self.restart()
            self._counting.enter_context(self)
        elif self.steps == STEPS:
            self.found = self._parts()

    def _stepped(self, optimiser: Optimizer, *_: Any) -> None:
        self._state = list(_tensors(list(optimiser.state.values())))

    def _parts(self) -> TrainMemory:
        parameters = self._bytes(self.segmenter.parameters())
        buffers = self._bytes(self.segmenter.buffers())
        gradients, optimiser = self._gradients(), self._bytes(self._state)
        kept = self.held - gradients  # from step to step
        return TrainMemory(
            peak_bytes=self.peak,
            allocated_bytes=self.allocated,
            parameter_bytes=parameters,
            buffer_bytes=buffers,
            gradient_bytes=gradients,
            optimiser_bytes=optimiser,
            activation_bytes=max(0, self._before_backward - kept),
            other_bytes=kept - parameters - buffers - optimiser,
        )

    def _gradients(self) -> int:
        return self._bytes(p.grad for p in self.segmenter.parameters() if p.grad is not None)

    def _bytes(self, tensors: Iterable[Tensor]) -> int:
        return sum(storage.nbytes() for storage in _storages(tensors, self.device))


def training_memory(
    feed: FeatureCacheLoader,
    method: Method,
    micro_batch: int = 0,
    criterion: Criterion | None = None,
) -> TrainMemory:
    """What a step of `engine.train` holds; trains two steps, so the segmenter is changed.

    Args:
        feed: of the segmenter that is trained; both steps take its first batch.
        method: that was applied to the segmenter's backbone.
        micro_batch: images a forward pass; 0 = as many of the batch as fit.
        criterion: the loss; None = that of the protocol.

    Raises:
        OutOfMemory: fewer images fit than that.
    """
    segmenter = feed.segmenter
    protocol = feed.protocol.shortened(STEPS)
    state = TrainState(micro_batch=micro_batch)
    with contextlib.closing(feed.batches()) as batches:
        same = repeat(next(batches))

    def loop(mark: Callable[[], None]) -> None:
        told = lambda *_: mark()  # noqa: E731
        train(
            segmenter,
            method,
            same,
            protocol,
            feed.compute.precision,
            told,
            state=state,
            criterion=criterion,
        )

    # Random numbers are drawn, but not from the streams of what comes after.
    with torch.random.fork_rng(), computing(segmenter, feed.compute):
        found = step_memory(segmenter, loop)
    if state.micro_batch < micro_batch:
        raise OutOfMemory(f"{micro_batch} images a forward pass do not fit any more")
    return found


def known_memory(
    feed: FeatureCacheLoader, method: Method, micro_batch: int, criterion: Criterion
) -> TrainMemory | None:
    """As `training_memory`; None, with a warning, where that fails, since the run is done."""
    try:
        return training_memory(feed, method, micro_batch, criterion)
    except Exception as error:
        warnings.warn(f"the memory of training is unknown: {on_one_line(error)}", stacklevel=2)
        return None


def step_memory(segmenter: nn.Module, loop: Callable[[Callable[[], None]], None]) -> TrainMemory:
    """What a training step holds at most, and which part is what.

    Args:
        segmenter: that is trained.
        loop: makes `STEPS` steps; calls back after each, while its gradients are still there.
    """
    count = _StepCount(segmenter)
    with count.over():
        loop(count.mark)
    if count.found is None:
        raise ValueError(f"the loop made {count.steps} steps instead of {STEPS}")
    return count.found


def forward_memory(segmenter: nn.Module, forward: Callable[[], object]) -> Memory:
    """What a forward pass holds at most.

    Args:
        segmenter: that is run, without gradients.
        forward: runs it; called twice, since what exists before is known after the first time.
    """
    count = Count(next(segmenter.parameters()).device)
    count.add([*segmenter.parameters(), *segmenter.buffers()])
    with uncollected(), count:
        forward()
        count.restart()
        forward()
    return Memory(peak_bytes=count.peak, allocated_bytes=count.allocated)


def _storages(tensors: Iterable[Tensor], device: torch.device) -> list[torch.UntypedStorage]:
    """The storages of tensors on a device, each once."""
    found = {}
    for tensor in tensors:
        # A sparse tensor has several storages, which operators make as tensors of their own.
        if tensor.device == device and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            found[id(storage)] = storage
    return list(found.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
