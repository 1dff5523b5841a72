"""Bytes of an image to what a backbone was pretrained on."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalise:
    """Bytes to the values that the backbone was pretrained on; shared by training and inference.

    Args:
        mean: per channel, of images in [0, 1].
        std: per channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = 255 * torch.tensor(mean).view(-1, 1, 1)
        self.std = 255 * torch.tensor(std).view(-1, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        """(..., C, H, W) uint8 -> float32, on the image's device."""
        if self.mean.device != image.device:
            # Once: what comes from the host at each step would make the device wait.
            self.mean, self.std = self.mean.to(image.device), self.std.to(image.device)
        return (image.float() - self.mean).div_(self.std)
