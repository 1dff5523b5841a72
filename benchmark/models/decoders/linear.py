"""The smallest decoder: one linear layer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmark.models.decoders.base import register_decoder
from benchmark.models.decoders.pyramid import resized


@register_decoder("linear")
class LinearDecoder(nn.Module):
    """One linear layer on the normalised features of all levels.

    Defined as: LayerNorm over the channels of each level, bilinear resize of all levels to the
    finest one, concatenation, 1x1 convolution to K classes:

        y = b + W [LN_1(x_1); up(LN_2(x_2)); ...]

    Computed as `b + sum_i up(W_i LN_i(x_i))`: a 1x1 convolution mixes channels and a bilinear
    resize mixes positions, so they commute, and resizing K maps instead of C is far cheaper.
    Parameters: sum_i (2 C_i + K C_i) + K.

    Args:
        channels: channels C_i of the levels.
        strides: not needed here.
        num_classes: K.

    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.classify = nn.ModuleList(nn.Linear(c, num_classes, bias=False) for c in channels)
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights as one `nn.Conv2d` over the concatenated levels would."""
        layers = [layer for layer in self.classify if isinstance(layer, nn.Linear)]
        bound = 1 / math.sqrt(sum(layer.in_features for layer in layers))
        for layer in layers:
            nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits of the finest level.

        Args:
            features: maps (N, C_i, H_i, W_i), the finest first.

        Returns:
            (N, K, H_1, W_1).

        """
        size = features[0].shape[-2:]
        logits = self.bias[:, None, None]
        for x, norm, classify in zip(features, self.norms, self.classify, strict=True):
            y = classify(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            logits = logits + resized(y, size)
        return logits
