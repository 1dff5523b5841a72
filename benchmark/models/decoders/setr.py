"""SETR's decoder by progressive upsampling."""

import itertools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.models.decoders.base import register_decoder
from benchmark.models.decoders.pyramid import ChannelNorm

WIDTH = 256


@register_decoder("setr-pup")
class SetrPup(nn.Module):
    """Convolutions and 2x upsampling in turn, from the last level to the resolution of the image.

    SETR-PUP (Zheng et al., CVPR 2021, arXiv:2012.15840): z_0 = LN(x_L), and for i = 1..n

        z_i = up_2(ReLU(BN(conv_3x3(z_{i-1}))))    y = conv_1x1(z_n)

    with n = ceil(log2(stride of the last level)), the paper's 4 for stride 16, and 256 channels.
    The last up_2 is left to the caller, which resizes the logits: a 1x1 convolution and a bilinear
    resize commute, so the result is the same at a fraction of the memory.
    Parameters with C channels in the last level and D = 256:
    2 C + 9 C D + 9 (n - 1) D^2 + 2 n D + D K + K.

    Args:
        channels: channels of the levels; only the last level is read.
        strides: strides of the levels.
        num_classes: K.

    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], num_classes: int) -> None:
        super().__init__()
        doublings = max(1, math.ceil(math.log2(strides[-1])))
        self.norm = ChannelNorm(channels[-1], eps=1e-6)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in itertools.pairwise([channels[-1], *[WIDTH] * doublings])
        )
        self.classify = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits at 2^(n-1) times the size of the last level (stride 2 where it is a power of 2).

        Args:
            features: maps (N, C_i, H_i, W_i), the finest first.

        Returns:
            (N, K, 2^(n-1) H_L, 2^(n-1) W_L).

        Raises:
            UserError: a batch to train on has a single position, which has no variance.

        """
        x = self.norm(features[-1])
        if self.training and x[:, 0].numel() == 1:
            raise UserError(
                "decoder 'setr-pup' cannot train on a batch with one position in the last level; "
                "use --set batch_size=2 or a larger crop"
            )
        for i, block in enumerate(self.blocks):
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(x)
        return self.classify(x)
