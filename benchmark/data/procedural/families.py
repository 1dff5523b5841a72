"""Abstract scenes to pretrain on, of textures and shapes that are no class of the benchmarks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmark.data.procedural.scene import light
from benchmark.data.procedural.textures import (
    Rng,
    Size,
    blob,
    colour,
    frame,
    grid,
    lattice,
    noise,
    tiles,
    tint,
    turned,
    voronoi,
    wave,
)

Texture = Callable[[Rng, Size, float], np.ndarray]
Part = tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]


def _axes(rng: Rng, size: Size, warp: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    bend = warp * noise(rng, size, 4 * max(warp, 3)) if warp else None
    return turned(size, rng.uniform(0, np.pi), bend)


def _zigzag(rng: Rng, size: Size, p: float) -> np.ndarray:
    u, v = _axes(rng, size)
    return wave(u + np.abs(v % (2 * p) - p), p)


def _weave(rng: Rng, size: Size, p: float) -> np.ndarray:
    u, v = _axes(rng, size)
    return np.where((u // p + v // p) % 2 == 0, wave(u, p), wave(v, p))


SCALES = {"fine": (3.5, 4.8), "medium": (6.0, 8.5), "coarse": (11.0, 16.0)}
"""Periods in pixels; the same texture at another scale is another family."""

TEXTURES: dict[str, Texture] = {
    "stripes": lambda r, s, p: wave(_axes(r, s)[0], p),
    "lines": lambda r, s, p: (_axes(r, s)[0] / p % 1 < 0.25) + 0.0,
    "waves": lambda r, s, p: wave(_axes(r, s, p)[0], p),
    "grid": lambda r, s, p: (tiles(*_axes(r, s), p, p, 0) < 0.15 * p) + 0.0,
    "bricks": lambda r, s, p: (tiles(*_axes(r, s), 2 * p, p, 0.5) < 0.12 * p) + 0.0,
    "checks": lambda r, s, p: np.add(*(a // p for a in _axes(r, s))) % 2,
    "dots": lambda r, s, p: (lattice(*_axes(r, s), p) < 0.3) + 0.0,
    "warped dots": lambda r, s, p: (lattice(*_axes(r, s, p), p) < 0.27) + 0.0,
    "rings": lambda r, s, p: (np.abs(lattice(*_axes(r, s), p) - 0.32) < 0.1) + 0.0,
    "zigzag": _zigzag,
    "weave": _weave,
    "clouds": lambda r, s, p: noise(r, s, p, 3),
    "ridges": lambda r, s, p: 1 - np.abs(2 * noise(r, s, p) - 1) ** 0.5,
    "patches": lambda r, s, p: (noise(r, s, p, 2) > 0.5) + 0.0,
    "streaks": lambda r, s, p: noise(r, s, p / 2, 1, 8),
    "drips": lambda r, s, p: noise(r, s[::-1], p / 2, 1, 8).T,
    "specks": lambda r, s, p: (noise(r, s, p / 2) > 0.72) + 0.0,
}
PLAIN = ("plain", "ramp", "grain")
FAMILIES = (*PLAIN, *(f"{scale} {name}" for name in TEXTURES for scale in SCALES))


def _r(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v)


def _polar(u: np.ndarray, v: np.ndarray, arms: int) -> np.ndarray:
    return np.cos(arms * np.arctan2(v, u))


def _in(t: np.ndarray, low: float, high: float) -> np.ndarray:
    return (t > low) & (t < high)


OBJECTS: tuple[tuple[Part, ...], ...] = (
    (("disc", lambda u, v: _r(u, v) < 1),),
    (("lens", lambda u, v: _r(u, v / 0.45) < 1),),
    (("hoop", lambda u, v: _in(_r(u, v), 0.68, 1)),),
    (("square", lambda u, v: np.maximum(abs(u), abs(v)) < 0.85),),
    (("bar", lambda u, v: (abs(u) < 1.3) & (abs(v) < 0.2)),),
    (("needle", lambda u, v: (abs(u) < 1.8) & (abs(v) < 0.1)),),
    (("wedge", lambda u, v: (v < 0.8) & (abs(u) < 0.5 * v + 0.5)),),
    (("star", lambda u, v: _r(u, v) < 0.68 + 0.35 * _polar(u, v, 5)),),
    (("gear", lambda u, v: _r(u, v) < 0.85 + 0.15 * np.sign(_polar(u, v, 9))),),
    (
        (
            "plus",
            lambda u, v: (np.minimum(abs(u), abs(v)) < 0.28) & (np.maximum(abs(u), abs(v)) < 1),
        ),
    ),
    (("crescent", lambda u, v: (_r(u, v) < 1) & (_r(u - 0.5, v) > 0.8)),),
    (("arch", lambda u, v: (v < 0.9) & _in(_r(u, np.minimum(v, 0)), 0.6, 1)),),
    (
        ("egg white", lambda u, v: _r(u, v * 0.85) < 1),
        ("egg yolk", lambda u, v: _r(u, v) < 0.45),
    ),
    (
        ("lolly stick", lambda u, v: (abs(u) < 0.12) & _in(v, 0, 1.3)),
        ("lolly", lambda u, v: _r(u, v + 0.4) < 0.6),
    ),
    (
        ("mushroom stalk", lambda u, v: (abs(u) < 0.3) & _in(v, -0.2, 1)),
        ("mushroom cap", lambda u, v: (_r(u, v * 1.2 + 0.1) < 1) & (v < 0)),
    ),
    (
        ("barrow", lambda u, v: _in(v, -0.6, 0.4) & (abs(u) < 1)),
        ("barrow wheel", lambda u, v: _r(abs(u) - 0.55, v - 0.5) < 0.32),
    ),
    (
        ("bottle", lambda u, v: _in(v, -0.3, 1) & (abs(u) < 0.5)),
        ("bottle neck", lambda u, v: _in(v, -1, -0.3) & (abs(u) < 0.2)),
    ),
    (
        ("stool seat", lambda u, v: _in(v, -0.6, -0.2) & (abs(u) < 0.9)),
        ("stool leg", lambda u, v: _in(v, -0.2, 1) & (abs(abs(u) - 0.6) < 0.15)),
    ),
    (
        ("totem foot", lambda u, v: _in(v, 0.4, 1) & (abs(u) < 0.7)),
        ("totem middle", lambda u, v: _in(v, -0.25, 0.4) & (abs(u) < 0.45)),
        ("totem top", lambda u, v: _r(u, v + 0.6) < 0.42),
    ),
)
SHAPES = ("ground", "puddle", *(name for parts in OBJECTS for name, _ in parts))


class Scene(NamedTuple):
    """An image and what each pixel belongs to.

    Attributes:
        image: (H, W, 3) uint8.
        family: (H, W) uint8, index into `FAMILIES`.
        shape: (H, W) uint8, index into `SHAPES`.
    """

    image: np.ndarray
    family: np.ndarray
    shape: np.ndarray


def scene(rng: Rng, size: Size) -> Scene:
    """Draws regions of ground, then two to six objects over them."""
    image = np.zeros((*size, 3), np.float32)
    family, shape = np.zeros(size, np.uint8), np.zeros(size, np.uint8)

    def cover(mask: np.ndarray, kind: int) -> None:
        index, pixels = _surface(rng, size)
        where = np.nonzero(mask)
        image[where] = pixels if pixels.ndim == 1 else pixels[where]
        family[where], shape[where] = index, kind

    for mask in _regions(rng, size):
        cover(mask, 0)
    for _ in range(rng.integers(2, 7)):
        centre = rng.uniform(0.08, 0.92) * size[0], rng.uniform(0.08, 0.92) * size[1]
        radius = rng.uniform(9, 34)
        radii = radius, radius * rng.uniform(0.75, 1.3)
        pick = int(rng.integers(-3, len(OBJECTS)))
        if pick < 0:
            cover(blob(rng, size, centre, radii, rng.uniform(0.1, 0.25)), 1)
            continue
        parts = OBJECTS[pick]
        # Objects of several parts are roughly upright, so that positions in them mean something.
        lean = rng.uniform(0, 2 * np.pi) if len(parts) == 1 else rng.uniform(-0.35, 0.35)
        u, v = frame(size, centre, radii, lean)
        for name, inside in parts:
            cover(inside(u, v), SHAPES.index(name))
    return Scene(light(rng, image), family, shape)


def _surface(rng: Rng, size: Size) -> tuple[int, np.ndarray]:
    index = int(rng.integers(-4, len(FAMILIES)))
    name = FAMILIES[max(index, 0)]
    if name == "plain":
        return 0, colour(rng, 0.05, 0.95, 0.9)
    if name == "ramp":
        u = turned(size, rng.uniform(0, np.pi))[0]
        return index, tint(rng, u / size[0], (0.3, 0.6))
    if name == "grain":
        return index, tint(rng, rng.random(size, np.float32), (0.15, 0.4))
    scale, kind = name.split(" ", 1)
    texture = TEXTURES[kind](rng, size, rng.uniform(*SCALES[scale]))
    return index, tint(rng, texture, (0.12, 0.5))


def _regions(rng: Rng, size: Size) -> list[np.ndarray]:
    kind = rng.integers(3)
    if kind == 0:
        return [np.ones(size, bool)]
    if kind == 1:
        nearest, _ = voronoi(rng, size, int(rng.integers(2, 6)))
        return [nearest == index for index in range(int(nearest.max()) + 1)]
    y, _ = grid(size)
    line = y + 14 * noise(rng, size, 30) * rng.integers(2)
    cuts = np.sort(rng.uniform(0.1, 0.9, rng.integers(1, 3))) * size[0]
    band = sum((line > cut).astype(int) for cut in cuts)
    return [band == index for index in range(len(cuts) + 1)]
