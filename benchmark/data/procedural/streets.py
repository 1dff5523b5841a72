"""Streets seen from a car: houses and trees, a road in perspective, cars and people on it."""

import numpy as np

from benchmark.data.base import register
from benchmark.data.procedural.scene import Canvas, Procedural
from benchmark.data.procedural.textures import (
    Rng,
    blob,
    colour,
    frame,
    grid,
    noise,
    polygon,
    tiles,
    tint,
)

SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON = range(7)


@register("streets")
class Streets(Procedural):
    """Street scenes of 96x120 px."""

    title = "Generated street scenes"
    domain = "driving"
    classes = ("sky", "building", "road", "pavement", "tree", "car", "person")
    size = (96, 120)

    def draw(self, rng: Rng) -> Canvas:
        """Paints one street from far to near."""
        h, w = self.size
        y, x = grid(self.size)
        sky = 0.6 * noise(rng, self.size, 40, stretch=2) + 0.4 * y / h
        canvas = Canvas(tint(rng, sky, (0.1, 0.25)))
        horizon = int(rng.integers(40, 54))
        self._houses(rng, canvas, horizon)
        vanish = rng.uniform(0.3, 0.7) * w
        left, right = rng.uniform(-30, 25), w + rng.uniform(-25, 30)
        ground = y > horizon
        depth = np.maximum(y - horizon, 0) + 14
        slabs = tiles((x - vanish) / depth * 40, 900 / depth, 11, 5, 0.5) < 0.9
        canvas.paint(ground, tint(rng, slabs + 0.0, (0.22, 0.4)), PAVEMENT)
        road = polygon(
            self.size, [(vanish - 10, horizon), (vanish + 10, horizon), (right, h), (left, h)]
        )
        canvas.paint(road & ground, tint(rng, noise(rng, self.size, 1.5), (0.12, 0.22)), ROAD)
        middle = (vanish + (y - horizon) / (h - horizon) * ((left + right) / 2 - vanish)) - x
        dashes = (np.abs(middle) < 0.035 * (y - horizon)) & (400 / depth % 4 < 2)
        canvas.paint(dashes & road & ground, colour(rng, 0.8, 1.0, 0.3))
        for _ in range(rng.integers(1, 4)):
            side = rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)]) * w
            self._tree(rng, canvas, (horizon + rng.uniform(0, 16), side))
        for foot in sorted(rng.uniform(horizon + 12, h + 4, rng.integers(2, 5))):
            near = (foot - horizon) / (h - horizon)
            if rng.random() < 0.5:
                self._car(rng, canvas, foot, vanish + rng.uniform(-0.4, 0.4) * w * near, near)
            else:
                side = rng.choice([rng.uniform(0.03, 0.3), rng.uniform(0.7, 0.97)])
                self._person(rng, canvas, foot, side * w, near)
        return canvas

    def _houses(self, rng: Rng, canvas: Canvas, horizon: int) -> None:
        y, x = grid(self.size)
        edge = -rng.uniform(0, 15)
        while edge < self.size[1]:
            width, top = rng.uniform(26, 48), rng.uniform(4, horizon - 20)
            long, high = rng.uniform(8, 12), rng.uniform(9, 13)
            panes = tiles(x - edge, y - top, long, high, 0) > rng.uniform(2.2, 3)
            wall = (x >= edge) & (x < edge + width) & (y > top) & (y <= horizon)
            if rng.random() < 0.85:
                canvas.paint(wall, tint(rng, panes + 0.0, (0.3, 0.5)), BUILDING)
            edge += width

    def _tree(self, rng: Rng, canvas: Canvas, foot: tuple[float, float]) -> None:
        y, x = grid(self.size)
        tall, r = rng.uniform(24, 36), rng.uniform(12, 19)
        trunk = (np.abs(x - foot[1]) < 2) & (y < foot[0]) & (y > foot[0] - tall)
        canvas.paint(trunk, colour(rng, 0.1, 0.4), TREE)
        crown = blob(rng, self.size, (foot[0] - tall, foot[1]), (r, r * 0.85), 0.15)
        leaves = noise(rng, self.size, 4.5, 2) ** 1.5
        canvas.paint(crown, tint(rng, leaves, (0.5, 0.8)), TREE)

    def _car(self, rng: Rng, canvas: Canvas, foot: float, x: float, near: float) -> None:
        half = 9 + 17 * near
        u, v = frame(self.size, (foot - half * 0.55, x), (half * 0.55, half))
        body = (np.abs(u) < 1) & (v > -0.15) & (v < 0.75)
        cabin = (v > -1) & (v <= -0.15) & (np.abs(u) < 0.72 + 0.2 * v)
        canvas.paint(body | cabin, colour(rng, 0.2, 0.95, 0.9), CAR)
        panes = cabin & (v > -0.85) & (np.abs(u) > 0.06) & (np.abs(u) < 0.58 + 0.2 * v)
        canvas.paint(panes, colour(rng, 0.05, 0.95, 0.2))
        for side in (-0.6, 0.6):
            wheel = np.hypot(u - side, (v - 0.7) * 0.55)
            canvas.paint(wheel < 0.24, np.full(3, 0.08), CAR)
            canvas.paint(wheel < 0.11, np.full(3, 0.6))

    def _person(self, rng: Rng, canvas: Canvas, foot: float, x: float, near: float) -> None:
        half = 14 + 14 * near
        u, v = frame(self.size, (foot - half, x), (half, half * 0.4))
        legs = (v > 0.15) & (v < 1) & (np.abs(np.abs(u) - 0.38) < 0.27)
        trunk = (v > -0.62) & (v <= 0.2) & (np.abs(u) < 0.95 - 0.3 * (v + 0.6))
        head = np.hypot(u * 0.4, v + 0.81) < 0.19
        for part in (legs, trunk, head):
            canvas.paint(part, colour(rng, 0.1, 0.95, 0.8), PERSON)
