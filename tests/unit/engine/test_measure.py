import pytest
import torch

from benchmark.engine import measure


def test_the_throughput_is_that_of_the_part_of_a_batch_that_fits():
    sizes = []

    def seconds(images):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return 0.5

    assert measure._throughput(seconds, torch.zeros(1, 3, 2, 2), 12) == 6
    assert sizes[:3] == [12, 6, 3] and set(sizes[3:]) == {3}

    def never(images):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        measure._throughput(never, torch.zeros(1, 3, 2, 2), 4)
