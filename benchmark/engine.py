"""The training loop: one segmenter, one optimiser, one schedule, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import checkpoint
from benchmark.checkpoint import Checkpoint
from benchmark.data.base import IGNORE
from benchmark.data.batches import Batch
from benchmark.errors import UserError
from benchmark.interrupt import (
    Diverged,
    Interrupted,
    OutOfMemory,
    TimedOut,
    Watch,
    is_out_of_memory,
)
from benchmark.models.segmenter import Segmenter, phase
from benchmark.spec import Protocol
from methods.base import Method
from methods.pixelwise import upsampled_cross_entropy

WARM_UP_STEPS = 3
"""First steps left out of the throughput: allocators and kernels settle in them."""

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

NAMED_IMAGES = 64
"""Images of a batch without a finite loss that are named."""

Progress = Callable[[int, float, float], None]
"""Called after each step with the step (from 1), the loss and images/s so far."""


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the changed parameters.

    Attributes:
        curve: a dict a step with `step`, `loss` (segmentation) and `total` (with auxiliary).
        seconds: wall-clock time of all steps.
        images_per_second: without the warm-up steps.
        progress: how it came about.
    """

    curve: list[dict[str, float]]
    seconds: float
    images_per_second: float
    progress: checkpoint.Progress


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a resolved precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(wanted: str, device: torch.device) -> str:
    """fp32 or bf16: as wanted, or for `auto` what is fast on this hardware."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Without these units bf16 is emulated on the CPU and an order of magnitude slower than fp32.
    units = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = units.get("avx512_bf16") or units.get("amx_bf16") or units.get("bf16")
    return "bf16" if fast else "fp32"


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
        peak_memory: largest memory so far, in bytes, by whatever measures it.
        progress: how far it is; filled while it goes on.
    """

    identity: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    interval: float = 60.0
    watch: Watch = field(default_factory=Watch)
    saved: Checkpoint | None = None
    peak_memory: Callable[[], int] = int
    progress: checkpoint.Progress = field(default_factory=checkpoint.Progress)


def train(
    segmenter: Segmenter,
    method: Method,
    data: Iterator[Batch],
    protocol: Protocol,
    precision: str,
    progress: Progress | None = None,
    course: Course | None = None,
) -> Trained:
    """Trains what requires gradients, in place, for the protocol's steps.

    Where memory runs out, the batch is taken in parts of half the size, whose gradients add up to
    those of the whole: the same effective batch, but for statistics over images (BatchNorm, what
    a method's auxiliary loss averages over), which are then of the parts.

    Args:
        segmenter: on its device.
        method: that was applied to its backbone.
        data: batches, from the step on where `course.saved` stands.
        protocol: steps, rates, batch size.
        precision: fp32 or bf16.
        progress: called after each step.
        course: None = neither saved nor watched.

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
    now.identity, now.micro_batch = course.identity, protocol.batch_size
    if course.saved is not None:
        checkpoint.restore(course.saved, segmenter, method, optimiser, schedule)
        vars(now).update(vars(course.saved.progress))
        now.resumed_at.append(now.step)
    now.starts += 1

    rewind = _Rewind(segmenter)

    def save() -> None:
        now.peak_memory = max(now.peak_memory, course.peak_memory())
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
        point = _step(
            segmenter, method, batch, protocol, precision, optimiser, trained, now, step, rewind
        )
        method.after_step(segmenter.backbone, step, protocol.steps)
        schedule.step()
        end = time.perf_counter()
        now.step = step
        now.curve.append(point)
        now.seconds += end - start
        if step > WARM_UP_STEPS and step - (now.resumed_at or [0])[-1] > WARM_UP_STEPS:
            now.settled_seconds += end - start
            now.settled_steps += 1
        if progress:
            progress(step, point["loss"], protocol.batch_size * step / max(now.seconds, 1e-9))
        try:
            if step < protocol.steps:
                course.watch.check(f"at step {step} of {protocol.steps}")
        except (Interrupted, TimedOut):
            save()
            raise
        if end - saved_at >= course.interval and step < protocol.steps:
            save()
            saved_at = time.perf_counter()
    # Gradients would count as memory of inference, and the last step has had no check yet.
    optimiser.zero_grad(set_to_none=True)
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise Diverged("the last step made a parameter infinite; lower the learning rate")
    if now.step > (now.resumed_at or [0])[-1] or begun == saved_at:
        save()  # evaluation may be interrupted, too
    segmenter.eval()
    few = now.settled_steps == 0
    return Trained(
        now.curve,
        now.seconds,
        (now.step if few else now.settled_steps)
        * protocol.batch_size
        / max(now.seconds if few else now.settled_seconds, 1e-9),
        now,
    )


def _step(
    segmenter: Segmenter,
    method: Method,
    batch: Batch,
    protocol: Protocol,
    precision: str,
    optimiser: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    now: checkpoint.Progress,
    step: int,
    rewind: "_Rewind",
) -> dict[str, float]:
    """One optimiser step, in as many parts as memory asks for; a point of the curve."""
    while True:
        optimiser.zero_grad(set_to_none=True)
        try:
            loss, total = _gradients(segmenter, method, batch, precision, now.micro_batch)
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
    if not math.isfinite(total):
        raise _diverged(f"the loss is {total}", step, batch)
    with phase("gradient norm"):
        norm = nn.utils.clip_grad_norm_(trained, protocol.grad_clip).item()
    if not math.isfinite(norm):
        raise _diverged(f"the norm of the gradient is {norm}", step, batch)
    with phase("optimiser"):
        optimiser.step()
    return {"step": step, "loss": loss, "total": total}


def _diverged(what: str, step: int, batch: Batch) -> Diverged:
    names = ", ".join(batch.ids[:NAMED_IMAGES])
    more = len(batch.ids) - NAMED_IMAGES
    return Diverged(
        f"{what} at step {step}, on {names}{f' and {more} more' if more > 0 else ''}; lower the "
        "learning rate, or look at these images"
    )


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
    segmenter: Segmenter, method: Method, batch: Batch, precision: str, micro_batch: int
) -> tuple[float, float]:
    """Adds up the gradients of a batch; its loss without and with what the method adds."""
    device = next(segmenter.parameters()).device
    count = len(batch.labels)
    pixels = labelled(batch.labels).to(device)
    sums = [0.0, 0.0]
    for first in range(0, count, micro_batch):
        part = slice(first, first + micro_batch)
        with phase("transfer"):
            images = batch.images[part].to(device, non_blocking=True)
            labels = batch.labels[part].to(device, non_blocking=True)
        with autocast(device, precision):
            logits = segmenter(images)
        with phase("loss"):
            loss = segmentation_loss(logits, labels, pixels)
        with phase("auxiliary loss"):
            auxiliary = method.auxiliary_loss(segmenter.backbone, labels)
        total = loss if auxiliary is None else loss + auxiliary * (len(labels) / count)
        sums[0] += loss.item()
        sums[1] += total.item()
        if not math.isfinite(sums[1]):
            break
        with phase("backward"):
            total.backward()
    return sums[0], sums[1]
