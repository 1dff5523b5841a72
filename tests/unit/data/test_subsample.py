import numpy as np
import pytest

from benchmark.data.base import Example
from benchmark.data.examples import Examples
from benchmark.data.subsample import stratified_order, take

pytestmark = pytest.mark.no_torch


class Fixed(Examples):
    def __init__(self, presence):
        self.presence, self.sha256 = presence, "0"
        self.ids = [str(i) for i in range(len(presence))]

    def at(self, index):
        return Example(self.ids[index], np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))


def some(n=400, seed=0):
    """Presence of one common, three usual and two rare classes."""
    random = np.random.default_rng(seed)
    return Fixed(random.random((n, 6)) < (1, 0.5, 0.4, 0.3, 0.04, 0.02))


def test_everything_is_the_split_itself():
    examples = some()
    assert take(examples, 1, 0) is examples


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_keeps_its_share(fraction, seed):
    examples = some(seed=seed)
    part = take(examples, fraction, seed)
    assert len(part) == round(fraction * len(examples))
    totals = examples.presence.sum(0)
    off = np.abs(part.presence.sum(0) - fraction * totals)
    assert (off <= 2 + 0.03 * totals).all(), off  # give or take two images
    # A plain draw misses a rare class outright about every other time at 5 %.
    assert part.presence.any(0).all()


def test_classes_keep_their_share_better_than_by_a_plain_draw():
    off, plain = [], []
    for seed in range(20):
        examples = some(seed=seed)
        goal = 0.1 * examples.presence.sum(0)
        off.append(np.abs(take(examples, 0.1, seed).presence.sum(0) - goal))
        drawn = np.random.default_rng(seed).permutation(400)[:40]
        plain.append(np.abs(examples.presence[drawn].sum(0) - goal))
    assert np.mean(off) < 0.6 * np.mean(plain)


def test_the_shares_of_a_seed_are_nested_and_those_of_another_differ():
    examples = some()
    small, large = (set(take(examples, f, 3).ids) for f in (0.1, 0.3))
    assert small < large
    assert small != set(take(examples, 0.1, 4).ids)
    assert take(examples, 0.1, 3).ids == take(examples, 0.1, 3).ids


def test_a_part_is_in_the_order_of_the_split():
    part = take(some(), 0.2, 0)
    numbers = [int(id) for id in part.ids]
    assert numbers == sorted(numbers)
    assert [example.id for example in part] == part.ids


def test_at_least_one_image():
    assert len(take(some(n=5), 0.01, 0)) == 1


def test_images_without_a_class_come_last():
    presence = np.array([[0, 0], [1, 0], [0, 0], [0, 1], [1, 1]], bool)
    order = stratified_order(presence, np.random.default_rng(0))
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert set(order[-2:]) == {0, 2}
