"""Workers share the pages of the cache: four take hardly more memory than one."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.spec import Protocol
from benchmark.data.base import Benchmark
from benchmark.data.batches import batches
from benchmark.data.cache import open_split

IMAGES, SIDE = 128, 1024
SIZE = IMAGES * SIDE**2 * 4
"""512 MiB: three bytes a pixel for the image, one for the label."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux"),
]


class Synthetic(Benchmark):
    name, classes, fingerprint = "synthetic", ("a", "b"), "1"

    def ids(self, split):
        return [str(i) for i in range(IMAGES)]

    def read(self, id):
        # A few rows of noise, repeated: quick to make, and no page is like another's.
        rows = np.random.default_rng(int(id)).integers(0, 256, (32, SIDE, 3), dtype=np.uint8)
        image = np.tile(rows, (SIDE // 32, 1, 1))
        return image, image[..., 0] % 2


def memory(pids):
    """Bytes of several processes, a shared page counted once (proportional set size)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return 1024 * total


def peak(workers, queue):
    """Most memory of a process that loads, and of its workers, over a pass through the set."""
    examples = open_split(Synthetic(), "train")
    protocol = Protocol(batch_size=16, crop=512, scale_min=0.5, scale_max=2)
    most, done = 0, threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            most = max(most, memory([os.getpid(), *children]))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    loader = batches(examples, protocol, 0, workers)
    for _ in range(IMAGES // protocol.batch_size):
        next(loader)
    # Before the workers end: a page that changes hands between two readings counts twice.
    done.set()
    watcher.join()
    loader.close()
    queue.put(most)


def test_four_workers_take_little_more_memory_than_one(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    examples = open_split(Synthetic(), "train")
    assert examples.path.stat().st_size == SIZE
    context = multiprocessing.get_context("spawn")
    found = {}
    for workers in (1, 4):
        queue = context.Queue()
        process = context.Process(target=peak, args=(workers, queue))
        process.start()
        found[workers] = queue.get(timeout=600)
        process.join()
    print({workers: f"{bytes_ / 2**20:.0f} MiB" for workers, bytes_ in found.items()})
    assert found[1] > SIZE  # the pages of the set are in it
    # Three more copies would be 1.5 GiB.
    assert found[4] - found[1] < SIZE
