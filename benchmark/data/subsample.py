"""A share of the training images in which rare classes keep their share, too."""

import numpy as np

from benchmark.core.seeding import stream
from benchmark.data.examples import Examples, Part


def take(examples: Examples, fraction: float, seed: int) -> Examples:
    """A share of a split, drawn from the stream `fraction` of a run's seed.

    The shares of a seed are nested: the images of 0.1 are among those of 0.25, so that a curve
    over fractions adds images and changes none.

    Args:
        examples: the whole split.
        fraction: in (0, 1]; at least one image is taken.
        seed: of the run.
    """
    if fraction == 1:
        return examples
    count = max(1, round(fraction * len(examples)))
    order = stratified_order(examples.presence, stream(seed, "fraction"))
    return Part(examples, np.sort(order[:count]))


def stratified_order(presence: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An order of images each beginning of which holds about the same share of every class.

    Greedy, after iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011): the
    next image is a random one of those with the class of which the smallest share was taken so
    far; of two such classes, the rarer. Images without any class come last.

    Args:
        presence: (N, K) bool, whether a class has a pixel in an image.
        random: breaks ties.

    Returns:
        (N,) int64, a permutation.
    """
    shuffled = random.permutation(len(presence))
    totals = presence.sum(0)
    waiting = [list(shuffled[presence[shuffled, k]][::-1]) for k in range(presence.shape[1])]
    taken = np.zeros(len(presence), bool)
    counts = np.zeros_like(totals)
    order: list[int] = []
    while True:
        share = np.where(counts < totals, counts / np.maximum(totals, 1), np.inf)
        if not np.isfinite(share).any():
            break
        rarest = np.lexsort((totals, share))[0]
        image = waiting[rarest].pop()
        while taken[image]:
            image = waiting[rarest].pop()
        taken[image] = True
        counts += presence[image]
        order.append(int(image))
    rest = shuffled[~taken[shuffled]]
    return np.concatenate([np.array(order, np.int64), rest])
