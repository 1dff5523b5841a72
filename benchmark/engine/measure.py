"""What a run costs: time, memory, FLOPs and latency. Parameters and bytes come from the delta."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.core.errors import on_one_line
from benchmark.core.record import InferCost, Memory
from benchmark.core.spec import Protocol
from benchmark.engine.latency import BATCHES, Forward, blank, percentiles, repeated
from benchmark.engine.memory import forward_memory
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.models.backbone import StagedBackbone
from benchmark.models.precision import cast_frozen
from benchmark.models.segmenter import Segmenter
from methods.base import Method

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


def measure_inference(
    segmenter: Segmenter, protocol: Protocol, precision: str, merging: Method | None = None
) -> InferCost:
    """Latency, throughput, FLOPs and memory of a forward pass at the protocol's crop size.

    The throughput is that of the protocol's batch, or where memory runs out of the largest half,
    quarter, ... of it that fits. What cannot be measured is None, and `problems` says why: a
    training that is over must not be lost to it.

    Args:
        segmenter: in eval mode.
        protocol: crop and batch size; the crop is rounded up to what the backbone takes.
        precision: fp32 or bf16.
        merging: the method that the segmenter was tuned with, to be folded into the backbone first.
    """
    try:
        if merging is not None:
            merging.merge(segmenter.backbone)
    except Exception as error:
        return InferCost(problems=(f"merging: {on_one_line(error)}",))
    forward = Forward(segmenter, precision)
    one = blank(segmenter, protocol)
    found: dict[str, Any] = {}
    problems = []

    def single() -> dict[str, float]:
        with torch.inference_mode(), cast_frozen(segmenter, precision):
            times = repeated(lambda: forward.seconds(one))
        names = ("latency_ms_p5", "latency_ms_p50", "latency_ms_p95")
        return dict(zip(names, percentiles(times), strict=True))

    def several() -> dict[str, float]:
        images = blank(segmenter, protocol, BATCHES[-1])
        with torch.inference_mode(), cast_frozen(segmenter, precision):
            times = repeated(lambda: forward.seconds(images))
        names = ("latency8_ms_p5", "latency8_ms_p50", "latency8_ms_p95")
        return dict(zip(names, percentiles(times), strict=True))

    def throughput() -> dict[str, float]:
        if protocol.batch_size == BATCHES[-1] and "latency8_ms_p50" in found:
            return {"images_per_second": 1000 * BATCHES[-1] / found["latency8_ms_p50"]}
        with torch.inference_mode(), cast_frozen(segmenter, precision):
            return {"images_per_second": _throughput(forward.seconds, one, protocol.batch_size)}

    def memory() -> dict[str, Memory]:
        with torch.inference_mode(), cast_frozen(segmenter, precision):
            return {"memory": forward_memory(segmenter, lambda: forward.seconds(one))}

    def flops() -> dict[str, int]:
        return {"flops": count_flops(segmenter, protocol)}

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "latency": single,
        "latency of 8 images": several,
        "throughput": throughput,
        "memory": memory,
        "FLOPs": flops,
    }
    for name, measure in parts.items():
        try:
            found |= measure()
        except Exception as error:
            problems.append(f"{name}: {on_one_line(error)}")
            if one.is_cuda:
                torch.cuda.empty_cache()
    return InferCost.model_validate(found | {"problems": tuple(problems)})


def count_flops(segmenter: Segmenter, protocol: Protocol) -> int:
    """FLOPs of one image of the protocol's crop size; a multiply-add counts as two."""
    return _counted(segmenter, blank(segmenter, protocol))


def flops_by_shape(backbone: StagedBackbone, crop: int) -> int:
    """FLOPs of one image, from the shapes of tensors alone.

    Args:
        backbone: on the meta device, so that nothing is computed however much it would be.
        crop: side of the image; rounded up to what the backbone takes.

    Raises:
        Exception: of any kind, where a model or a method computes with values.
    """
    size = backbone.padded(crop, crop)
    return _counted(backbone, torch.empty(1, backbone.in_chans, *size, device="meta"))


def _counted(network: nn.Module, images: torch.Tensor) -> int:
    # The counter hooks the gradient of each input of a module, even if no gradient is computed.
    # That fails where an input is a bare trainable parameter.
    trained = [one for one in network.parameters() if one.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    # Fused attention kernels hide their matrix products from the counter; the plain one does not.
    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
            network(images)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops())


def _throughput(
    seconds: Callable[[torch.Tensor], float], one: torch.Tensor, batch_size: int
) -> float:
    """Images/s of a batch of copies of an image (1, C, H, W), or of a part of it that fits."""
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
    size = backbone.padded(*[min(protocol.crop, 64)] * 2)
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
            backbone(torch.zeros(1, backbone.in_chans, *size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    found = [needs[name] for name in backbone.stage_ends]
    return found.index(True) if any(found) else len(found)
