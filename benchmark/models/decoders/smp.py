"""Decoders of segmentation_models_pytorch, with its own widths and initialisation.

The library is imported when one of them is built: that takes seconds, and names are listed and
linear decoders built without it.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.models.decoders.base import register_decoder
from benchmark.models.decoders.pyramid import FeaturePyramid, halving, resized


class SmpDecoder(nn.Module):
    """A decoder of segmentation_models_pytorch on four levels, and a 1x1 convolution to K classes.

    Levels that all have one stride (a plain transformer) first become a `FeaturePyramid`.

    Args:
        decoder: takes six maps, of the image, of half its size and of the four levels; returns
            `width` channels.
        width: channels that it returns.
        channels: channels C_i of the levels.
        strides: their strides.
        num_classes: K.
        halve: it doubles sizes by a factor instead of to the size of the next level, so it needs
            sizes that halve exactly.
        min_batch: images that a batch must have to train on.

    """

    def __init__(
        self,
        decoder: nn.Module,
        width: int,
        channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        halve: bool = False,
        min_batch: int = 1,
    ) -> None:
        from segmentation_models_pytorch.base import initialization

        super().__init__()
        self.pyramid = FeaturePyramid(channels) if len(set(strides)) == 1 else None
        self.decoder = decoder
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.halve = halve
        self.min_batch = min_batch
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.classify)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the finest level: the first map, or 4 times its size after a pyramid.

        Args:
            features: maps (N, C_i, H_i, W_i), the finest first.

        Returns:
            (N, K, h, w) with h = H_1, w = W_1, or h = 4 H_1, w = 4 W_1.

        Raises:
            UserError: the batch is too small to train on.

        """
        batch = features[0].shape[0]  # not `len`, which would be a constant of an exported graph
        if self.training and batch < self.min_batch:
            raise UserError(
                f"{type(self.decoder).__name__} normalises what it pools to one position an image "
                f"over the batch, so it cannot train on {batch} image; "
                f"use --set batch_size={self.min_batch} or more"
            )
        levels = list(features) if self.pyramid is None else self.pyramid(features)
        size = levels[0].shape[-2:]
        if self.halve:
            levels = halving(levels)
        height, width = levels[0].shape[-2:]
        # The finer two are read for their sizes only, so they have no channels.
        finer = [levels[0].new_empty(batch, 0, k * height, k * width) for k in (4, 2)]
        return resized(self.classify(self.decoder([*finer, *levels])), size)


@register_decoder("fpn")
def fpn(channels: Sequence[int], strides: Sequence[int], num_classes: int) -> nn.Module:
    """Feature pyramid with a semantic branch (Kirillov et al., CVPR 2019, arXiv:1901.02446).

    256 channels in the pyramid, 128 in the branch, GroupNorm, dropout of 0.2 of the channels.
    """
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

    decoder = FPNDecoder(_with_finer(channels), pyramid_channels=256, segmentation_channels=128)
    return SmpDecoder(decoder, 128, channels, strides, num_classes, halve=True)


@register_decoder("upernet")
def upernet(channels: Sequence[int], strides: Sequence[int], num_classes: int) -> nn.Module:
    """Pyramid pooling on the last level, then an FPN (Xiao et al., ECCV 2018, arXiv:1807.10221).

    256 channels and BatchNorm, also after the pooling to one position: training needs at least two
    images per batch.
    """
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

    decoder = UPerNetDecoder(_with_finer(channels), decoder_channels=256)
    return SmpDecoder(decoder, 256, channels, strides, num_classes, min_batch=2)


@register_decoder("segformer")
def segformer(channels: Sequence[int], strides: Sequence[int], num_classes: int) -> nn.Module:
    """A linear layer a level, then one over all (Xie et al., NeurIPS 2021, arXiv:2105.15203).

    256 channels and BatchNorm.
    """
    from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

    decoder = SegformerDecoder(_with_finer(channels), segmentation_channels=256)
    return SmpDecoder(decoder, 256, channels, strides, num_classes)


def _with_finer(channels: Sequence[int]) -> list[int]:
    """Channels as the library counts them: the image, a level of half its size, the levels.

    Raises:
        UserError: there are fewer than four levels.

    """
    if len(channels) < 4:
        raise UserError(
            f"this decoder needs a backbone with four stages, not {len(channels)}; use --set "
            "decoder=linear or decoder=setr-pup"
        )
    return [3, 0, *channels]
