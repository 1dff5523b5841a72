"""Prompts as learnt pixels around the image, for networks without tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Backbone


class Frame(nn.Module):
    """Learnt pixels around an image, U(-sqrt(3), sqrt(3)): unit variance, as a normalised image.

    Args:
        pad: thickness on each side, px.
        length: the sides of the image that the pixels are stored for, px.
        in_chans: channels of the image.

    """

    def __init__(self, pad: int, length: int, in_chans: int) -> None:
        super().__init__()
        self.pad = pad
        bound = 3**0.5
        rows = torch.empty(1, in_chans, 2 * pad, length + 2 * pad)
        columns = torch.empty(1, in_chans, length, 2 * pad)
        self.rows = nn.Parameter(rows.uniform_(-bound, bound))
        self.columns = nn.Parameter(columns.uniform_(-bound, bound))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H + 2 pad, W + 2 pad); bars are resized to the image's sides."""
        n, pad, (height, width) = images.shape[0], self.pad, images.shape[-2:]
        rows = _resized(self.rows, (2 * pad, width + 2 * pad)).expand(n, -1, -1, -1)
        columns = _resized(self.columns, (height, 2 * pad)).expand(n, -1, -1, -1)
        middle = torch.cat([columns[..., :pad], images, columns[..., pad:]], dim=-1)
        return torch.cat([rows[..., :pad, :], middle, rows[..., pad:, :]], dim=-2)


def frame_images(backbone: Backbone, frame: Frame) -> None:
    """Attaches the frame to the images, and cuts it off the features again.

    Args:
        backbone: its largest stride divides the thickness of the frame.
        frame: the pixels.

    """
    margins = [frame.pad // stride for stride in backbone.strides]

    def cut(maps: list[Tensor]) -> list[Tensor]:
        return [x[..., m:-m, m:-m] for x, m in zip(maps, margins, strict=True)]

    backbone.on_images(frame)
    backbone.on_features(cut)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear")
