"""People in clothes before a wall, standing, arms at any angle, some with a bag."""

import numpy as np

from benchmark.data.base import register
from benchmark.data.procedural.scene import Canvas, Procedural
from benchmark.data.procedural.textures import (
    Rng,
    colour,
    frame,
    grid,
    lattice,
    noise,
    stroke,
    tiles,
    tint,
    turned,
    wave,
)

BACKGROUND, SKIN, HAIR, TOP, TROUSERS, SHOES, BAG = range(7)


@register("figures")
class Figures(Procedural):
    """Portraits of 120x96 px; any garment may have any colour and pattern."""

    title = "Generated people in clothes"
    domain = "fashion"
    classes = ("background", "skin", "hair", "top", "trousers", "shoes", "bag")
    size = (120, 96)

    def draw(self, rng: Rng) -> Canvas:
        """Paints the wall, furniture, and the figure from its legs up."""
        canvas = Canvas(self._fabric(rng, (0.05, 0.15)))
        y, x = grid(self.size)
        for _ in range(rng.integers(0, 3)):
            left, width, top = rng.uniform(-10, 90), rng.uniform(12, 30), rng.uniform(20, 90)
            shelf = (x > left) & (x < left + width) & (y > top)
            canvas.paint(shelf, self._fabric(rng, (0.05, 0.15)))
        cx, s = rng.uniform(38, 58), rng.uniform(0.85, 1.05)
        head = (rng.uniform(20, 24), cx + rng.uniform(-3, 3))
        neck, hip, floor = head[0] + 15 * s, head[0] + 50 * s, head[0] + 88 * s
        skin = self._skin(rng)
        spread = rng.uniform(2, 11)
        self._legs(rng, canvas, cx, hip, floor, spread, s)
        self._torso(rng, canvas, cx, (neck, hip), s, skin)
        if rng.random() < 0.6:
            self._bag(rng, canvas, cx + rng.choice([-1, 1]) * 24 * s, hip + rng.uniform(-8, 10), s)
        self._head(rng, canvas, head, s, skin)
        return canvas

    def _fabric(self, rng: Rng, contrast: tuple[float, float] = (0.15, 0.4)) -> np.ndarray:
        u, v = turned(self.size, rng.choice([0, np.pi / 2, np.pi / 4]))
        period = rng.uniform(5, 9)
        patterns = (
            noise(rng, self.size, 40),
            noise(rng, self.size, 2),
            wave(u, period),
            (lattice(u, v, period) < 0.3) + 0.0,
            (tiles(u, v, period * 1.3, period * 1.3, 0) < 1.3) + 0.0,
            noise(rng, self.size, 40),
        )
        return tint(rng, patterns[int(rng.integers(len(patterns)))], contrast)

    def _skin(self, rng: Rng) -> np.ndarray:
        tone = rng.uniform(0.3, 0.95) * np.array([1, rng.uniform(0.68, 0.85), 0.6])
        return tone + 0.06 * (noise(rng, self.size, 16)[..., None] - 0.5)

    def _legs(
        self, rng: Rng, canvas: Canvas, cx: float, hip: float, floor: float, spread: float, s: float
    ) -> None:
        cloth, shoe = self._fabric(rng), colour(rng, 0.05, 0.95, 0.9)
        for side in (-1, 1):
            a, b = (cx + side * 7 * s, hip - 2), (cx + side * (7 * s + spread), floor)
            canvas.paint(stroke(self.size, [a, b], int(14 * s)), cloth, TROUSERS)
            u, v = frame(self.size, (floor, b[0] + side * 3 * s), (8 * s, 11 * s))
            canvas.paint((np.hypot(u, v) < 1) & (v < 0.7), shoe, SHOES)
            canvas.paint((np.abs(u) < 0.9) & (v > 0.45) & (v < 0.75), shoe * 0.4 + 0.3)

    def _torso(
        self,
        rng: Rng,
        canvas: Canvas,
        cx: float,
        span: tuple[float, float],
        s: float,
        skin: np.ndarray,
    ) -> None:
        neck, hip = span
        cloth = self._fabric(rng)
        sleeve = rng.uniform(0.35, 1)
        canvas.paint(stroke(self.size, [(cx, neck - 6), (cx, neck + 5)], int(7 * s)), skin, SKIN)
        for side in (-1, 1):
            shoulder = np.array([cx + side * 13 * s, neck + 5 * s])
            angle = rng.uniform(0.15, 1.1)
            hand = shoulder + 30 * s * np.array([side * np.sin(angle), np.cos(angle)])
            cuff = shoulder + sleeve * 0.9 * (hand - shoulder)
            limb = [(shoulder[0], shoulder[1]), (hand[0], hand[1])]
            canvas.paint(stroke(self.size, limb, int(9 * s)), skin, SKIN)
            arm = [(shoulder[0], shoulder[1]), (cuff[0], cuff[1])]
            canvas.paint(stroke(self.size, arm, int(12 * s)), cloth, TOP)
        u, v = frame(self.size, ((neck + hip) / 2, cx), ((hip - neck) / 2 + 1, 17 * s))
        trunk = (np.abs(v) < 1) & (np.abs(u) < 0.92 - 0.12 * np.cos(2 * v))
        canvas.paint(trunk & (np.hypot(u * 17, (v + 1) * 18) > 7), cloth, TOP)

    def _bag(self, rng: Rng, canvas: Canvas, x: float, y: float, s: float) -> None:
        u, v = frame(self.size, (y, x), (14 * s, 13 * s))
        hide = colour(rng, 0.1, 0.95, 0.9)
        handle = np.hypot(u * 1.5, (v + 0.6) * 1.1)
        canvas.paint((handle < 0.85) & (handle > 0.6) & (v < -0.4), hide * 0.7, BAG)
        sack = (np.abs(v - 0.25) < 0.7) & (np.abs(u) < 0.8 + 0.2 * v)
        canvas.paint(sack, hide, BAG)
        canvas.paint(sack & (np.abs(v - 0.05) < 0.09), hide * 0.45)

    def _head(
        self, rng: Rng, canvas: Canvas, centre: tuple[float, float], s: float, skin: np.ndarray
    ) -> None:
        u, v = frame(self.size, centre, (13 * s, 11 * s))
        strands = noise(rng, self.size[::-1], 1.5, stretch=6).T
        hair = tint(rng, strands, (0.25, 0.45))
        length = rng.uniform(0.2, 2.2)
        mane = (np.hypot(u, np.minimum(v, 0)) < 1.3) & (v < length)
        canvas.paint(mane & (v > -1.35), hair, HAIR)
        face = (np.hypot(u, v) < 1) & (v > -0.5 + 0.15 * np.sin(3 * u))
        canvas.paint(face, skin, SKIN)
        for side in (-0.38, 0.38):
            canvas.paint(np.hypot(u - side, v - 0.02) < 0.13, np.full(3, 0.08))
        canvas.paint((np.abs(u) < 0.35) & (np.abs(v - 0.52) < 0.08), np.array([0.5, 0.15, 0.15]))
