import numpy as np
import pytest

from benchmark.data.base import Example
from benchmark.engine.training_data import TrainingSplit


@pytest.mark.parametrize(
    ("labels", "shares"),
    [([[0, 0, 2, 255], [2, 2, 255, 255]], [0.4, 0, 0.6]), ([[255, 255]], [1 / 3] * 3)],
)
def test_frequencies_are_those_of_the_labelled_pixels(labels, shares):
    label = np.array(labels, np.uint8)
    example = Example("a", np.zeros((*label.shape, 3), np.uint8), label)
    assert TrainingSplit([example], 3).class_frequencies().tolist() == pytest.approx(shares)
