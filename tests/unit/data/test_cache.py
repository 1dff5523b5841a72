"""The cache of decoded splits: same values, built once, rebuilt when anything changes."""

import multiprocessing
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from benchmark.core.errors import DataError, UserError
from benchmark.data import cache
from benchmark.data.base import IGNORE, Benchmark, read_example
from benchmark.data.batches import at_working_scale
from benchmark.data.cache import open_split
from benchmark.data.examples import Direct, Mapped

N = 6


class Files(Benchmark):
    """Images of several sizes in a folder; counts how often it reads."""

    name, classes = "files", ("a", "b", "c")
    reads = 0

    def ids(self, split):
        return [f"{split}{i}" for i in range(N)]

    def files(self, id):
        return (self.root / f"{id}.png",)

    def read(self, id):
        type(self).reads += 1
        pixels = np.array(Image.open(self.files(id)[0]))
        return pixels, pixels[..., 0] % 3

    def scale(self, height, width):
        return 0.5


@pytest.fixture
def files(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(N):
            pixels = random.integers(0, 256, (8 + i, 20 - i, 3), dtype=np.uint8)
            (tmp_path / "data").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / f"{split}{i}.png")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SPARE_BYTES", 0)
    monkeypatch.setattr(Files, "reads", 0)
    return Files(tmp_path / "data")


def same(a, b):
    assert a.id == b.id
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.label, b.label)


def test_what_is_read_is_what_was_decoded(files):
    examples = open_split(files, "test")
    assert isinstance(examples, Mapped) and len(examples) == N
    for id, example in zip(files.ids("test"), examples, strict=True):
        same(example, read_example(files, id))
    same(examples[-1], examples[N - 1])
    assert [e.id for e in examples[1:3]] == ["test1", "test2"]
    with pytest.raises(IndexError):
        examples[N]


def test_training_images_are_kept_at_working_scale(files):
    for id, example in zip(files.ids("train"), open_split(files, "train", True), strict=True):
        same(example, at_working_scale(files, read_example(files, id)))


def test_a_second_opening_decodes_nothing(files):
    first = open_split(files, "test")
    reads = Files.reads
    again = open_split(files, "test")
    assert Files.reads == reads
    assert again.sha256 == first.sha256
    assert again.ids == first.ids
    np.testing.assert_array_equal(again.presence, first.presence)


def test_presence_is_of_the_native_label(files):
    found = open_split(files, "train", True).presence
    expected = [
        [(read_example(files, id).label == k).any() for k in range(3)] for id in files.ids("train")
    ]
    np.testing.assert_array_equal(found, expected)


def test_a_changed_file_makes_another_entry(files):
    before = open_split(files, "test")
    path = files.files("test3")[0]
    status = path.stat()
    Image.fromarray(np.array(Image.open(path))[::-1]).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = open_split(files, "test")
    assert after.sha256 != before.sha256
    same(after[3], read_example(files, "test3"))


def test_another_version_of_the_set_makes_another_entry(files, monkeypatch):
    open_split(files, "test")
    reads = Files.reads
    monkeypatch.setattr(Files, "fingerprint", "2")
    open_split(files, "test")
    assert Files.reads > reads


def test_the_fingerprint_is_of_pixels_not_of_times(files):
    before = open_split(files, "test").sha256
    for id in files.ids("test"):
        os.utime(files.files(id)[0], ns=(1, 1))
    assert open_split(files, "test").sha256 == before


def test_without_a_cache_values_are_the_same(files, monkeypatch, tmp_path):
    kept = open_split(files, "test")
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    direct = open_split(files, "test")
    assert isinstance(direct, Direct)
    for a, b in zip(kept, direct, strict=True):
        same(a, b)
    for known in ("presence", "has_void", "levels"):
        np.testing.assert_array_equal(getattr(direct, known), getattr(kept, known))
    assert direct.sha256.startswith("files:")


def test_without_a_cache_the_classes_are_those_of_the_native_label(files, monkeypatch):
    # A small class may be gone at half the size; what a fraction takes must not hang on that.
    kept = open_split(files, "train", scaled=True).presence
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    monkeypatch.setattr(Files, "scale", lambda *_: 0.1)
    np.testing.assert_array_equal(open_split(files, "train", scaled=True).presence, kept)


def test_a_set_that_does_not_name_its_files_is_not_cached(files, monkeypatch):
    monkeypatch.setattr(Files, "files", Benchmark.files)
    monkeypatch.setattr(
        Files, "read", lambda self, id: (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    )
    assert isinstance(open_split(files, "test"), Direct)


def test_two_roots_share_no_entry(files, tmp_path):
    """Not even with equal names, sizes and times, as archives unpack them."""
    other = Files(tmp_path / "other")
    other.root.mkdir()
    for path in files.root.iterdir():
        pixels = np.array(Image.open(path))
        Image.fromarray(255 - pixels).save(other.root / path.name, compress_level=0)
        Image.fromarray(pixels).save(path, compress_level=0)
        os.utime(path, ns=(1, 1))
        os.utime(other.root / path.name, ns=(1, 1))
    ours, theirs = open_split(files, "test"), open_split(other, "test")
    same(ours[2], read_example(files, "test2"))
    same(theirs[2], read_example(other, "test2"))
    assert ours.sha256 != theirs.sha256


@pytest.mark.parametrize("damage", ["index", "data", "no index", "foreign"])
def test_a_damaged_entry_is_built_again(files, damage, tmp_path):
    first = open_split(files, "test")
    index = first.path.with_suffix(".npz")
    if damage == "index":
        os.truncate(index, index.stat().st_size // 2)
    elif damage == "data":
        os.truncate(first.path, first.path.stat().st_size // 2)
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text("not an archive")
    again = open_split(files, "test")
    assert again.sha256 == first.sha256
    for id, example in zip(files.ids("test"), again, strict=True):
        same(example, read_example(files, id))


def test_a_split_over_the_limit_is_decoded_at_each_use(files, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE_LIMIT", "0.0000001")
    with pytest.warns(UserWarning, match=r"cannot take it .*BENCHMARK_CACHE") as caught:
        examples = open_split(files, "test")
    assert isinstance(examples, Direct)
    assert "\n" not in str(caught[0].message)


def test_at_the_limit_the_oldest_entry_goes(files, monkeypatch):
    test = open_split(files, "test")
    os.utime(test.path.with_suffix(".npz"), (1, 1))
    train = open_split(files, "train")
    need = train.path.stat().st_size
    monkeypatch.setenv("BENCHMARK_CACHE_LIMIT", str(2.2 * need / 2**30))
    open_split(files, "train", True)
    assert train.path.exists() and not test.path.exists()
    # Who waits for a lock that was removed holds another than who comes later.
    assert test.path.with_name(f"{test.path.name}.lock").exists()
    same(test[0], read_example(files, "test0"))  # still mapped by whoever holds it


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_told(files, monkeypatch, text):
    monkeypatch.setenv("BENCHMARK_CACHE_LIMIT", text)
    with pytest.raises(UserError, match="write a number of GiB"):
        open_split(files, "test")


def test_a_folder_that_cannot_be_made_is_no_obstacle(files, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot take it"):
        assert len(open_split(files, "test")) == N


def test_a_full_disk_is_no_obstacle_and_leaves_nothing(files, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert isinstance(open_split(files, "test"), Direct)
    left = {path.suffix for path in (tmp_path / "cache").iterdir()}
    assert left == {".lock"}


def test_what_a_killed_process_left_is_removed(files, tmp_path):
    (tmp_path / "cache").mkdir()
    left = [
        tmp_path / "cache" / name
        for name in ("files-test-0123.bin.99.tmp", "files-test-0123.bin", "files-val-4.bin")
    ]
    for path in left:
        path.write_bytes(b"half")
    kept = open_split(files, "test")
    open_split(files, "train")
    assert not any(path.exists() for path in left)
    assert kept.path.exists()


def test_what_somebody_builds_is_left_alone(files, tmp_path):
    (tmp_path / "cache").mkdir()
    theirs = tmp_path / "cache" / "files-val-0123.bin.99.tmp"
    theirs.write_bytes(b"half")
    with FileLock(tmp_path / "cache" / "files-val-0123.bin.lock"):
        open_split(files, "test")
    assert theirs.exists()


def test_faults_of_the_data_are_told_and_nothing_is_kept(files, tmp_path):
    path = files.files("test4")[0]
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"test4\.png cannot be read"):
        open_split(files, "test")
    assert not list((tmp_path / "cache").glob("*.npz"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_a_split_that_is_all_void_is_told(files, monkeypatch):
    monkeypatch.setattr(
        Files, "read", lambda *_: (np.zeros((4, 4, 3), "u1"), np.full((4, 4), IGNORE, "u1"))
    )
    with pytest.raises(DataError, match="no pixel of the test split is labelled"):
        open_split(files, "test")


def _count(root: Path, start, queue) -> None:
    start.wait()
    examples = open_split(Files(root), "test")
    queue.put((Files.reads, examples.sha256))


def test_of_several_processes_one_decodes(files):
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=_count, args=(files.root, start, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({sha for _, sha in results}) == 1
    assert sum(reads > 0 for reads, _ in results) == 1


def test_a_worker_gets_the_name_not_the_pixels(files):
    examples = open_split(files, "test")
    sent = pickle.dumps(examples)
    assert len(sent) < examples.path.stat().st_size
    for a, b in zip(pickle.loads(sent), examples, strict=True):
        same(a, b)


def test_the_progress_counts_to_the_end(files):
    told = []
    open_split(files, "test", progress=lambda *what: told.append(what))
    assert told == [("files test", i + 1, N) for i in range(N)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_split(files, "test", progress=lambda *what: told.append(what))
    assert len(told) == N
