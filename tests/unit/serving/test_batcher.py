"""The queue: what passes together, in which order, and what becomes of errors."""

import threading

import numpy as np
import pytest

from benchmark.serving.batcher import Batcher, Closed, Late
from benchmark.serving.engine import Key

pytestmark = pytest.mark.no_torch

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Engine:
    """Passes of images whose task names what they fit; `open` lets them happen."""

    def __init__(self):
        self.passes, self.open, self.begun = [], threading.Event(), threading.Event()

    def key(self, name, image):
        return Key(name if name == "alone" else 0, image.shape[:2])

    def fits(self, key, count):
        return count == 1 or key.group != "alone"

    def masks(self, key, images):
        self.begun.set()
        assert self.open.wait(10)
        self.passes.append([name for name, _ in images])
        if "wrong" in self.passes[-1]:
            raise RuntimeError("no memory")
        return [image[..., 0] for _, image in images]


@pytest.fixture
def engine():
    return Engine()


def filled(engine, names, most=3, seconds=60.0):
    """A batcher whose thread is at a first image while others come."""
    sizes = []
    batcher = Batcher(engine, most, sizes.append)
    first = batcher.submit("first", IMAGE, 60.0)
    assert engine.begun.wait(10)
    futures = [batcher.submit(name, IMAGE, seconds) for name in names]
    return batcher, [first, *futures], sizes


def test_what_waits_passes_together_and_the_longest_waiting_comes_first(engine):
    names = ["a", "alone", "b", "c", "d", "alone"]
    batcher, futures, sizes = filled(engine, names)
    engine.open.set()
    for future in futures:
        assert future.result(10).shape == (2, 2)
    assert engine.passes == [["first"], ["a", "b", "c"], ["alone"], ["d"], ["alone"]]
    assert sizes == [1, 3, 1, 1, 1]
    batcher.close()


def test_an_error_of_one_image_is_its_own(engine):
    batcher, futures, _ = filled(engine, ["a", "wrong", "b"])
    engine.open.set()
    assert isinstance(futures[2].exception(10), RuntimeError)
    assert all(futures[place].result(10) is not None for place in (0, 1, 3))
    assert batcher.is_alive
    batcher.close()


def test_images_that_nobody_waits_for_any_more_are_not_computed(engine):
    batcher, futures, _ = filled(engine, ["late"], seconds=-1.0)
    gone = batcher.submit("gone", IMAGE, 60.0)
    assert gone.cancel()
    engine.open.set()
    assert isinstance(futures[1].exception(10), Late)
    batcher.close()
    assert engine.passes == [["first"]]


def test_closing_computes_what_waits_and_takes_no_more(engine):
    batcher, futures, _ = filled(engine, ["a", "b"])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    engine.open.set()
    closing.join(10)
    assert all(future.done() and future.exception() is None for future in futures)
    assert not batcher.is_alive
    with pytest.raises(Closed):
        batcher.submit("a", IMAGE, 60.0)
