"""What sensor noise, exposure, resizing and compression do."""

import io

import numpy as np
from PIL import Image


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


def contrast(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Draws all values towards the mean of their channel until `factor` of the distance is left."""
    mean = image.mean(axis=(0, 1))
    return mean + factor * (image - mean)


def pixelate(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Shrinks the image to `factor` of its sides and enlarges it again, both without smoothing."""
    height, width = image.shape[:2]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    box = Image.Resampling.BOX
    return np.asarray(_pillow(image).resize(small, box).resize((width, height), box)) / 255.0


def jpeg_compression(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Compresses to JPEG of this `quality` and decodes it again."""
    buffer = io.BytesIO()
    _pillow(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB")) / 255.0


def _pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(255 * image).astype(np.uint8))
