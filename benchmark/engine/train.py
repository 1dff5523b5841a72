"""The training loop: one segmenter, one optimiser, one schedule, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.core.interrupt import Diverged, Interrupted, OutOfMemory, StopSignal, TimedOut
from benchmark.core.spec import Protocol
from benchmark.data.base import IGNORE
from benchmark.data.batches import Batch
from benchmark.engine import checkpoint
from benchmark.engine.checkpoint import Checkpoint
from benchmark.engine.losses import Losses
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.replicas import Replicas
from benchmark.models.precision import autocast
from benchmark.models.segmenter import Segmenter, phase
from methods.base import Method
from methods.pixelwise import upsampled_cross_entropy

ASKED_AFTER = 8
"""The step after which it is known what a step takes, and asked whether to compile."""

WARM_UP_STEPS = 3
"""First steps left out of the throughput: allocators and kernels settle in them."""

LOOKED_AT = {"cuda": 16}
"""Steps between looks at the losses, by device: where it computes while the loop goes ahead, a look
makes the loop wait. Elsewhere every step's are."""

PHASES = (
    "data",
    "transfer",
    "backbone",
    "decoder",
    "loss",
    "auxiliary loss",
    "backward",
    "gradient norm",
    "optimiser",
)
"""The parts of a step, in order."""

Progress = Callable[[int, float, float], None]
"""Called after each step with the step (from 1), the loss and images/s so far."""


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the changed parameters.

    Attributes:
        curve: a dict a step with `step`, `loss` (segmentation) and `total` (with auxiliary).
        seconds: wall-clock time of all steps, without that of compiling.
        images_per_second: without the warm-up steps, and without compiled ones.
        progress: how it came about.
    """

    curve: list[dict[str, float]]
    seconds: float
    images_per_second: float
    progress: checkpoint.Progress


def segmentation_loss(logits: Tensor, labels: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over labelled pixels; zero where a batch has none.

    Args:
        logits: (N, K, h, w), resized to the labels.
        labels: (N, H, W) int64, 255 = ignored.
        pixels: labelled pixels of the batch that these are a part of; None = these are all of it.
    """
    total = upsampled_cross_entropy(logits.float(), labels, IGNORE)
    return total / (labelled(labels) if pixels is None else pixels)


def labelled(labels: Tensor) -> Tensor:
    """Number of labelled pixels, at least 1."""
    return (labels != IGNORE).sum().clamp(min=1)


def learning_rate_factor(step: int, protocol: Protocol) -> float:
    """Linear warm-up to 1, then half a cosine or a straight line to 0, for step 0..steps-1."""
    rising = round(protocol.warmup * protocol.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(1, protocol.steps - rising)
    return 1 - done if protocol.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Course:
    """How a training is watched, saved and resumed.

    Attributes:
        identity: what the training depends on; a checkpoint of anything else is not taken.
        path: of the checkpoint; None = none is written.
        interval: seconds between checkpoints.
        watch: says when to stop.
        saved: where to go on; None = from the beginning.
        pays: says whether to compile the network.
        progress: how far it is; filled while it goes on.
    """

    identity: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    interval: float = 60.0
    watch: StopSignal = field(default_factory=StopSignal)
    saved: Checkpoint | None = None
    pays: Callable[[float, int], bool] = lambda step, left: False
    progress: checkpoint.Progress = field(default_factory=checkpoint.Progress)


def train(
    segmenter: Segmenter,
    method: Method,
    data: Iterator[Batch],
    protocol: Protocol,
    precision: str,
    progress: Progress | None = None,
    course: Course | None = None,
    replicas: Replicas | None = None,
) -> Trained:
    """Trains what requires gradients, in place, for the protocol's steps.

    Where memory runs out, the batch is taken in parts of half the size, whose gradients add up to
    those of the whole: the same effective batch, but for BatchNorm's statistics over images, which
    are then of the parts. Copies of the segmenter take a part of each batch at the same time.

    Args:
        segmenter: on its device.
        method: that was applied to its backbone.
        data: batches, from the step on where `course.saved` stands.
        protocol: steps, rates, batch size.
        precision: fp32 or bf16.
        progress: called after each step.
        course: None = neither saved nor watched.
        replicas: the segmenter and copies of it, inside their `sharing`; None = no copies.

    Raises:
        Diverged: the loss, a gradient or a parameter became infinite or not a number.
        OutOfMemory: not even a single image fits.
        Interrupted, TimedOut: the watch says so; a checkpoint has been written.
        Superseded: the watch says so.
        Unfit: `course.saved` is of other code than this.
        OSError: a checkpoint cannot be written.
    """
    course = course or Course()
    groups = [
        *method.parameter_groups(segmenter.backbone),
        {"params": list(segmenter.decoder.parameters()), "lr": protocol.decoder_lr},
    ]
    trained = [parameter for group in groups for parameter in group["params"]]
    # foreach: one kernel for all tensors, the same arithmetic.
    optimiser = torch.optim.AdamW(groups, weight_decay=protocol.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, protocol)
    )
    segmenter.train()
    now = course.progress
    now.identity, now.micro_batch = course.identity, now.micro_batch or protocol.batch_size
    if course.saved is not None:
        checkpoint.restore(course.saved, segmenter, method, optimiser, schedule)
        vars(now).update(vars(course.saved.progress))
        now.resumed_at.append(now.step)
    now.starts += 1

    replicas = replicas or Replicas(segmenter)
    rewind = _Rewind(segmenter)
    first = settling = now.step
    network = _compiled(segmenter) if now.compiled_after else segmenter
    losses = Losses(now.curve)
    every = LOOKED_AT.get(next(segmenter.parameters()).device.type, 1)

    def save() -> None:
        losses.look()
        if course.path is not None:
            checkpoint.save(course.path, now, segmenter, method, optimiser, schedule)

    begun = saved_at = time.perf_counter()
    for step in range(now.step + 1, protocol.steps + 1):
        start = time.perf_counter()
        try:
            with phase("data"):
                batch = next(data)
        except Exception as error:
            if not course.watch.signal:
                raise
            # The signal went to the workers, too, and they are gone.
            save()
            course.watch.check_signal(f"at step {now.step} of {protocol.steps}")
            raise AssertionError from error
        rewind.keep()
        found = _step(
            network, replicas, method, batch, protocol, precision, optimiser, trained, now, step,
            rewind,
        )  # fmt: skip
        losses.add(step, batch.ids, found)
        settled = step - settling > WARM_UP_STEPS
        asked = step == ASKED_AFTER and not now.compiled_after
        # What settles should not fall on the steps that are timed.
        if len(losses.waiting) >= every or not settled or asked or step == protocol.steps:
            losses.look()
        method.after_step(segmenter.backbone, step, protocol.steps)
        schedule.step()
        end = time.perf_counter()
        now.step = step
        now.took(end - start, settled)
        if progress:
            progress(
                step, now.curve[-1]["loss"], protocol.batch_size * step / max(now.seconds, 1e-9)
            )
        if asked and course.pays(now.pace, protocol.steps - step):
            network, settling, now.compiled_after = _compiled(segmenter), step, step
        try:
            if step < protocol.steps:
                course.watch.check(f"at step {step} of {protocol.steps}")
        except (Interrupted, TimedOut):
            save()
            raise
        if end - saved_at >= course.interval and step < protocol.steps:
            save()
            saved_at = time.perf_counter()
    # Evaluation needs no gradients, and the last step has had no check yet.
    optimiser.zero_grad(set_to_none=True)
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise Diverged("the last step made a parameter infinite; lower the learning rate")
    if now.step > first or begun == saved_at:
        save()  # evaluation may be interrupted, too
    segmenter.eval()
    return Trained(now.curve, now.seconds, protocol.batch_size / max(now.pace, 1e-9), now)


def _compiled(segmenter: Segmenter) -> nn.Module:
    """The same network, compiled when it is first used."""
    # What was compiled for other cells of this process counts towards a limit.
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(segmenter, dynamic=False))


def _step(
    network: nn.Module,
    replicas: Replicas,
    method: Method,
    batch: Batch,
    protocol: Protocol,
    precision: str,
    optimiser: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    now: checkpoint.Progress,
    step: int,
    rewind: "_Rewind",
) -> Tensor:
    """One optimiser step, in as many parts as memory asks for.

    Returns:
        What `Losses.add` takes.
    """
    while True:
        optimiser.zero_grad(set_to_none=True)
        replicas.forget_gradients()
        try:
            sums = _gradients(network, replicas, method, batch, precision, now.micro_batch)
            break
        except UserError as error:
            if now.micro_batch == protocol.batch_size:
                raise
            # Some decoders refuse a part of one image.
            raise OutOfMemory(f"the batch fits only in parts too small: {error}") from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if now.micro_batch == 1:
                raise OutOfMemory(f"a single image does not fit at step {step}") from error
            now.micro_batch = (now.micro_batch + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rewind.back()
    with phase("gradient norm"):
        norm = nn.utils.clip_grad_norm_(trained, protocol.grad_clip)
    with phase("optimiser"):
        optimiser.step()
    return torch.cat([sums, norm.detach().double()[None]])


class _Rewind:
    """What a step that ran out of memory has changed: random streams and BatchNorm's statistics."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._device = next(segmenter.parameters()).device
        self._buffers = [
            buffer
            for module in segmenter.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
            for buffer in module.buffers(recurse=False)
        ]

    def keep(self) -> None:
        """A step begins."""
        self._random = checkpoint.random_state(self._device)
        self._values = [buffer.clone() for buffer in self._buffers]

    def back(self) -> None:
        """It is tried again."""
        checkpoint.set_random_state(self._random, self._device)
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)


def _gradients(
    network: nn.Module,
    replicas: Replicas,
    method: Method,
    batch: Batch,
    precision: str,
    micro_batch: int,
) -> Tensor:
    """Adds up the gradients of a batch; its loss without and with what the method adds, (2,)."""
    device = next(replicas.segmenters[0].parameters()).device
    with phase("transfer"):
        images = batch.images.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True).long()
    pixels, count = labelled(labels), len(labels)
    size = min(micro_batch, -(-count // replicas.count))
    parts = [slice(first, first + size) for first in range(0, count, size)]

    def add_up(number: int, segmenter: Segmenter) -> Tensor:
        # Parts of a batch add up without rounding of their own.
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        for part in parts[number :: replicas.count]:
            own = labels[part]  # one tensor for both losses, which share what they make of it
            with autocast(device, precision, cached=replicas.count == 1):
                logits = (segmenter if number else network)(images[part])
            with phase("loss"):
                loss = segmentation_loss(logits, own, pixels)
            with phase("auxiliary loss"):
                auxiliary = method.auxiliary_loss(segmenter.backbone, own)
            # Weighted as the loss is: a mean over labelled pixels stays that of the whole batch.
            share = labelled(own) / pixels
            total = loss if auxiliary is None else loss + auxiliary * share
            sums += torch.stack([loss.detach().double(), total.detach().double()])
            with phase("backward"):
                total.backward()
        return sums

    found = replicas.each(add_up)
    replicas.add_gradients()
    return torch.stack(found).sum(0)
