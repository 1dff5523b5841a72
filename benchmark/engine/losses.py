"""The losses of a training, left on the device until several are looked at together."""

import math

import torch
from torch import Tensor

from benchmark.core.interrupt import Diverged

NAMED_IMAGES = 64
"""Images of a batch without a finite loss that are named."""


class Losses:
    """Those of a training, which are added to its curve when they are looked at."""

    def __init__(self, curve: list[dict[str, float]]) -> None:
        self._curve = curve
        self.waiting: list[tuple[int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, ids: tuple[str, ...], found: Tensor) -> None:
        """Of a step on some images: the loss, the loss in total and the gradient's norm, (3,)."""
        self.waiting.append((step, ids, found))

    def look(self) -> None:
        """Adds what waits to the curve.

        Raises:
            Diverged: one of the numbers is infinite, or none.
        """
        if not self.waiting:
            return
        values = torch.stack([found for *_, found in self.waiting]).tolist()
        for (step, ids, _), (loss, total, norm) in zip(self.waiting, values, strict=True):
            for what, value in (("loss", total), ("norm of the gradient", norm)):
                if not math.isfinite(value):
                    raise _diverged(f"the {what} is {value}", step, ids)
            self._curve.append({"step": step, "loss": loss, "total": total})
        self.waiting.clear()


def _diverged(what: str, step: int, ids: tuple[str, ...]) -> Diverged:
    names = ", ".join(ids[:NAMED_IMAGES])
    more = len(ids) - NAMED_IMAGES
    return Diverged(
        f"{what} at step {step}, on {names}{f' and {more} more' if more > 0 else ''}; lower the "
        "learning rate, or look at these images"
    )
