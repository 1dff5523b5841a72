"""Snow, fog and bright light."""

import math

import numpy as np

from benchmark.data.corruptions.blur import convolve, streak

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def snow(
    image: np.ndarray,
    rng: np.random.Generator,
    mean: float,
    spread: float,
    flake: float,
    threshold: float,
    radius: int,
    sigma: float,
    keep: float,
) -> np.ndarray:
    """Falling flakes over a whitened scene.

    Args:
        image: (H, W, 3) in [0, 1].
        rng: draws the flakes and the direction in which they fall.
        mean: of the normal noise that flakes are cut from.
        spread: its standard deviation.
        flake: size of its grains, px.
        threshold: noise below it is no flake.
        radius: see `streak`.
        sigma: see `streak`.
        keep: weight of the scene as it was against the whitened one.
    """
    from scipy import ndimage

    height, width = image.shape[:2]
    grains = rng.normal(mean, spread, (math.ceil(height / flake), math.ceil(width / flake)))
    flakes = ndimage.zoom(grains, flake, order=1)[:height, :width]
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    flakes = convolve(flakes[..., None], streak(radius, sigma, rng.uniform(-135, -45)))
    whitened = np.maximum(image, 1.5 * (image @ LUMA)[..., None] + 0.5)
    # The same flakes upside down make a second layer.
    return keep * image + (1 - keep) * whitened + flakes + flakes[::-1, ::-1]


def fog(image: np.ndarray, rng: np.random.Generator, amount: float, decay: float) -> np.ndarray:
    """A fractal veil, added so that the brightest value of the image stays what it was.

    Args:
        image: (H, W, 3) in [0, 1].
        rng: draws the veil.
        amount: brightness of the veil where it is thickest.
        decay: see `plasma`.
    """
    height, width = image.shape[:2]
    veil = plasma(max(height, width), decay, rng)[:height, :width, None]
    brightest = image.max()
    return (image + amount * veil) * brightest / (brightest + amount)


def brightness(image: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Adds `amount` to the value (V of HSV) and keeps hue and saturation."""
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + amount, 1)
    # Black has no hue: it becomes grey.
    return np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter)


def plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Clouds by midpoint displacement (diamond-square) on a torus.

    Every round doubles the grid: a new point is the mean of its four neighbours plus uniform
    noise, whose range falls by `decay ** 2` a round.

    Args:
        side: smallest side that is needed, px.
        decay: large values make smooth clouds.
        rng: draws the noise.

    Returns:
        (n, n) float64 from 0 to 1, n the next power of two.
    """
    heights, reach = np.zeros((1, 1)), 1.0
    while len(heights) < max(side, 2):
        n = len(heights)

        def around(corners: np.ndarray, reach: float = reach) -> np.ndarray:
            return corners / 4 + rng.uniform(-reach, reach, corners.shape)

        below, right = np.roll(heights, -1, axis=0), np.roll(heights, -1, axis=1)
        centres = around(heights + below + right + np.roll(below, -1, axis=1))
        finer = np.empty((2 * n, 2 * n))
        finer[::2, ::2], finer[1::2, 1::2] = heights, centres
        finer[::2, 1::2] = around(heights + right + centres + np.roll(centres, 1, axis=0))
        finer[1::2, ::2] = around(heights + below + centres + np.roll(centres, 1, axis=1))
        heights, reach = finer, reach / decay**2
    heights -= heights.min()
    return heights / heights.max()
