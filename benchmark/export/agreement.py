"""Whether an exported network gives what the network itself gives."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import UserError, on_one_line
from benchmark.export.pictures import Pictures, Size, pictures_of
from benchmark.export.trained import Trained

LEAST = 0.999
"""Share of the pixels that must get the same label as from torch in fp32."""


@dataclass(frozen=True)
class Agreement:
    """How close an exported network is to the run's.

    Attributes:
        difference: largest absolute difference of a logit from torch in fp32.
        same: share of the pixels with the same label as from torch in fp32.
        predicted: share of the pixels with the same label as from `predict`.
        precision: that `predict` computes in.
        pictures: what was compared, for people.

    """

    difference: float
    same: float
    predicted: float
    precision: str
    pictures: str

    def __str__(self) -> str:
        return (
            f"same labels as torch in fp32 on {percent(self.same)} of the pixels (logits differ by "
            f"at most {self.difference:.1e}), as predict in {self.precision} on "
            f"{percent(self.predicted)}; compared on {self.pictures}"
        )


def check(
    trained: Trained,
    network: Callable[[Tensor], Tensor],
    exported: Callable[[Tensor], Tensor],
    sizes: Iterable[Size],
) -> Agreement:
    """Compares an exported network with the one in torch, in fp32, and with `predict`.

    Args:
        trained: the run.
        network: images (N, C, H, W) in [0, 1] to logits (N, K, H, W), in fp32.
        exported: the same, from the file.
        sizes: (N, H, W) of the images.

    Raises:
        UserError: it does not agree with the one in torch.
    """
    predictor = trained.predictor()
    pictures = pictures_of(trained, sizes)
    return compare(network, exported, pictures, predictor.predict_array, predictor.precision)


@torch.no_grad()
def compare(
    network: Callable[[Tensor], Tensor],
    exported: Callable[[Tensor], Tensor],
    pictures: Pictures,
    predict: Callable[[np.ndarray], np.ndarray],
    precision: str,
) -> Agreement:
    """See `check`; `predict` gives the labels (H, W) of an image (H, W, C) uint8."""
    difference, same, predicted, pixels = 0.0, 0, 0, 0
    for batch in pictures.batches:
        image = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous() / 255
        wanted = network(image)
        try:
            found = exported(image)
        except Exception as error:  # of whatever library runs it
            size = " x ".join(str(side) for side in image.shape)
            raise UserError(
                f"the exported network does not run on images of {size}: "
                f"{on_one_line(error)[:300]}; choose another format"
            ) from error
        if wanted.shape != found.shape:
            raise UserError(
                f"the exported network returns {tuple(found.shape)} in place of "
                f"{tuple(wanted.shape)}; choose another format"
            )
        gap = (wanted - found).abs().max().item()
        difference = max(difference, gap) if gap == gap else float("nan")
        labels = found.argmax(1)
        same += int((wanted.argmax(1) == labels).sum())
        predicted += sum(
            int((predict(one) == own).sum()) for one, own in zip(batch, labels.numpy(), strict=True)
        )
        pixels += labels.numel()
    agreement = Agreement(difference, same / pixels, predicted / pixels, precision, str(pictures))
    if not agreement.same >= LEAST or difference != difference:
        raise UserError(
            f"the exported network does not agree with torch: {agreement}; nothing was written; "
            "choose another format"
        )
    return agreement


def percent(share: float) -> str:
    """A share in percent, rounded down: only all are 100.00 %."""
    return f"{math.floor(1e4 * share) / 100:.2f} %"
