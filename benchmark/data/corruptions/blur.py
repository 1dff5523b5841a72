"""Blur of the lens and of motion. Beyond its edges an image is taken to be mirrored."""

import math

import numpy as np


def gaussian_blur(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Gaussian blur of standard deviation `sigma` px."""
    from scipy import ndimage

    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect")


def defocus_blur(
    image: np.ndarray, rng: np.random.Generator, radius: int, softness: float
) -> np.ndarray:
    """Out of focus: the mean of a disc of `radius` px, whose edge is soft by `softness` px."""
    from scipy import ndimage

    margin = 1 if radius <= 8 else 2
    offsets = np.arange(-radius - margin, radius + margin + 1)
    disc = (np.hypot(*np.meshgrid(offsets, offsets)) <= radius).astype(np.float64)
    kernel = ndimage.gaussian_filter(disc, softness, radius=margin, mode="constant")
    return convolve(image, kernel / kernel.sum())


def motion_blur(
    image: np.ndarray, rng: np.random.Generator, radius: int, sigma: float
) -> np.ndarray:
    """Motion in one direction, at most 45 degrees from the horizontal; see `streak`."""
    return convolve(image, streak(radius, sigma, rng.uniform(-45, 45)))


def streak(radius: int, sigma: float, angle: float) -> np.ndarray:
    """The trail that motion leaves of a point.

    The published trail starts at the point and fades away from it. Here its centre of mass is put
    on the point, so that what an image shows stays on its labels.

    Args:
        radius: the trail is 2 * radius + 1 px long.
        sigma: how slowly it fades, px.
        angle: its direction, degrees.

    Returns:
        (4 * radius + 3, 4 * radius + 3) float64 that sums to 1.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    along = steps - weights @ steps
    half, direction = 2 * radius + 1, math.radians(angle)
    y, x = half + along * math.sin(direction), half + along * math.cos(direction)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    # A point between pixels is shared out among its four neighbours.
    for dy in (0, 1):
        for dx in (0, 1):
            share = (1 - np.abs(y - top - dy)) * (1 - np.abs(x - left - dx))
            np.add.at(kernel, (top + dy, left + dx), weights * share)
    return kernel


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves each channel with a kernel of odd sides, through the frequency domain.

    Args:
        image: (H, W, C).
        kernel: (h, w).

    Returns:
        (H, W, C).
    """
    rows, columns = (side // 2 for side in kernel.shape)
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="symmetric")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, size)[..., None]
    # What wraps around falls into the rows and columns that are cut off here.
    return np.fft.irfft2(spectrum, size, axes=(0, 1))[2 * rows :, 2 * columns :]
