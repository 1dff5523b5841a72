"""Decoders written here against the form that their docstrings define, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.decoders.pyramid import FeaturePyramid, halving
from benchmark.models.decoders.setr import SetrPup


def randomise(module: nn.Module) -> None:
    """Gives norms weights and statistics that a formula which forgets them would not match."""
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if tensor.ndim == 1:
                low = 0.5 if name.endswith(("weight", "var")) else -1.0
                tensor.uniform_(low, 1.5)


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


def bilinear(size: int, out: int) -> Tensor:
    """Matrix (out, size) of a bilinear resize with half-pixel centres, by its definition."""
    centre = ((torch.arange(out, dtype=torch.float64) + 0.5) * size / out - 0.5).clamp(0, size - 1)
    distance = (centre[:, None] - torch.arange(size, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)


def doubled(x: Tensor) -> Tensor:
    rows, columns = (bilinear(side, 2 * side) for side in x.shape[-2:])
    return torch.einsum("ph,nchw,qw->ncpq", rows, x, columns)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3 convolution with zeros around, as a sum over shifts."""
    h, w = x.shape[-2:]
    x = F.pad(x, (1, 1, 1, 1))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    parts = [
        torch.einsum("dc,nchw->ndhw", weight[:, :, i, j], x[:, :, i : i + h, j : j + w])
        for i, j in shifts
    ]
    return torch.stack(parts).sum(0)


def transposed(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """Each position becomes a 2x2 block: y[2h+i, 2w+j] = b + W[i, j] x[h, w]."""
    n, _, h, w = x.shape
    blocks = torch.einsum("cdij,nchw->ndhiwj", layer.weight, x)
    return blocks.reshape(n, -1, 2 * h, 2 * w) + layer.bias[:, None, None]


def test_linear_decoder_is_one_convolution_on_the_concatenated_levels() -> None:
    torch.manual_seed(0)
    channels, classes = (3, 5, 7, 4), 6
    decoder = LinearDecoder(channels, (4, 8, 16, 32), classes).double()
    randomise(decoder)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    features = [
        torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)
    ]

    levels = [
        F.interpolate(layer_norm(x, norm), sizes[0], mode="bilinear", align_corners=False)
        for x, norm in zip(features, decoder.norms, strict=True)
    ]
    weight = torch.cat([layer.weight for layer in decoder.classify], dim=1)[:, :, None, None]
    expected = F.conv2d(torch.cat(levels, dim=1), weight, decoder.bias)

    torch.testing.assert_close(decoder(features), expected)
    assert (
        sum(p.numel() for p in decoder.parameters())
        == sum(2 * c + classes * c for c in channels) + classes
    )


def test_setr_pup_is_the_papers_up_to_the_last_doubling() -> None:
    torch.manual_seed(0)
    c, classes, width = 5, 3, 256
    for stride, doublings in ((16, 4), (12, 4), (32, 5), (4, 2)):
        decoder = SetrPup((1, 1, 1, c), (1, 1, 1, stride), classes).double().eval()
        randomise(decoder)
        x = torch.randn(2, c, 2, 3, dtype=torch.float64)
        found = decoder([x, x, x, x])

        z = layer_norm(x, decoder.norm)
        assert len(decoder.blocks) == doublings
        for convolution, norm, _ in decoder.blocks:
            z = convolved(z, convolution.weight)
            z = (z - norm.running_mean[:, None, None]) / (
                torch.sqrt(norm.running_var + norm.eps)[:, None, None]
            )
            z = (z * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
            z = doubled(z)
        weight, bias = decoder.classify.weight[:, :, 0, 0], decoder.classify.bias
        expected = torch.einsum("kc,nchw->nkhw", weight, z) + bias[:, None, None]

        torch.testing.assert_close(doubled(found), expected)
        assert sum(p.numel() for p in decoder.parameters()) == (
            2 * c
            + 9 * c * width
            + 9 * (doublings - 1) * width**2
            + 2 * doublings * width
            + width * classes
            + classes
        )


def test_feature_pyramid_rescales_each_level() -> None:
    torch.manual_seed(0)
    channels = (3, 4, 5, 6)
    pyramid = FeaturePyramid(channels).double()
    randomise(pyramid)
    features = [torch.randn(2, c, 5, 7, dtype=torch.float64) for c in channels]

    up, norm, _, again = pyramid.levels[0]
    y = layer_norm(transposed(features[0], up), norm)
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    padded = F.pad(features[3], (0, 1, 0, 1), value=-torch.inf)
    expected = [
        transposed(y, again),
        transposed(features[1], pyramid.levels[1]),
        features[2],
        padded.reshape(2, 6, 3, 2, 4, 2).amax((3, 5)),
    ]

    torch.testing.assert_close(pyramid(features), expected)
    first, second = channels[:2]
    assert (
        sum(p.numel() for p in pyramid.parameters())
        == 8 * first**2 + 4 * first + 4 * second**2 + second
    )


def test_halving_leaves_exact_pyramids_alone_and_rounds_others_up() -> None:
    exact = [torch.randn(1, 2, 8 * k, 16 * k) for k in (8, 4, 2, 1)]
    assert all(a is b for a, b in zip(halving(exact), exact, strict=True))
    odd = [torch.randn(1, 2, *size) for size in ((20, 28), (10, 14), (5, 7), (3, 4))]
    sizes = [tuple(x.shape[-2:]) for x in halving(odd)]
    assert sizes == [(24, 32), (12, 16), (6, 8), (3, 4)]
