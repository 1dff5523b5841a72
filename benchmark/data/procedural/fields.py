"""Farmland from above: parcels with crops, trees and water, cut by tracks, with some roofs."""

import numpy as np

from benchmark.data.base import register
from benchmark.data.procedural.scene import Canvas, Procedural
from benchmark.data.procedural.textures import (
    Rng,
    blob,
    colour,
    frame,
    lattice,
    noise,
    stroke,
    tint,
    turned,
    voronoi,
    wave,
)

MEADOW, ROWS, ORCHARD, FOREST, WATER, ROOF, TRACK = range(7)


@register("fields")
class Fields(Procedural):
    """Aerial views of 108x108 px."""

    title = "Generated aerial views of farmland"
    domain = "aerial"
    classes = ("meadow", "crop rows", "orchard", "forest", "water", "roof", "track")

    def draw(self, rng: Rng) -> Canvas:
        """Paints parcels, then what crosses them and is on them."""
        parcel, _ = voronoi(rng, self.size, int(rng.integers(5, 8)))
        canvas = Canvas(self._cover(rng, MEADOW))
        for index in range(int(parcel.max()) + 1):
            cover = int(rng.choice([MEADOW, MEADOW, ROWS, ROWS, ORCHARD, FOREST, FOREST]))
            canvas.paint(parcel == index, self._cover(rng, cover), cover)
        if rng.random() < 0.6:
            centre = rng.uniform(15, 93), rng.uniform(15, 93)
            radii = rng.uniform(14, 24), rng.uniform(18, 34)
            pond = blob(rng, self.size, centre, radii, 0.13)
            canvas.paint(pond, self._cover(rng, WATER), WATER)
        if rng.random() < 0.8:
            self._track(rng, canvas)
        for _ in range(rng.integers(0, 4)):
            self._roof(rng, canvas)
        return canvas

    def _cover(self, rng: Rng, cover: int) -> np.ndarray:
        u, v = turned(self.size, rng.uniform(0, np.pi), 3 * noise(rng, self.size, 40))
        if cover == MEADOW:
            return tint(rng, noise(rng, self.size, 12, 2), (0.08, 0.18))
        if cover == ROWS:
            return tint(rng, wave(u, rng.uniform(3.5, 6)), (0.2, 0.45))
        if cover == ORCHARD:
            trees = np.clip((0.38 - lattice(u, v, rng.uniform(9, 12))) * 8, 0, 1)
            return tint(rng, trees, (0.25, 0.5))
        if cover == FOREST:
            clumps = noise(rng, self.size, 5, 2)
            return tint(rng, np.clip(clumps * 2.4 - 0.8, 0, 1), (0.35, 0.6))
        ripples = noise(rng, self.size, 2.5, stretch=7) * wave(
            v + 9 * noise(rng, self.size, 18), 12
        )
        return tint(rng, ripples, (0.2, 0.4))

    def _track(self, rng: Rng, canvas: Canvas) -> None:
        a, b, c = rng.uniform(0, 108, 3)
        points = [(-5.0, a), (54 + rng.uniform(-20, 20), b), (113.0, c)]
        width = int(rng.integers(6, 9))
        if rng.random() < 0.5:
            points = [(y, x) for x, y in points]
        ruts = stroke(self.size, points, width) & ~stroke(self.size, points, width - 3)
        canvas.paint(stroke(self.size, points, width), colour(rng, 0.3, 0.95, 0.4), TRACK)
        canvas.paint(ruts, canvas.image[ruts].mean(0) * rng.uniform(0.55, 0.75))

    def _roof(self, rng: Rng, canvas: Canvas) -> None:
        from scipy import ndimage  # slow to load, and names and classes need none of it

        centre = rng.uniform(10, 98), rng.uniform(10, 98)
        radii = rng.uniform(8, 12), rng.uniform(11, 19)
        u, v = frame(self.size, centre, radii, rng.uniform(0, np.pi))
        house = np.maximum(np.abs(u), np.abs(v)) < 1
        shadow = ndimage.shift(house, (3, 3), order=0) & ~house
        canvas.paint(shadow, canvas.image * 0.45)
        roof = colour(rng, 0.35, 0.9, 0.8)
        slope = np.where(v < 0, 1.15, 0.75)
        canvas.paint(house, roof * slope[..., None], ROOF)
        canvas.paint(house & (np.abs(v) < 0.09), roof * 0.4)
