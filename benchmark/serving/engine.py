"""Which images pass together, and the passes: what the one computing thread does."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmark.engine.evaluate import input_sizes
from benchmark.inference.mixed import MixedBackbone, NotShared
from benchmark.inference.predictor import Predictor
from benchmark.inference.tasks import Tasks


class Key(NamedTuple):
    """Images with an equal one may pass together.

    Attributes:
        group: of tasks on one backbone, in one precision; or the name of a task that passes alone.
        shape: height and width of the network input.
    """

    group: int | str
    shape: tuple[int, int]


class Engine:
    """Passes of images of any tasks.

    Args:
        tasks: that are served; none is added later.

    Attributes:
        tasks: the same.
        alone: why images of a task do not pass beside those of others, by task.
    """

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.alone: dict[str, str] = {}
        self._mixed: list[MixedBackbone] = []
        self._group: dict[str, int] = {}
        groups: dict[tuple[int, str], int] = {}
        for name, predictor in tasks.items():
            shared = tasks.backbone_of(name)
            key = id(shared), predictor.precision
            if key not in groups:
                groups[key] = len(self._mixed)
                self._mixed.append(MixedBackbone(shared, predictor.precision))
            try:
                self._mixed[groups[key]].add(name, predictor)
            except NotShared as reason:
                self.alone[name] = str(reason)
            else:
                self._group[name] = groups[key]

    def key(self, name: str, image: np.ndarray) -> Key:
        """What an image may pass together with."""
        predictor = self.tasks[name]
        _, (height, width) = input_sizes(predictor.segmenter, predictor.scale, image.shape)
        whole = height * width <= _largest(predictor)
        return Key(self._group.get(name, name) if whole else name, (height, width))

    def fits(self, key: Key, count: int) -> bool:
        """Whether so many images of a key may pass together.

        Together they may have as many pixels as a single image that passes whole: that bounds the
        memory of a pass.
        """
        if isinstance(key.group, str):
            return count == 1
        names = (name for name, group in self._group.items() if group == key.group)
        most = min(_largest(self.tasks[name]) for name in names)
        return count == 1 or count * key.shape[0] * key.shape[1] <= most

    def masks(self, key: Key, images: Sequence[tuple[str, np.ndarray]]) -> list[np.ndarray]:
        """The class of every pixel, (H, W) uint8, of images (task and pixels) with one key."""
        if isinstance(key.group, str):
            return [self.tasks[name].predict_array(image) for name, image in images]
        coarse = self._mixed[key.group].coarse(images)
        return [
            self.tasks[name].labels(logits, image.shape[:2])
            for (name, image), logits in zip(images, coarse, strict=True)
        ]


def _largest(predictor: Predictor) -> int:
    """Pixels of the largest network input that passes whole, not by windows."""
    side = predictor.segmenter.backbone.fixed_side
    return side * side if side else predictor.protocol.eval_max_pixels
