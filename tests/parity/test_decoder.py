"""The linear decoder against the form that its docstring defines."""

import torch
import torch.nn.functional as F

from benchmark.models.decoders import DECODERS, LinearDecoder


def test_linear_decoder_is_one_convolution_on_the_concatenated_levels() -> None:
    torch.manual_seed(0)
    channels, classes = (3, 5, 7, 4), 6
    decoder = LinearDecoder(channels, classes).double()
    for norm in decoder.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    features = [
        torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)
    ]

    levels = []
    for x, norm in zip(features, decoder.norms, strict=True):
        mean = x.mean(1, keepdim=True)
        variance = x.var(1, unbiased=False, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + norm.eps)
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
        levels.append(F.interpolate(x, sizes[0], mode="bilinear", align_corners=False))
    weight = torch.cat([layer.weight for layer in decoder.classify], dim=1)[:, :, None, None]
    expected = F.conv2d(torch.cat(levels, dim=1), weight, decoder.bias)

    torch.testing.assert_close(decoder(features), expected)
    assert (
        sum(p.numel() for p in decoder.parameters())
        == sum(2 * c + classes * c for c in channels) + classes
    )


def test_decoders_are_built_from_channels_and_classes() -> None:
    for decoder in DECODERS.values():
        features = [torch.randn(1, 8, 4, 6) for _ in range(4)]
        assert decoder((8, 8, 8, 8), 3)(features).shape == (1, 3, 4, 6)
