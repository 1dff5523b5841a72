"""The training loop: one segmenter, one optimiser, one schedule, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import IGNORE
from benchmark.models.segmenter import Segmenter
from benchmark.spec import Protocol
from methods.base import Method

WARM_UP_STEPS = 3
"""First steps left out of the throughput: allocators and kernels settle in them."""

Progress = Callable[[int, float, float], None]
"""Called after each step with the step (from 1), the loss and images/s so far."""


class Diverged(Exception):
    """The loss is not a finite number any more."""


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the changed parameters.

    Attributes:
        curve: a dict a step with `step`, `loss` (segmentation) and `total` (with auxiliary).
        seconds: wall-clock time of all steps.
        images_per_second: without the warm-up steps.
    """

    curve: list[dict[str, float]]
    seconds: float
    images_per_second: float


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


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; zero where a batch has none.

    Args:
        logits: (N, K, h, w), resized to the labels.
        labels: (N, H, W) int64, 255 = ignored.
    """
    logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear")
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def learning_rate_factor(step: int, protocol: Protocol) -> float:
    """Linear warm-up to 1, then half a cosine or a straight line to 0, for step 0..steps-1."""
    rising = round(protocol.warmup * protocol.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(1, protocol.steps - rising)
    return 1 - done if protocol.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))


def train(
    segmenter: Segmenter,
    method: Method,
    data: Iterator[tuple[Tensor, Tensor]],
    protocol: Protocol,
    precision: str,
    progress: Progress | None = None,
) -> Trained:
    """Trains what requires gradients, in place, for the protocol's steps.

    Raises:
        Diverged: the loss became infinite or not a number.
    """
    device = next(segmenter.parameters()).device
    groups = [
        *method.parameter_groups(segmenter.backbone),
        {"params": list(segmenter.decoder.parameters()), "lr": protocol.decoder_lr},
    ]
    trained = [parameter for group in groups for parameter in group["params"]]
    # foreach: one kernel for all tensors, the same arithmetic.
    optimiser = torch.optim.AdamW(groups, weight_decay=protocol.weight_decay, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, protocol)
    )
    segmenter.train()
    curve: list[dict[str, float]] = []
    start = settled = time.perf_counter()
    for step in range(1, protocol.steps + 1):
        images, labels = (tensor.to(device, non_blocking=True) for tensor in next(data))
        with autocast(device, precision):
            logits = segmenter(images)
        loss = segmentation_loss(logits, labels)
        auxiliary = method.auxiliary_loss(segmenter.backbone, labels)
        total = loss if auxiliary is None else loss + auxiliary
        curve.append({"step": step, "loss": loss.item(), "total": total.item()})
        if not math.isfinite(curve[-1]["total"]):
            raise Diverged(
                f"the loss is {curve[-1]['total']} at step {step}; lower the learning rate"
            )
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, protocol.grad_clip)
        optimiser.step()
        method.after_step(segmenter.backbone, step, protocol.steps)
        schedule.step()
        now = time.perf_counter()
        if step == WARM_UP_STEPS:
            settled = now
        if progress:
            progress(step, curve[-1]["loss"], protocol.batch_size * step / (now - start))
    # Gradients would count as memory of inference, and the last step has had no check yet.
    optimiser.zero_grad(set_to_none=True)
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise Diverged("the last step made a parameter infinite; lower the learning rate")
    segmenter.eval()
    counted = protocol.steps - WARM_UP_STEPS if protocol.steps > WARM_UP_STEPS else protocol.steps
    begin = settled if protocol.steps > WARM_UP_STEPS else start
    return Trained(curve, now - start, counted * protocol.batch_size / (now - begin))
