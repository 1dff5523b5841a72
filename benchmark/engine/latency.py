"""How long a forward pass takes: warm, repeated, and with its spread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.core.spec import Protocol
from benchmark.models.precision import autocast
from benchmark.models.segmenter import Segmenter

BATCHES = (1, 8)
"""Images a pass, of which the latency is measured."""

MOST, LEAST = 30, 5
"""Timed passes at most and at least."""

SECONDS = 0.05
"""Time after which no further pass begins, once there are `LEAST`."""


@dataclass(frozen=True)
class Forward:
    """A forward pass of a segmenter in eval mode, without gradients.

    Attributes:
        segmenter: on its device.
        precision: fp32 or bf16.
    """

    segmenter: Segmenter
    precision: str

    def __call__(self, images: Tensor) -> None:
        """Computes the logits of images (N, C, H, W)."""
        with torch.inference_mode(), autocast(images.device, self.precision):
            self.segmenter(images)

    def seconds(self, images: Tensor) -> float:
        """Time until the logits of images (N, C, H, W) are computed."""
        start = time.perf_counter()
        self(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        return time.perf_counter() - start


def blank(segmenter: Segmenter, protocol: Protocol, count: int = 1) -> Tensor:
    """Black images (N, C, H, W) of the protocol's crop, rounded up to what the backbone takes."""
    size = segmenter.backbone.padded(protocol.crop, protocol.crop)
    channels = segmenter.backbone.in_chans
    return torch.zeros(count, channels, *size, device=next(segmenter.parameters()).device)


def repeated(once: Callable[[], float]) -> list[float]:
    """Seconds of passes, after a tenth as many that are not looked at: at least one.

    Args:
        once: makes a pass and returns its seconds.
    """
    _within(once, 1, MOST // 10, SECONDS / 10)
    return _within(once, LEAST, MOST, SECONDS)


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """The 5th, 50th and 95th percentile, in milliseconds."""
    low, middle, high = np.percentile(seconds, (5, 50, 95))
    return float(1000 * low), float(1000 * middle), float(1000 * high)


def _within(once: Callable[[], float], least: int, most: int, limit: float) -> list[float]:
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < limit):
        times.append(once())
    return times
