"""Copies of a segmenter that share its tensors, so that each thread trains a part of a batch alone.

Threads that compute every product together wait for each other a thousand times a step: each wait
costs time, and where another process is busy on one of the cores, all wait for the thread that
lost its turn. Threads that have a part of the batch each wait for each other once a step.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import nn

from benchmark.core.spec import Compute, Protocol
from benchmark.engine.compute import computing
from benchmark.models.segmenter import Segmenter
from methods.base import Method

T = TypeVar("T")

LEAST_IMAGES = 2
"""Of a part: the products of a single image are small."""


def replicate(
    segmenter: Segmenter, build: Callable[[], Segmenter], method: Method, protocol: Protocol
) -> "Replicas":
    """As many copies as the threads of this process can use, on a CPU; none where parts differ.

    Args:
        segmenter: that is trained.
        build: builds another one alike.
        method: that was applied to its backbone.
        protocol: batch and crop.
    """
    device = next(segmenter.parameters()).device
    count = useful(torch.get_num_threads(), protocol.batch_size)
    # What a method keeps between steps beside its tensors, its copies would not have.
    keeps = type(method).after_step is not Method.after_step
    if count == 1 or device.type != "cpu" or keeps:
        return Replicas(segmenter)
    copy = build()
    shape = LEAST_IMAGES, segmenter.backbone.in_chans, protocol.crop, protocol.crop
    if not is_divisible(copy.train(), torch.zeros(shape)):
        return Replicas(segmenter)
    return Replicas(segmenter, [copy, *(build() for _ in range(count - 2))])


def useful(threads: int, batch_size: int) -> int:
    """Copies, the segmenter included, that are worth having for batches of a size."""
    return max(1, min(threads, batch_size // LEAST_IMAGES))


def is_divisible(segmenter: Segmenter, sample: torch.Tensor) -> bool:
    """Whether the parts of a batch can be trained apart and add up to the same step.

    They cannot where an image depends on the others of its batch (BatchNorm in training), or where
    a pass draws random numbers, whose order threads do not keep.

    Args:
        segmenter: in training mode; random streams are put back.
        sample: a small batch of images.
    """
    if normalises_batches(segmenter):
        return False
    state = torch.random.get_rng_state()
    try:
        with torch.no_grad():
            segmenter(sample)
        return torch.equal(state, torch.random.get_rng_state())
    finally:
        torch.random.set_rng_state(state)


def normalises_batches(segmenter: nn.Module) -> bool:
    """Whether an image changes what others become: by a BatchNorm in training."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kind) and module.training for module in segmenter.modules())


class Replicas:
    """A segmenter and its copies.

    Args:
        segmenter: the one that is trained.
        copies: built as it was, each used by one more thread.
    """

    def __init__(self, segmenter: Segmenter, copies: Sequence[Segmenter] = ()) -> None:
        self.segmenters = (segmenter, *copies)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def count(self) -> int:
        """How many work at the same time: all of them, inside `sharing`."""
        return len(self.segmenters) if self._pool else 1

    @contextmanager
    def sharing(self, compute: Compute) -> Iterator[None]:
        """Inside the block all have the tensors of the first, and a part of torch's threads.

        Args:
            compute: precision and attention inside the block.
        """
        first, *copies = self.segmenters
        for copy in copies:
            copy.train()
            for own, theirs in zip(_tensors(first), _tensors(copy), strict=True):
                theirs.data = own.data
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // len(self.segmenters)))
        try:
            with ExitStack() as stack:
                self._pool = stack.enter_context(ThreadPoolExecutor(max(1, len(copies))))
                for segmenter in self.segmenters:
                    stack.enter_context(computing(segmenter, compute))
                yield
        finally:
            self._pool = None
            torch.set_num_threads(threads)

    def each(self, work: Callable[[int, Segmenter], T]) -> list[T]:
        """`work(number, segmenter)` of each, at the same time; all have ended when one raises."""
        if self._pool is None:
            return [work(0, self.segmenters[0])]
        others: list[Future[T]] = [
            self._pool.submit(work, number, self.segmenters[number])
            for number in range(1, self.count)
        ]
        try:
            first = work(0, self.segmenters[0])
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def forget_gradients(self) -> None:
        """Of the copies."""
        for copy in self.segmenters[1:]:
            for parameter in copy.parameters():
                parameter.grad = None

    def add_gradients(self) -> None:
        """To those of the first, always in the same order."""
        for copy in self.segmenters[1:]:
            for own, theirs in zip(self.segmenters[0].parameters(), copy.parameters(), strict=True):
                if theirs.grad is not None:
                    own.grad = theirs.grad if own.grad is None else own.grad.add_(theirs.grad)
                    theirs.grad = None


def _tensors(segmenter: Segmenter) -> Iterator[torch.Tensor]:
    yield from segmenter.parameters()
    yield from segmenter.buffers()
