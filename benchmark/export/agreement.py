"""Whether an exported network gives what the network itself gives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.errors import UserError

LEAST = 0.999
"""Share of the pixels that must get the same label."""


@dataclass(frozen=True)
class Agreement:
    """How close two networks are.

    Attributes:
        difference: largest absolute difference of a logit.
        same: share of the pixels with the same label.
        sizes: (N, H, W) of the images that were compared.

    """

    difference: float
    same: float
    sizes: tuple[tuple[int, int, int], ...]

    def __str__(self) -> str:
        listed = ", ".join(f"{count} x {height}x{width}" for count, height, width in self.sizes)
        return (
            f"same labels on {100 * self.same:.2f} % of the pixels, largest logit difference "
            f"{self.difference:.1e} ({listed} px)"
        )


@torch.no_grad()
def compare(
    network: Callable[[Tensor], Tensor],
    exported: Callable[[Tensor], Tensor],
    channels: int,
    sizes: Iterable[tuple[int, int, int]],
) -> Agreement:
    """Runs both on images of these sizes.

    Args:
        network: images (N, C, H, W) in [0, 1] to logits (N, K, H, W).
        exported: the same, from the file.
        channels: C.
        sizes: (N, H, W) of the images.

    Raises:
        UserError: they disagree.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = tuple(sizes)
    difference, equal, pixels = 0.0, 0, 0
    for count, height, width in sizes:
        # Patches of colour: on noise alone every class would be as likely as the others.
        coarse = torch.rand(count, channels, 4, 5, generator=generator)
        image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
        image = image + 0.1 * torch.randn(image.shape, generator=generator)
        image = image.clamp(0, 1)
        wanted, found = network(image), exported(image)
        if wanted.shape != found.shape:
            raise UserError(
                f"the exported network returns {tuple(found.shape)} in place of "
                f"{tuple(wanted.shape)}; choose another format"
            )
        gap = (wanted - found).abs().max().item()
        difference = max(difference, gap) if gap == gap else float("nan")
        equal += int((wanted.argmax(1) == found.argmax(1)).sum())
        pixels += count * height * width
    agreement = Agreement(difference, equal / pixels, sizes)
    if not agreement.same >= LEAST or difference != difference:
        raise UserError(
            f"the exported network does not agree with torch: {agreement}; nothing was written; "
            "choose another format"
        )
    return agreement
