"""Levels of a plain transformer as a pyramid, and levels of any size as one that halves exactly."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """A map (N, C, H, W) at another size, bilinear; itself where it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def halving(features: Sequence[Tensor]) -> list[Tensor]:
    """The maps at sizes that halve exactly from level to level.

    Level i of L becomes 2^(L-i) ceil(H_1 / 2^(L-1)) high, and so in width: nothing changes where
    H_1 and W_1 are multiples of 2^(L-1) and each level has half the size of the one before.
    """
    last = len(features) - 1
    height, width = (-(-side // 2**last) for side in features[0].shape[-2:])
    return [
        resized(x, (height * 2 ** (last - i), width * 2 ** (last - i)))
        for i, x in enumerate(features)
    ]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of a map (N, C, H, W). Parameters: 2 C."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FeaturePyramid(nn.Module):
    """Four levels of one stride as levels of 1/4, 1/2, 1 and 2 times that stride.

    With T a transposed convolution, kernel 2 and stride 2:

        y_1 = T''(GELU(LN(T'(x_1))))    y_2 = T(x_2)    y_3 = x_3    y_4 = max-pool_2x2(x_4)

    The rescaling of ViTDet's simple feature pyramid (Li et al., ECCV 2022, arXiv:2203.16527) with
    a level of its own after each branch and the channels kept, as `Feature2Pyramid` of
    MMSegmentation; the norm is ViTDet's. Where a side is odd, the last window of the max-pool holds
    what is left, so that no border is lost. Parameters: 8 C_1^2 + 4 C_1 + 4 C_2^2 + C_2.

    Args:
        channels: channels C_i of the four levels.

    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, _, _ = channels
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(first, first, 2, stride=2),
                    ChannelNorm(first, eps=1e-6),
                    nn.GELU(),
                    nn.ConvTranspose2d(first, first, 2, stride=2),
                ),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Rescales each level.

        Args:
            features: four maps (N, C_i, H, W).

        Returns:
            Maps (N, C_i, s H, s W) with s = 4, 2, 1 and 1/2, the last rounded up.

        """
        return [level(x) for level, x in zip(self.levels, features, strict=True)]
