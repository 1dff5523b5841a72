"""Cells under a microscope: grainy bodies with nuclei, among fibres, air bubbles and debris."""

import numpy as np

from benchmark.data.base import register
from benchmark.data.procedural.scene import Canvas, Procedural
from benchmark.data.procedural.textures import (
    Rng,
    blob,
    colour,
    frame,
    noise,
    polygon,
    stroke,
    tint,
)

BACKGROUND, CYTOPLASM, NUCLEUS, DEBRIS, BUBBLE, FIBRE = range(6)


@register("cells")
class Cells(Procedural):
    """Micrographs of 108x108 px, bright-field or dark-field at random."""

    title = "Generated micrographs of cells"
    domain = "microscopy"
    classes = ("background", "cytoplasm", "nucleus", "debris", "bubble", "fibre")

    def draw(self, rng: Rng) -> Canvas:
        """Paints one field of view; the stain has any colour, darker than the medium or not."""
        canvas = Canvas(tint(rng, noise(rng, self.size, 30), (0.03, 0.1)))
        medium = canvas.image.mean((0, 1))
        for _ in range(rng.integers(0, 3)):
            self._fibre(rng, canvas)
        step = rng.uniform(0.12, 0.3) * rng.choice([-1, 1])
        body = np.clip(medium + step + rng.uniform(-0.1, 0.1, 3), 0.1, 0.9)
        core = np.clip(body + rng.uniform(0.15, 0.3) * rng.choice([-1, 1]), 0.05, 0.95)
        for _ in range(rng.integers(3, 7)):
            self._cell(rng, canvas, body, core)
        for _ in range(rng.integers(0, 3)):
            self._bubble(rng, canvas)
        for _ in range(rng.integers(0, 4)):
            self._debris(rng, canvas)
        return canvas

    def _cell(self, rng: Rng, canvas: Canvas, body: np.ndarray, core: np.ndarray) -> None:
        from scipy import ndimage  # slow to load, and names and classes need none of it

        centre = rng.uniform(5, 103), rng.uniform(5, 103)
        radii = rng.uniform(17, 24), rng.uniform(20, 29)
        outline = blob(rng, self.size, centre, radii, 0.1)
        grains = noise(rng, self.size, 2.2)[..., None] - 0.5
        canvas.paint(outline, body + 0.4 * grains, CYTOPLASM)
        rim = outline & ~ndimage.binary_erosion(outline, iterations=2)
        canvas.paint(rim, body * 0.7)
        inside = centre[0] + rng.uniform(-3, 3), centre[1] + rng.uniform(-3, 3)
        nucleus = blob(rng, self.size, inside, (rng.uniform(9, 13), rng.uniform(10, 15)), 0.06)
        canvas.paint(nucleus & outline, core, NUCLEUS)
        for _ in range(rng.integers(1, 4)):
            spot = inside[0] + rng.uniform(-4, 4), inside[1] + rng.uniform(-4, 4)
            canvas.paint(blob(rng, self.size, spot, (2.2, 2.2), 0) & nucleus, core * 0.5)

    def _bubble(self, rng: Rng, canvas: Canvas) -> None:
        r = rng.uniform(8, 17)
        u, v = frame(self.size, (rng.uniform(0, 108), rng.uniform(0, 108)), (r, r))
        radius = np.hypot(u, v)
        inner = canvas.image * 0.4 + 0.6 * canvas.image.mean((0, 1)) + 0.06
        canvas.paint(radius < 1, inner, BUBBLE)
        canvas.paint((radius < 1) & (radius > 1 - 2.5 / r), np.full(3, rng.uniform(0, 0.15)))
        canvas.paint(np.hypot(u + 0.35, v + 0.35) < 0.2, np.full(3, 0.95))

    def _debris(self, rng: Rng, canvas: Canvas) -> None:
        cy, cx = rng.uniform(8, 100, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        radii = rng.uniform(6, 14, 7)
        points = [
            (cx + r * np.cos(a), cy + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)
        ]
        facets = tint(rng, (noise(rng, self.size, 5) > 0.5) + 0.0, (0.35, 0.6))
        canvas.paint(polygon(self.size, points), facets, DEBRIS)

    def _fibre(self, rng: Rng, canvas: Canvas) -> None:
        x = np.linspace(-5, 113, 12)
        y = rng.uniform(10, 98) + rng.uniform(-0.6, 0.6) * (x - 54) + 7 * np.sin(x / 14)
        points = list(zip(x, y, strict=True))
        if rng.random() < 0.5:
            points = [(b, a) for a, b in points]
        width = int(rng.integers(6, 9))
        outer, inner = stroke(self.size, points, width), stroke(self.size, points, width - 4)
        canvas.paint(outer, colour(rng, 0.1, 0.6), FIBRE)
        canvas.paint(inner, colour(rng, 0.4, 0.95))
