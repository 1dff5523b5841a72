"""What a run costs: time, memory, FLOPs and latency. Parameters and bytes come from the delta."""

import contextlib
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.errors import on_one_line
from benchmark.interrupt import is_out_of_memory
from benchmark.latency import BATCHES, Forward, blank, percentiles, repeated
from benchmark.models.compute_type import frozen_in
from benchmark.models.segmenter import Segmenter
from benchmark.record import InferCost
from benchmark.spec import Protocol
from methods.base import Method

THROUGHPUT_REPEATS = 3
"""Timed passes at the protocol's batch size, after one untimed."""

SAMPLE_SECONDS = 0.005
MARK_SLACK = 2**22
"""Bytes by which a high-water mark that was just reset may be above the resident size."""


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


@dataclass
class PeakMemory:
    """Largest memory that a model and what runs on it need; set when the block ends.

    On a GPU the allocator knows. On the CPU it is the model's tensors plus the growth of the
    process's resident size inside the block, less that of its pages of files: the decoded data are
    such pages, and what of them is resident depends on who ran before. It is a lower bound: memory
    that an earlier cell freed but the allocator kept can hide a part of the growth, and where the
    kernel keeps no high-water mark, or does not reset it (some containers), the size is looked at
    every `SAMPLE_SECONDS` only.
    """

    bytes: int = 0
    _now: Callable[[], int] = field(default=int, repr=False)

    @contextlib.contextmanager
    def measure(self, model: nn.Module) -> Iterator[None]:
        """Measures the block."""
        tensors = [*model.parameters(), *model.buffers()]
        device = tensors[0].device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._now = lambda: torch.cuda.max_memory_allocated(device)
            yield
            self.bytes = self._now()
            return
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        with _resident_peak() as peak:
            before, files = _resident(), _status("RssFile") or 0

            def now() -> int:
                read = max(0, (_status("RssFile") or 0) - files)
                return held + max(0, peak() - before - read)

            self._now = now
            yield
            self.bytes = now()

    def so_far(self) -> int:
        """Bytes up to now, inside the block."""
        return self._now()


@contextlib.contextmanager
def _resident_peak() -> Iterator[Callable[[], int]]:
    """Gives the largest resident size of this process since the block began."""
    if _mark_works():
        yield _high_water_mark
        return
    sizes, over = [_resident()], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            sizes.append(max(sizes.pop(), _resident()))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield lambda: sizes[0]
    finally:
        over.set()
        sampler.join()


def _mark_works() -> bool:
    """Whether the high-water mark keeps what was let go and forgets it when reset; it is reset."""
    _reset_mark()
    before = _high_water_mark()
    with mmap.mmap(-1, 2 * MARK_SLACK) as pages:
        pages.write(bytes(2 * MARK_SLACK))
    kept = _high_water_mark() >= before + MARK_SLACK
    _reset_mark()
    return kept and _high_water_mark() <= _resident() + MARK_SLACK


def _reset_mark() -> None:
    # Writing 5 resets the kernel's high-water mark of this process (proc(5)).
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    size = _status("VmRSS")
    return _high_water_mark() if size is None else size


def _status(field: str) -> int | None:
    """Bytes that the kernel reports of this process; None where it does not."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def _high_water_mark() -> int:
    mark = _status("VmHWM")
    if mark is not None:
        return mark
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
    found: dict[str, float] = {}
    problems = []

    def single() -> dict[str, float]:
        peak = PeakMemory()
        with peak.measure(segmenter), torch.inference_mode(), frozen_in(segmenter, precision):
            times = repeated(lambda: forward.seconds(one))
        names = ("latency_ms_p5", "latency_ms_p50", "latency_ms_p95")
        return dict(zip(names, percentiles(times), strict=True)) | {"peak_memory_bytes": peak.bytes}

    def several() -> dict[str, float]:
        images = blank(segmenter, protocol, BATCHES[-1])
        with torch.inference_mode(), frozen_in(segmenter, precision):
            times = repeated(lambda: forward.seconds(images))
        names = ("latency8_ms_p5", "latency8_ms_p50", "latency8_ms_p95")
        return dict(zip(names, percentiles(times), strict=True))

    def throughput() -> dict[str, float]:
        if protocol.batch_size == BATCHES[-1] and "latency8_ms_p50" in found:
            return {"images_per_second": 1000 * BATCHES[-1] / found["latency8_ms_p50"]}
        with torch.inference_mode(), frozen_in(segmenter, precision):
            return {"images_per_second": _throughput(forward.seconds, one, protocol.batch_size)}

    parts = {"latency": single, "latency of 8 images": several, "throughput": throughput}
    parts["FLOPs"] = lambda: {"flops": count_flops(segmenter, protocol)}
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
    # The counter hooks the gradient of each input of a module, even if no gradient is computed.
    # That fails where an input is a bare trainable parameter.
    trained = [one for one in segmenter.parameters() if one.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    # Fused attention kernels hide their matrix products from the counter; the plain one does not.
    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
            segmenter(blank(segmenter, protocol))
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops())


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
