"""Per-image counts -> the metrics of a record. Numpy only, so images.npz is enough to redo them."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.core.record import Metrics

CLASS_COUNTS = ("intersection", "prediction", "label")
"""Pixels of each class of an image that do not depend on how much is counted, by name."""


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient, NaN where the denominator is zero."""
    out = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def mean_iou(intersection: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """MIoU of summed counts (..., K) over the classes that their labels contain; (...)."""
    iou = np.where(label > 0, divide(intersection, prediction + label - intersection), 0)
    return iou.sum(-1) / (label > 0).sum(-1)


def class_iou(counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """IoU per class (K,) of counts summed over a split; NaN for classes absent from its labels."""
    intersection, prediction, label = (counts[key].sum(0) for key in CLASS_COUNTS)
    return np.where(label > 0, divide(intersection, prediction + label - intersection), np.nan)


def class_dice(counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Dice per class (K,), 2 |A and B| / (|A| + |B|), of counts summed over a split; NaN as in IoU.

    For two classes this is the F1 score of each.
    """
    intersection, prediction, label = (counts[key].sum(0) for key in CLASS_COUNTS)
    return np.where(label > 0, divide(2 * intersection, prediction + label), np.nan)


def summarise(
    counts: Mapping[str, np.ndarray], classes: Sequence[str], *, dice: bool = False
) -> Metrics:
    """All metrics of a split.

    Args:
        counts: what `evaluate(full=True)` returned.
        classes: names, length K.
        dice: whether the benchmark reports Dice, too.
    """
    intersection, label = counts["intersection"].sum(0), counts["label"].sum(0)
    present = label > 0
    iou = class_iou(counts)
    union = counts["prediction"] + counts["label"] - counts["intersection"]
    per_image = np.where(counts["label"] > 0, divide(counts["intersection"], union), np.nan)
    labelled = counts["label"].sum(1) > 0
    borders = divide(counts["boundary_intersection"].sum(0), counts["boundary_union"].sum(0))
    pixels = label.sum()
    size, right, confidence = (
        counts[key].sum(0) for key in ("bin_count", "bin_correct", "bin_confidence")
    )
    return Metrics(
        miou=float(iou[present].mean()),
        image_miou=float(np.nanmean(per_image[labelled], axis=1).mean()),
        pixel_accuracy=float(intersection.sum() / pixels),
        mean_accuracy=float(divide(intersection, label)[present].mean()),
        fw_iou=float((iou * label)[present].sum() / pixels),
        boundary_miou=float(borders[present].mean()),
        nll=float(counts["nll"].sum() / pixels),
        ece=float(np.abs(right - confidence)[size > 0].sum() / pixels),
        class_iou={
            name: float(value) if here else None
            for name, value, here in zip(classes, iou, present, strict=True)
        },
        absent_classes=[name for name, here in zip(classes, present, strict=True) if not here],
        mdice=float(class_dice(counts)[present].mean()) if dice else None,
        images=len(counts["label"]),
    )
