"""Places names beside points so that nothing covers anything else; deterministic, in pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_RADII = (2.5, 6.0, 11.0, 17.0, 24.0, 32.0, 42.0)  # typographic points beyond the marker
_ANGLES = (0, 90, 270, 180, 45, 315, 135, 225, 20, 340, 160, 200, 65, 115, 245, 295)
_LINE_PENALTY = 14.0  # points of distance that a label goes to stay off a line or another's marker


class Box(NamedTuple):
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def grown(self, by: float) -> "Box":
        """The rectangle with a margin."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share any area."""
        across = self.x0 < other.x1 and other.x0 < self.x1
        return across and self.y0 < other.y1 and other.y0 < self.y1

    def contains(self, other: "Box") -> bool:
        """Whether the other is inside."""
        across = self.x0 <= other.x0 and other.x1 <= self.x1
        return across and self.y0 <= other.y0 and other.y1 <= self.y1

    def hit_by(self, segment: "Segment") -> bool:
        """Whether a segment crosses the rectangle (Liang-Barsky clipping)."""
        (ax, ay), (bx, by) = segment
        enter, leave = 0.0, 1.0
        for start, step, low, high in (
            (ax, bx - ax, self.x0, self.x1),
            (ay, by - ay, self.y0, self.y1),
        ):
            if step == 0:
                if not low <= start <= high:
                    return False
                continue
            near, far = sorted(((low - start) / step, (high - start) / step))
            enter, leave = max(enter, near), min(leave, far)
        return enter <= leave


Point = tuple[float, float]
Segment = tuple[Point, Point]


@dataclass(frozen=True)
class Label:
    """A placed label: its rectangle, and the leader to its point where that is far away."""

    box: Box
    leader: Segment | None


@dataclass(frozen=True)
class Scene:
    """What is on the canvas before the labels.

    Attributes:
        frame: labels stay inside.
        markers: one rectangle a point, in the order of the points.
        obstacles: rectangles that labels may not cover (error bars).
        lines: segments that labels avoid if they can.
        pixel: pixels in a typographic point.
    """

    frame: Box
    markers: Sequence[Box]
    obstacles: Sequence[Box]
    lines: Sequence[Segment]
    pixel: float


def place_labels(sizes: Sequence[Point], scene: Scene) -> list[Label] | None:
    """Finds a place for each label.

    Tries several orders of placing, because the greedy choice for one label can take the only
    place of another, and keeps the order with the least total distance.

    Args:
        sizes: (width, height) of each label in pixels, in the order of `scene.markers`.
        scene: everything to keep clear of.

    Returns:
        One `Label` a point, none overlapping another, a marker or an obstacle; None if some label
        found no place in any order.
    """
    choices = [_candidates(index, size, scene) for index, size in enumerate(sizes)]
    x, y = (np.array([_center(box)[axis] for box in scene.markers]) for axis in (0, 1))
    crowd = [-sum(np.hypot(x - a, y - b) < 40 * scene.pixel) for a, b in zip(x, y, strict=True)]
    orders = [np.argsort(key, kind="stable") for key in (crowd, -y, y, x, -x)]
    found = [result for order in orders if (result := _greedy(order.tolist(), choices, scene))]
    return min(found, key=lambda result: result[0])[1] if found else None


def _greedy(
    order: list[int], candidates: Sequence[list[tuple[float, Label]]], scene: Scene
) -> tuple[float, list[Label]] | None:
    placed: dict[int, Label] = {}
    total = 0.0
    for index in order:
        choices = [
            (cost, rank, label)
            for rank, (cost, label) in enumerate(candidates[index])
            if _free(label, index, placed, scene)
        ]
        if not choices:
            return None
        cost, _, placed[index] = min(choices, key=lambda choice: choice[:2])
        total += cost
    return total, [placed[index] for index in range(len(order))]


def _candidates(index: int, size: Point, scene: Scene) -> list[tuple[float, Label]]:
    """Places around a marker with their costs, nearest ring first."""
    marker, (width, height) = scene.markers[index], size
    x, y = _center(marker)
    reach = (marker.x1 - marker.x0) / 2
    others = [_center(box) for number, box in enumerate(scene.markers) if number != index]
    result = []
    for radius in _RADII:
        distance = reach + radius * scene.pixel
        for angle in _ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The side of the box that faces the marker moves with the direction, so that a label
            # straight above is centred and one to the right starts at the marker.
            left = x + distance * dx - width * (1 - _clip(1.6 * dx, -1, 1)) / 2
            low = y + distance * dy - height * (1 - _clip(1.6 * dy, -1, 1)) / 2
            box = Box(left, low, left + width, low + height)
            end = (_clip(x, box.x0, box.x1), _clip(y, box.y0, box.y1))
            # Beside another's marker a name would be read as the other's, were there no leader.
            own = math.dist(end, (x, y))
            stray = any(_distance(box, other) < own for other in others)
            leader = ((x, y), end) if stray or radius > _RADII[1] else None
            crossed = sum(box.grown(scene.pixel).hit_by(line) for line in scene.lines)
            result.append((radius + _LINE_PENALTY * (crossed + stray), Label(box, leader)))
    return result


def _free(label: Label, index: int, placed: dict[int, Label], scene: Scene) -> bool:
    roomy = label.box.grown(scene.pixel)
    others = [box for other, box in enumerate(scene.markers) if other != index]
    if not scene.frame.contains(roomy) or roomy.overlaps(scene.markers[index]):
        return False
    if any(roomy.overlaps(box) for box in (*others, *scene.obstacles)):
        return False
    for other in placed.values():
        if roomy.overlaps(other.box) or (other.leader and roomy.hit_by(other.leader)):
            return False
        if label.leader and other.box.grown(scene.pixel).hit_by(label.leader):
            return False
        if label.leader and other.leader and _cross(label.leader, other.leader):
            return False
    return not (label.leader and any(box.hit_by(label.leader) for box in others))


def _cross(first: Segment, second: Segment) -> bool:
    def side(a: Point, b: Point, c: Point) -> bool:
        return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = first, second
    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def _distance(box: Box, point: Point) -> float:
    nearest = (_clip(point[0], box.x0, box.x1), _clip(point[1], box.y0, box.y1))
    return math.dist(point, nearest)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _center(box: Box) -> Point:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
