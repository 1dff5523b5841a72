"""Resamples the test images of a benchmark: one draw for all methods and seeds.

Because every run sees the same draws, differences of runs are paired by image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.analysis.uncertainty.samples import Block, Counts, images, problem
from benchmark.core.seeding import stream

Floats = NDArray[np.float64]

_CHUNK = 8_000_000
"""Sums of counts that are held at once (32 MB each for intersection and union)."""

_WEIGHTS = 4_000_000
"""Weights of images that `bootstrap` holds at once (32 MB)."""

_SAME = 1e-5
"""MIoU by which counts may differ from their record: the rounding of single precision."""


@dataclass(frozen=True)
class Resampled:
    """A block, and its scores on resampled test images.

    Attributes:
        block: scores of methods x seeds.
        images: N, number of labelled test images; 0 where they cannot be resampled.
        drawn: (M, L, B) mIoU in each replicate; NaN for runs without usable counts.
        problems: run and reason, for the runs without.
    """

    block: Block
    images: int
    drawn: NDArray[np.float32]
    problems: list[tuple[str, str]]

    @cached_property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance (M, M) of the methods' means that the choice of images alone makes.

        That of the replicates, less what seeds x images add to it, which goes down with the number
        of seeds and is part of their variance (see `estimate`); it is unknown for a method with one
        run. NaN for methods without any usable run.
        """
        methods, _, replicates = self.drawn.shape
        usable = np.isfinite(self.drawn[:, :, 0])
        runs = usable.sum(1)
        drawn = np.where(usable[:, :, None], self.drawn, 0).astype(float)
        with np.errstate(invalid="ignore"):
            means = drawn.sum(1) / runs[:, None]
        centred = means - means.mean(1, keepdims=True)
        apart = np.where(usable[:, :, None], drawn - means[:, None], 0)
        apart = (apart - apart.mean(2, keepdims=True)).reshape(methods, -1)
        paired = (usable[:, None] == usable[None]).all(2) & (runs > 1)
        # Sums of so few methods are over before the threads of a matrix product have met.
        interaction = np.einsum("ab,cb->ac", apart, apart) / np.maximum(runs * (runs - 1), 1)
        total = centred @ centred.T - np.where(paired, interaction, 0)
        # Drawn from N images, a mean varies too little by (N - 1) / N.
        return total / (replicates - 1) * self.images / max(self.images - 1, 1)


def resample(block: Block, root: Path, replicates: int) -> Resampled:
    """Draws the images of a block with replacement.

    The random stream is named by the benchmark and the ids of its images, so the same images give
    the same draws in every report. Runs whose counts do not add up to the mIoU of their record are
    left out.

    Args:
        block: of `samples.blocks`.
        root: the results folder.
        replicates: B.
    """
    drawn = np.full((*block.miou.shape, replicates), np.nan, dtype=np.float32)
    found = images(block, root)
    problems, count = list(found.problems), len(found.ids)
    if count < 2:
        if found.runs:
            problems.append(("every run", "a single test image cannot be resampled"))
        return Resampled(block, 0, drawn, problems)
    once = np.ones((1, count), dtype=np.float32)
    weights = np.vstack([once, draw_images(block.benchmark, found.ids, replicates)])
    at_once = max(1, _CHUNK // (replicates * found.present.shape[1]))
    for start in range(0, len(found.runs), at_once):
        places, counts = [], []
        for place, source in found.runs[start : start + at_once]:
            try:
                counts.append(source.counts())
                places.append(place)
            except Exception as error:  # a torn archive makes its reader raise almost anything
                problems.append(problem(block, place, error))
        for place, values in zip(places, mious(weights, found.present, counts), strict=True):
            if abs(values[0] - block.miou[place]) < _SAME:
                drawn[place] = values[1:]
            else:
                what = f"its counts give {values[0]:.4f}, its record {block.miou[place]:.4f}"
                problems.append(problem(block, place, ValueError(what)))
    usable = bool(np.isfinite(drawn[..., 0]).any())
    return Resampled(block, count if usable else 0, drawn, problems)


def draw_images(benchmark: str, ids: NDArray[np.str_], replicates: int) -> NDArray[np.float32]:
    """How often each replicate draws each image: (B, N), rows sum to N."""
    count = len(ids)
    random = stream(0, "images", benchmark, *ids.tolist())
    return _draw(random, count, replicates).astype(np.float32)


def bootstrap(
    counts: NDArray[Any], statistic: Callable[[Floats], Floats], replicates: int, seed: int = 0
) -> Floats:
    """A statistic of counts that are summed over images drawn with replacement.

    Args:
        counts: (N, C) of the images; columns of the same replicate are paired by image.
        statistic: (B, C) sums to (B,) values.
        replicates: B.
        seed: of the draws.

    Returns:
        (B,).
    """
    random = np.random.default_rng(seed)
    table = counts.astype(float)
    at_once = max(1, _WEIGHTS // len(table))
    sizes = [min(at_once, replicates - start) for start in range(0, replicates, at_once)]
    sums = (_draw(random, len(table), size).astype(float) @ table for size in sizes)
    return np.concatenate([statistic(one) for one in sums])


def _draw(random: np.random.Generator, count: int, replicates: int) -> NDArray[np.int64]:
    return random.multinomial(count, np.full(count, 1 / count), replicates)


def mious(
    weights: NDArray[np.float32], present: NDArray[np.bool_], counts: list[Counts]
) -> NDArray[np.float32]:
    """MIoU of each run in each replicate, over the classes that its drawn labels contain.

    Sums are of non-negative numbers, so single precision keeps six digits of them, three more than
    a thousand replicates resolve.

    Args:
        weights: (B, N) how often each image is drawn.
        present: (N, K) whether an image has labelled pixels of a class.
        counts: R runs.

    Returns:
        (R, B).
    """
    if not counts:
        return np.zeros((0, len(weights)), dtype=np.float32)
    classes = present.shape[1]
    intersection = weights @ np.concatenate([pair[0] for pair in counts], axis=1)
    union = weights @ np.concatenate([pair[1] for pair in counts], axis=1)
    # A union of no pixel has no intersection, either: 0 / 1 is left out below, or counts as 0.
    np.maximum(union, 1, out=union)
    np.divide(intersection, union, out=intersection)
    drawn = (weights @ present.astype(np.float32)) > 0
    share = drawn / drawn.sum(1, keepdims=True, dtype=np.float32)
    iou = intersection.reshape(len(weights), len(counts), classes)
    return (iou @ share[:, :, None])[..., 0].T
