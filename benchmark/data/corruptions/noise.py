"""Noise of the sensor and of the transmission."""

import numpy as np


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Normal noise of standard deviation `sigma`: low light."""
    return image + rng.normal(0, sigma, image.shape)


def shot_noise(image: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    """Poisson noise of a sensor that counts `photons` per pixel where the image is white."""
    return rng.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Salt and pepper: a `share` of all values becomes 0 or 1, both as often."""
    draw = rng.random(image.shape)
    return np.where(draw < share, draw < share / 2, image)
