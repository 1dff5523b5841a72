"""Rows in a shared file: written once, whole or missing."""

import multiprocessing
import os
import resource

import numpy as np
import pytest

from benchmark.core.cache_folder import CacheFolder
from benchmark.data.row_cache import create

pytestmark = pytest.mark.no_torch


def row(seed, size=1000):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_a_row_comes_back_and_others_are_missing(tmp_path):
    rows = create(CacheFolder(tmp_path, 2**30), "x", 5, 1000)
    rows.write(3, row(3))
    rows.write(0, np.zeros(1000, np.uint8))
    assert np.array_equal(rows.read(3), row(3))
    assert np.array_equal(rows.read(0), np.zeros(1000, np.uint8))
    assert all(rows.read(number) is None for number in (1, 2, 4))


def test_who_opens_it_later_finds_what_was_written(tmp_path):
    create(CacheFolder(tmp_path, 2**30), "x", 5, 1000).write(2, row(2))
    again = create(CacheFolder(tmp_path, 2**30), "x", 5, 1000)
    assert np.array_equal(again.read(2), row(2))
    # Of another shape nothing is known.
    other = create(CacheFolder(tmp_path, 2**30), "x", 6, 1000)
    assert other.read(2) is None


def _write(folder):
    create(CacheFolder(folder, 2**30), "x", 5, 1000).write(1, row(1))


def test_another_process_sees_a_row_at_once(tmp_path):
    rows = create(CacheFolder(tmp_path, 2**30), "x", 5, 1000)
    assert rows.read(1) is None
    process = multiprocessing.get_context("fork").Process(target=_write, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0 and np.array_equal(rows.read(1), row(1))


@pytest.mark.parametrize("at", [0, 500, 999, 1000, 1003])
def test_a_torn_row_is_missing(tmp_path, at):
    rows = create(CacheFolder(tmp_path, 2**30), "x", 2, 1000)
    rows.write(1, row(1))
    with (tmp_path / "x.bin").open("r+b") as file:
        file.seek(1004 + at)
        byte = file.read(1)[0]
        file.seek(1004 + at)
        file.write(bytes([byte ^ 1]))
    assert rows.read(1) is None
    rows.write(1, row(1))
    assert np.array_equal(rows.read(1), row(1))


def test_what_does_not_fit_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(OSError, match="more than there is room for"):
        create(CacheFolder(tmp_path, 10_000), "x", 100, 1000)
    assert not (tmp_path / "x.bin").exists()


def test_the_oldest_gives_way_at_the_limit(tmp_path):
    where = CacheFolder(tmp_path, 12_000)
    create(where, "a", 5, 1000)
    create(where, "b", 5, 1000)
    os.utime(tmp_path / "a.npz", (1, 1))
    create(where, "c", 5, 1000)
    assert {path.stem for path in tmp_path.glob("*.bin")} == {"b", "c"}


def test_a_full_disk_is_an_error_and_no_end_of_the_process(tmp_path):
    rows = create(CacheFolder(tmp_path, 2**30), "x", 1000, 1000)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, former[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            rows.write(999, row(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert rows.read(999) is None
