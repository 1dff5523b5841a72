"""Primitives that all procedural images are drawn with: textures in [0, 1], masks and colours."""

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Size = tuple[int, int]
Rng = np.random.Generator


@lru_cache(maxsize=16)
def grid(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinate of every pixel, (H, W) float32 each; shared, not to be written."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return y, x


def noise(rng: Rng, size: Size, cell: float, octaves: int = 1, stretch: float = 1.0) -> np.ndarray:
    """Value noise, spread to [0, 1].

    Args:
        rng: source of the values.
        size: height and width in pixels.
        cell: pixels between two random values; each further octave halves it.
        octaves: layers, each of half the amplitude of the one before.
        stretch: how many times longer the grains are along the rows.
    """
    out = np.zeros(size, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        coarse = rng.random(
            (int(size[0] / step) + 2, int(size[1] / step / stretch) + 2), dtype=np.float32
        )
        smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        out += np.asarray(smooth) / 2**octave
    return (out - out.min()) / max(float(np.ptp(out)), 1e-6)


def turned(
    size: Size, angle: float, warp: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across `angle` (radians), displaced by `warp` pixels if given."""
    y, x = grid(size)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = c * x + s * y, c * y - s * x
    return (u, v) if warp is None else (u + warp, v + warp[::-1, ::-1])


def wave(t: np.ndarray, period: float, phase: float = 0.0) -> np.ndarray:
    """Sine of `t` with this period, in [0, 1]."""
    return 0.5 + 0.5 * np.sin((t / period + phase) * np.float32(2 * np.pi))


def tiles(u: np.ndarray, v: np.ndarray, long: float, high: float, bond: float) -> np.ndarray:
    """Distance in pixels to the nearest joint of tiles whose rows are displaced by `bond`."""
    row = np.floor(v / high)
    along, across = (u + row * bond * long) % long, v % high
    return np.minimum(np.minimum(along, long - along), np.minimum(across, high - across))


def lattice(u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """Distance to the nearest point of a square lattice, in units of its period."""
    return np.hypot(u / period % 1 - 0.5, v / period % 1 - 0.5)


def voronoi(rng: Rng, size: Size, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest of `count` random points, and how much farther the second nearest is."""
    y, x = grid(size)
    py, px = (rng.random((2, count, 1, 1), dtype=np.float32).T * np.float32(size[::-1][0])).T
    distance = np.hypot(y - py * size[0] / size[1], x - px)
    two = np.partition(distance, 1, axis=0)[:2]
    return distance.argmin(0), two[1] - two[0]


def blob(
    rng: Rng, size: Size, centre: tuple[float, float], radii: tuple[float, float], wobble: float
) -> np.ndarray:
    """Mask of an ellipse at a random angle whose outline wobbles by this fraction of its radius."""
    reach = max(radii) * (1 + 2 * wobble)
    window = tuple(
        slice(max(int(c - reach), 0), max(int(c + reach) + 2, 0)) for c in (centre[0], centre[1])
    )
    u, v = (t[window] for t in frame(size, centre, radii, rng.uniform(0, np.pi)))
    theta = np.arctan2(v, u)
    outline = np.zeros_like(theta)
    for k in (2, 3, 5):
        phase, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1) / k**0.5
        outline += depth * np.sin(k * theta + phase)
    mask = np.zeros(size, bool)
    mask[window] = np.hypot(u, v) < 1 + wobble * outline
    return mask


def frame(
    size: Size, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (right, down) of an object's own frame, in which it spans [-1, 1]."""
    y, x = grid(size)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    return (c * dx + s * dy) / np.float32(radii[1]), (c * dy - s * dx) / np.float32(radii[0])


def polygon(size: Size, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Mask of the polygon through these (x, y) points."""
    image = Image.new("1", size[::-1])
    ImageDraw.Draw(image).polygon(list(points), fill=1)
    return np.asarray(image)


def stroke(size: Size, points: Sequence[tuple[float, float]], width: int) -> np.ndarray:
    """Mask of the line through these (x, y) points."""
    image = Image.new("1", size[::-1])
    ImageDraw.Draw(image).line(list(points), fill=1, width=width, joint="curve")
    return np.asarray(image)


def colour(rng: Rng, low: float = 0.15, high: float = 0.9, saturation: float = 0.6) -> np.ndarray:
    """A random RGB colour of any hue, its value between `low` and `high`."""
    rgb = colorsys.hsv_to_rgb(rng.random(), saturation * rng.random(), rng.uniform(low, high))
    return np.array(rgb, np.float32)


def tint(rng: Rng, texture: np.ndarray, contrast: tuple[float, float] = (0.2, 0.45)) -> np.ndarray:
    """Colours a texture: two random colours this far apart in brightness, either one the darker.

    Returns:
        (H, W, 3) float32.
    """
    base = colour(rng, 0.25, 0.8)
    texture = texture.astype(np.float32)
    step = rng.uniform(*contrast) * (1 if base.mean() < 0.5 else -1)
    steps = (step + rng.uniform(-0.06, 0.06, 3)).astype(np.float32)
    return np.stack([b + texture * s for b, s in zip(base, steps, strict=True)], -1)
