import time

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import costs
from benchmark.costs import PeakMemory, _status
from benchmark.data.cache import open_split
from benchmark.data.procedural.scene import Procedural


class Large(Procedural):
    name, classes, title = "large", ("a",), "large"
    counts = Procedural.counts | {"train": 64}

    def read(self, id):
        return np.full((512, 512, 3), int(id[-4:]), np.uint8), np.zeros((512, 512), np.uint8)

    def draw(self, rng):
        raise NotImplementedError


@pytest.mark.skipif(_status("RssFile") is None, reason="needs Linux")
def test_pages_of_the_decoded_data_are_no_memory_of_the_method(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    open_split(Large(), "train")
    examples = open_split(Large(), "train")  # none of whose pages this process has seen
    model = nn.Linear(4, 4)
    peaks = []
    for _ in range(2):
        memory = PeakMemory()
        with memory.measure(model):
            total = sum(int(example.image.sum()) for example in examples)
        peaks.append(memory.bytes)
    assert total > 0
    assert examples.path.stat().st_size == 64 * 2**20
    assert peaks[0] < 2**23 and abs(peaks[0] - peaks[1]) < 2**23, peaks


@pytest.mark.skipif(_status("VmRSS") is None, reason="needs Linux")
@pytest.mark.parametrize("kernel", ["this", "resets no mark", "keeps no mark"])
def test_memory_that_was_needed_counts_though_it_is_free_again(monkeypatch, kernel):
    if kernel == "resets no mark":
        monkeypatch.setattr(costs, "_high_water_mark", lambda: 2**50)
    if kernel == "keeps no mark":
        monkeypatch.setattr(costs, "_high_water_mark", costs._resident)
    memory = costs.PeakMemory()
    with memory.measure(nn.Linear(4, 4)):
        needed = torch.ones(2**26 // 4)
        for _ in range(20):
            needed.sum().item()
            time.sleep(0.01)
        del needed
    assert 0.9 * 2**26 < memory.bytes < 2**30


def test_the_throughput_is_that_of_the_part_of_a_batch_that_fits():
    sizes = []

    def seconds(images):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return 0.5

    assert costs._throughput(seconds, torch.zeros(1, 3, 2, 2), 12) == 6
    assert sizes[:3] == [12, 6, 3] and set(sizes[3:]) == {3}

    def never(images):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        costs._throughput(never, torch.zeros(1, 3, 2, 2), 4)
