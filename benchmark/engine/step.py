"""One optimiser step: the gradients of a batch, in as many parts as threads and memory ask for."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.core.format import counted
from benchmark.core.interrupt import OutOfMemory
from benchmark.core.spec import Protocol
from benchmark.data.batches import Batch
from benchmark.engine import checkpoint
from benchmark.engine.activations import checkpointed
from benchmark.engine.checkpoint import TrainState
from benchmark.engine.losses import Criterion, labelled
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.ranks import ALONE, Part, RankLost, Ranks, is_lost
from benchmark.engine.replicas import Replicas, normalises_batches
from benchmark.engine.sharding import is_sharded, whole
from benchmark.engine.whole_batch import WholeBatch
from benchmark.models.precision import autocast
from benchmark.models.segmenter import Segmenter, phase
from methods.base import Method


class Stepper:
    """Makes optimiser steps.

    Where memory runs out, the batch is taken in parts of half the size, whose gradients add up to
    those of the whole, from then on.

    Args:
        replicas: the segmenter and its copies.
        method: that was applied to its backbone.
        protocol: batch size and largest gradient norm.
        precision: fp32 or bf16.
        optimiser: of the parameters that are trained.
        state: holds the images a forward pass.
        criterion: the loss.
        ranks: the processes that share each batch; with copies of the segmenter, this one alone.
    """

    def __init__(
        self,
        replicas: Replicas,
        method: Method,
        protocol: Protocol,
        precision: str,
        optimiser: torch.optim.Optimizer,
        state: TrainState,
        criterion: Criterion,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks, self._trained = ranks, trained(optimiser)
        self._normalises = normalises_batches(replicas.segmenters[0])
        self._mixes = True  # until the first step shows that no image depends on the others
        self._sharded = is_sharded(replicas.segmenters[0])
        self._saving = protocol.checkpoint_activations == "on"
        self._replicas, self._method, self._protocol = replicas, method, protocol
        self._precision, self._optimiser, self._state = precision, optimiser, state
        self._criterion, self._whole = criterion, state.micro_batch
        self._clipped = _clipped(replicas.segmenters[0], self._trained, protocol)
        self._device = next(replicas.segmenters[0].parameters()).device
        self._statistics = batch_statistics(replicas.segmenters[0])

    def __call__(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Makes one step.

        Args:
            network: the segmenter, or what it was compiled to.
            batch: images and labels, of this process.
            step: its number, for errors.

        Returns:
            The loss, the loss with what the method adds, and the gradient's norm, (3,).

        Raises:
            OutOfMemory: not even a single image fits.
        """
        snapshot = StepSnapshot(self._device, self._statistics)
        while True:
            self._optimiser.zero_grad(set_to_none=True)
            self._replicas.forget_gradients()
            try:
                sums = self._gradients(network, batch)
                break
            except UserError as error:
                if self._state.micro_batch == self._whole:
                    raise
                # Some decoders refuse a part of one image.
                raise OutOfMemory(f"the batch fits only in parts too small: {error}") from error
            except Exception as error:
                if self._sharded and is_lost(error):
                    raise RankLost("another process of this run has ended") from error
                if not is_out_of_memory(error):
                    raise
                if self._ranks.count > 1:  # the others are at another place
                    raise OutOfMemory(self._too_large(step)) from error
                self._halve(step, error)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            snapshot.restore()
        with phase("gradient norm"):
            most = self._protocol.grad_clip
            norms = [whole(nn.utils.clip_grad_norm_(part, most)) for part in self._clipped]
            norm = torch.linalg.vector_norm(torch.stack(norms))
        with phase("optimiser"):
            self._optimiser.step()
        return torch.cat([sums, norm.detach().double()[None]])

    def _too_large(self, step: int) -> str:
        images = -(-self._state.micro_batch // self._ranks.count)
        return (
            f"{counted(images, 'image')} at once did not fit on a device at step {step}; use "
            f"--set accumulate={2 * self._protocol.accumulate}, or more devices"
        )

    def _halve(self, step: int, error: Exception) -> None:
        if self._state.micro_batch == 1:
            raise OutOfMemory(f"a single image does not fit at step {step}") from error
        self._state.micro_batch = (self._state.micro_batch + 1) // 2

    def _gradients(self, network: nn.Module, batch: Batch) -> Tensor:
        """Adds up the gradients of a batch; its loss without and with what a method adds, (2,)."""
        replicas, device = self._replicas, self._device
        with phase("transfer"):
            images = batch.images.to(device, non_blocking=True)
            labels = batch.labels.to(device, non_blocking=True).long()
        if self._ranks.count == 1:
            whole, count = self._criterion.total(labels), len(labels)
        else:
            count = self._protocol.batch_size
            whole = self._criterion.shared_total(labels, count, self._ranks)
        size = min(self._state.micro_batch, -(-count // replicas.count))
        parts = self._ranks.parts(count, size)

        def add_up(number: int, segmenter: Segmenter) -> Tensor:
            # Parts of a batch add up without rounding of their own.
            sums = torch.zeros(2, dtype=torch.float64, device=device)
            for part in parts[number :: replicas.count]:
                own = labels[
                    part.own
                ]  # one tensor for both losses, which share what they make of it
                seen = self._whole_batch(part)
                saving = checkpointed(segmenter) if self._saving else nullcontext()
                casts = autocast(device, self._precision, cached=replicas.count == 1)
                with seen, saving, casts:
                    logits = (segmenter if number else network)(images[part.own])
                with phase("loss"):
                    loss = self._criterion(logits, own, whole)
                with phase("auxiliary loss"):
                    auxiliary = self._method.auxiliary_loss(segmenter.backbone, own)
                # Weighted as the loss is: a mean over labelled pixels stays that of the batch.
                share = labelled(own) / whole.pixels
                total = loss if auxiliary is None else loss + auxiliary * share
                sums += torch.stack([loss.detach().double(), total.detach().double()])
                with phase("backward"), seen:  # which may repeat parts of the forward pass
                    total.backward()
            return sums

        before = checkpoint.random_state(device) if self._ranks.count > 1 else {}
        found = replicas.each(add_up)
        if before:
            self._look_at_draws(before)
        replicas.add_gradients()
        if not self._sharded:  # else they are summed where they are computed
            self._ranks.add_gradients(self._trained)
        return self._ranks.sum(torch.stack(found).sum(0))

    def _whole_batch(self, part: Part) -> AbstractContextManager[object]:
        """In it, what depends on a whole batch does so where processes share it."""
        alone = self._ranks.count == 1 or not self._mixes
        return nullcontext() if alone else WholeBatch(self._ranks, part)

    def _look_at_draws(self, before: Mapping[str, Tensor]) -> None:
        """Nothing may depend on a whole batch outside of `WholeBatch`, which costs time.

        Args:
            before: states of the random streams before the batch.

        Raises:
            UserError: random numbers are drawn that were not drawn in the first step.
        """
        after = checkpoint.random_state(self._device)
        drawn = any(not torch.equal(before[name], after[name]) for name in before)
        if drawn and not self._mixes:
            raise UserError(
                f"{self._method.name} draws random numbers, but did not in its first step, so "
                "--devices cannot share them out; leave --devices out"
            )
        self._mixes = drawn or self._normalises


def trained(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimiser changes."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _clipped(
    segmenter: Segmenter, parameters: Sequence[nn.Parameter], protocol: Protocol
) -> list[list[nn.Parameter]]:
    """Those whose gradients are clipped together; no list is empty."""
    if protocol.grad_clip_on == "all":
        return [list(parameters)]
    decoder = {id(parameter) for parameter in segmenter.decoder.parameters()}
    parts = ([p for p in parameters if (id(p) in decoder) is own] for own in (False, True))
    return [part for part in parts if part]


class StepSnapshot:
    """What a forward pass changes: random streams and BatchNorm's statistics."""

    def __init__(self, device: torch.device, statistics: Sequence[Tensor]) -> None:
        self._device, self._buffers = device, statistics
        self._random = checkpoint.random_state(device)
        self._values = [buffer.clone() for buffer in statistics]

    def restore(self) -> None:
        """Puts it back, so that the step can be tried again."""
        checkpoint.set_random_state(self._random, self._device)
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)


def batch_statistics(segmenter: nn.Module) -> Sequence[Tensor]:
    """The tensors that BatchNorm changes in a forward pass."""
    return [
        buffer
        for module in segmenter.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for buffer in module.buffers(recurse=False)
    ]
