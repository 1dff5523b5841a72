"""The stem of a timm model for images with other than three channels."""

from collections.abc import Sequence

from timm.models import adapt_input_conv
from torch import nn

from benchmark.core.errors import UserError


def set_in_chans(model: nn.Module, in_chans: int, name: str) -> None:
    """Makes a model with its weights take images of `in_chans` channels, as timm's `in_chans` does.

    One channel: the weights are summed over R, G and B. Otherwise they are repeated as R, G, B, R,
    G, ... and scaled by 3 / in_chans, so that the stem's output keeps its size.

    Args:
        model: made by timm for three channels.
        in_chans: of the images.
        name: what users call the model.

    Raises:
        UserError: timm does not say which layer the stem is, or it is no convolution of three
            channels.
    """
    if in_chans == 3:
        return
    for stem in _stems(model):
        if not isinstance(stem, nn.Conv2d) or stem.in_channels != 3 or stem.groups != 1:
            break
        stem.weight = nn.Parameter(adapt_input_conv(in_chans, stem.weight.data))
        stem.in_channels = in_chans
    else:
        if _stems(model):
            return
    raise UserError(
        f"backbone {name!r} takes images of 3 channels only, not of {in_chans}; choose another "
        "backbone, or three bands in the YAML file of the set (`bands: [0, 1, 2]`)"
    )


def per_channel(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Mean or standard deviation of R, G, B for the channels that `set_in_chans` makes of them.

    A channel that received the weights of R is normalised as R is; a single one by the average.
    """
    if in_chans == 1:
        return (sum(values) / len(values),)
    return tuple(values[channel % len(values)] for channel in range(in_chans))


def _stems(model: nn.Module) -> list[nn.Module]:
    names = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv") or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    modules = dict(model.named_modules())
    return [modules[name] for name in names if name in modules]
