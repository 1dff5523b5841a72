"""What a run costs: time, memory, FLOPs and latency. Parameters and bytes come from the delta."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.interrupt import is_out_of_memory
from benchmark.memory import forward_memory
from benchmark.models.compute_type import autocast, frozen_in
from benchmark.models.segmenter import Segmenter
from benchmark.record import InferCost
from benchmark.spec import Protocol

LATENCY_REPEATS = 30
"""Timed passes at batch 1, after a tenth as many untimed ones."""

THROUGHPUT_REPEATS = 3
"""Timed passes at the protocol's batch size, after one untimed."""


class Phases(dict[str, float]):
    """Seconds by phase."""

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self[name] = round(self.get(name, 0.0) + time.perf_counter() - start, 3)


@torch.inference_mode()
def measure_inference(segmenter: Segmenter, protocol: Protocol, precision: str) -> InferCost:
    """Latency, throughput, FLOPs and memory of a forward pass at the protocol's crop size.

    The throughput is that of the protocol's batch, or where memory runs out of the largest half,
    quarter, ... of it that fits.

    Args:
        segmenter: in eval mode.
        protocol: crop and batch size; the crop is rounded up to what the backbone takes.
        precision: fp32 or bf16.
    """
    device = next(segmenter.parameters()).device
    step = segmenter.backbone.divisor
    side = -(-protocol.crop // step) * step
    one = torch.zeros(1, 3, side, side, device=device)

    def seconds(images: torch.Tensor) -> float:
        start = time.perf_counter()
        with autocast(device, precision):
            segmenter(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    for _ in range(LATENCY_REPEATS // 10):
        seconds(one)
    with frozen_in(segmenter, precision):
        latencies = 1000 * np.array([seconds(one) for _ in range(LATENCY_REPEATS)])
    with frozen_in(segmenter, precision):
        throughput = _throughput(seconds, one, protocol.batch_size)
        memory = forward_memory(segmenter, lambda: seconds(one))
    # Fused attention kernels hide their matrix products from the counter; the plain one does not.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        segmenter(one)
    return InferCost(
        latency_ms_p50=float(np.percentile(latencies, 50)),
        latency_ms_p95=float(np.percentile(latencies, 95)),
        images_per_second=throughput,
        flops=int(counter.get_total_flops()),
        memory=memory,
    )


def _throughput(
    seconds: Callable[[torch.Tensor], float], one: torch.Tensor, batch_size: int
) -> float:
    """Images/s of a batch of copies of an image (1, 3, H, W), or of a part of it that fits."""
    while True:
        try:
            many = one.expand(batch_size, -1, -1, -1).contiguous()
            times = [seconds(many) for _ in range(1 + THROUGHPUT_REPEATS)][1:]
            return float(batch_size / np.median(times))
        except Exception as error:
            if batch_size == 1 or not is_out_of_memory(error):
                raise
        batch_size //= 2
        many = one  # lets go of the batch
        if one.is_cuda:
            torch.cuda.empty_cache()


def first_trainable_depth(segmenter: Segmenter, protocol: Protocol) -> int:
    """Leading stages (0..4) whose output needs no gradient, found by asking autograd.

    Asked at the ends of the stages: a network beside the backbone may change the features that
    the decoder sees although no gradient enters any stage.
    """
    backbone = segmenter.backbone
    side = -(-min(protocol.crop, 64) // backbone.divisor) * backbone.divisor
    device = next(segmenter.parameters()).device
    needs: dict[str, bool] = {}
    handles = [
        backbone.model.get_submodule(name).register_forward_hook(
            lambda _module, _args, y, name=name: needs.update({name: y.requires_grad})
        )
        for name in backbone.stage_ends
    ]
    try:
        with torch.enable_grad():
            backbone(torch.zeros(1, 3, side, side, device=device))
    finally:
        for handle in handles:
            handle.remove()
    found = [needs[name] for name in backbone.stage_ends]
    return found.index(True) if any(found) else len(found)
