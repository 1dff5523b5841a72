"""Corruptions of images, as in ImageNet-C: for measuring how much accuracy a model keeps.

Twelve corruptions in four groups, each with five severities. The severities are those of
Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019 (arXiv 1903.12261), which were chosen for photos of 224 px. They are
applied at the native resolution of an image of any size, as Michaelis et al., "Benchmarking
robustness in object detection: Autonomous driving when winter is coming", 2019 (arXiv 1907.07484),
do for driving scenes: numbers compare models on one set, not sets with each other.

Labels must stay where they are. So `elastic_transform` is left out, and `zoom_blur` too, which
moves what is far from the centre outwards by many pixels: `gaussian_blur` takes its place;
`motion_blur` is centred. `glass_blur`, which swaps pixels, and `frost`, which needs photos of ice,
are left out as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.core.errors import UserError
from benchmark.core.selectors import did_you_mean
from benchmark.data.corruptions import blur, digital, weather

VERSION = 1
"""Goes up whenever a corruption changes its pixels: scores of two versions are not compared."""

Group = Literal["noise", "blur", "weather", "digital"]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        name: as published.
        group: noise, blur, weather or digital.
        apply: `apply(image, rng, *parameters)` maps an image (H, W, 3) float64 in [0, 1] to one of
            the same shape, whose values may leave that range.
        severities: parameters of severity 1 to 5.
    """

    name: str
    group: Group
    apply: Callable[..., np.ndarray]
    severities: tuple[tuple[float, ...], ...]


_PUBLISHED: tuple[tuple[Group, Callable[..., np.ndarray], tuple[tuple[float, ...], ...]], ...] = (
    ("noise", digital.gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))),
    ("noise", digital.shot_noise, ((60,), (25,), (12,), (5,), (3,))),
    ("noise", digital.impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))),
    ("blur", blur.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    ("blur", blur.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    ("blur", blur.gaussian_blur, ((1,), (2,), (3,), (4,), (6,))),
    (
        "weather",
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    ("weather", weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    ("weather", weather.brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))),
    ("digital", digital.contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))),
    ("digital", digital.pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))),
    ("digital", digital.jpeg_compression, ((25,), (18,), (15,), (10,), (7,))),
)

CORRUPTIONS = {
    apply.__name__: Corruption(apply.__name__, group, apply, severities)
    for group, apply, severities in _PUBLISHED
}
"""All corruptions by name, group by group."""


def corrupt(image: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A corrupted copy of an image.

    Args:
        image: (H, W, 3) uint8 RGB, of any size.
        name: key of `CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        rng: where chance comes from; equal generators give equal copies.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: there is no such corruption or severity, or the image is not RGB.
        ValueError: the image has another shape or dtype.

    Example:
        >>> grey = np.full((32, 48, 3), 128, np.uint8)
        >>> corrupt(grey, "brightness", 1, np.random.default_rng(0))[0, 0].tolist()
        [154, 154, 154]
    """
    if name not in CORRUPTIONS:
        raise UserError(f"unknown corruption {name!r}{did_you_mean(name, CORRUPTIONS)}")
    if severity not in range(1, 6):
        raise UserError(f"{name}: severity {severity} does not exist; use 1, 2, 3, 4 or 5")
    if image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] != 3:
        raise UserError(
            f"{name}: corruptions are of photographs in RGB, not of images with {image.shape[2]} "
            "channels; leave such a benchmark out"
        )
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    corruption = CORRUPTIONS[name]
    out = corruption.apply(image / 255.0, rng, *corruption.severities[severity - 1])
    return np.rint(255 * np.clip(out, 0, 1)).astype(np.uint8)
