"""Sheets of material on an inspection line, with defects of five kinds."""

import numpy as np

from benchmark.data.base import register
from benchmark.data.procedural.scene import Canvas, Procedural
from benchmark.data.procedural.textures import (
    Rng,
    blob,
    frame,
    lattice,
    noise,
    stroke,
    tiles,
    tint,
    turned,
    wave,
)

SOUND, SCRATCH, PIT, STAIN, CORROSION, DENT = range(6)


Pair = tuple[float, float]


@register("surfaces")
class Surfaces(Procedural):
    """Close-ups of 96x108 px of brushed, woven, ribbed, embossed or cast material."""

    title = "Generated surfaces with defects"
    domain = "industrial"
    classes = ("sound", "scratch", "pit", "stain", "corrosion", "dent")
    size = (96, 108)

    def draw(self, rng: Rng) -> Canvas:
        """Paints the material, then two to five defects."""
        canvas = Canvas(tint(rng, self._material(rng), (0.1, 0.25)))
        defects = (self._scratch, self._pits, self._stain, self._corrosion, self._dent)
        for _ in range(rng.integers(2, 6)):
            defects[int(rng.integers(5))](rng, canvas)
        return canvas

    def _material(self, rng: Rng) -> np.ndarray:
        u, v = turned(self.size, rng.uniform(0, np.pi), 2 * noise(rng, self.size, 30))
        kind = rng.integers(5)
        if kind == 0:
            return noise(rng, self.size, 1.5, stretch=12)
        if kind == 1:
            return np.where((u // 4 + v // 4) % 2 == 0, wave(u, 4), wave(v, 4))
        if kind == 2:
            return wave(u, rng.uniform(5, 9))
        if kind == 3:
            return (tiles(u, v, 9, 9, 0) < 1.2) + 0.0
        return noise(rng, self.size, 2.5, 2)

    def _place(self, rng: Rng, low: float, high: float) -> tuple[Pair, Pair]:
        centre = rng.uniform(12, self.size[0] - 12), rng.uniform(12, self.size[1] - 12)
        return centre, (rng.uniform(low, high), rng.uniform(low, high))

    def _scratch(self, rng: Rng, canvas: Canvas) -> None:
        (cy, cx), (length, _) = self._place(rng, 28, 55)
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-6, 6)
        t = np.linspace(-1, 1, 9)
        along, across = t * length, bend * t**2
        x = cx + along * np.cos(angle) - across * np.sin(angle)
        y = cy + along * np.sin(angle) + across * np.cos(angle)
        points = list(zip(x, y, strict=True))
        canvas.paint(stroke(self.size, points, 7), canvas.image * 0.55, SCRATCH)
        canvas.paint(stroke(self.size, points, 3), np.full(3, rng.uniform(0.8, 1)))

    def _pits(self, rng: Rng, canvas: Canvas) -> None:
        centre, radii = self._place(rng, 12, 20)
        area = blob(rng, self.size, centre, radii, 0.1)
        u, v = turned(self.size, rng.uniform(0, np.pi), 5 * noise(rng, self.size, 9))
        hole = lattice(u, v, rng.uniform(6, 7.5))
        canvas.paint(area, canvas.image, PIT)
        canvas.paint(area & (hole < 0.36), canvas.image * 1.3 + 0.1)
        canvas.paint(area & (hole < 0.27), canvas.image * 0.25)

    def _stain(self, rng: Rng, canvas: Canvas) -> None:
        centre, radii = self._place(rng, 12, 22)
        spill = blob(rng, self.size, centre, radii, 0.14)
        gain = rng.uniform(0.45, 0.65) if rng.random() < 0.6 else rng.uniform(1.4, 1.7)
        canvas.paint(spill, canvas.image * gain * rng.uniform(0.85, 1.15, 3), STAIN)

    def _corrosion(self, rng: Rng, canvas: Canvas) -> None:
        centre, radii = self._place(rng, 12, 20)
        flakes = noise(rng, self.size, 7, 3)
        area = blob(rng, self.size, centre, radii, 0.3)
        rust = tint(rng, np.clip(flakes * 3 - 1, 0, 1), (0.35, 0.6))
        canvas.paint(area, rust, CORROSION)

    def _dent(self, rng: Rng, canvas: Canvas) -> None:
        centre, radii = self._place(rng, 11, 18)
        u, v = frame(self.size, centre, radii)
        radius, sun = np.hypot(u, v), rng.uniform(0, 2 * np.pi)
        slope = (u * np.cos(sun) + v * np.sin(sun)) * np.clip(1.15 - radius**4, 0, 1)
        canvas.paint(radius < 1, canvas.image + 0.5 * slope[..., None], DENT)
