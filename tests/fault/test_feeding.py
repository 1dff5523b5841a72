"""Runs with fixed views: the same with and without what the cache knows of frozen stages."""

import resource

import numpy as np
import pytest

from benchmark.data.batches import draws, view_of
from benchmark.engine import feature_cache
from benchmark.planning.plan import plan
from tests.helpers.tiny import run, same, select

pytestmark = pytest.mark.usefixtures("tiny", "strange")


@pytest.fixture
def computed(monkeypatch):
    """Sizes of the batches for which frozen stages were computed."""
    calls, real = [], feature_cache.compute

    def compute(backbone, images, depth):
        calls.append(len(images))
        return real(backbone, images, depth)

    monkeypatch.setattr(feature_cache, "compute", compute)
    return calls


def counts(root, cell):
    with np.load(root / cell.folder / "images.npz") as arrays:
        return {key: arrays[key] for key in arrays}


@pytest.mark.parametrize(
    "methods", ["linear", "partial", pytest.param("spm[placement=1+2+3]", marks=pytest.mark.slow)]
)
def test_a_run_is_the_same_with_and_without_the_cache(tmp_path, monkeypatch, methods):
    chosen = select(methods, views=2)
    (cell,) = plan(chosen)
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    (record,) = run(tmp_path / "without", chosen)
    assert record.execution.known_stages == 0
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    for name in ("fills", "finds"):
        (record,) = run(tmp_path / name, chosen)
        assert record.execution.known_stages > 0
        same(tmp_path / name, tmp_path / "without", cell)


@pytest.mark.slow
def test_methods_and_seeds_share_what_is_known(tmp_path, monkeypatch, computed):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "a", select("linear", views=1, steps=40))
    assert len(computed) > 1
    computed.clear()
    run(tmp_path / "b", select("linear,spm[placement=2]", seeds=(1,), views=1, steps=40))
    # Only what tells the shapes: every image was seen.
    assert computed == [1, 1]


def test_without_views_nothing_is_kept(tmp_path, monkeypatch, computed):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    (record,) = run(tmp_path / "a", select("linear"))
    assert record.execution.known_stages == 0 and not computed
    assert not list((tmp_path / "cache").glob("prefix-*"))


@pytest.mark.slow
def test_other_crops_and_other_views_are_other_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    for sizes in (
        {"views": 1},
        {"views": 2},
        {"views": 1, "crop": 48},
        {"views": 1, "flip": False},
    ):
        run(tmp_path / "r", select("linear", **{"views": 1, **sizes}))
    assert len(list((tmp_path / "cache").glob("views-*.npz"))) == 4
    assert len(list((tmp_path / "cache").glob("prefix-*.npz"))) == 16


def test_a_cache_without_room_is_told_and_the_run_is_the_same(tmp_path, monkeypatch):
    chosen = select("linear", views=2)
    (cell,) = plan(chosen)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "with", chosen)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("BENCHMARK_CACHE_LIMIT", "0")
    with pytest.warns(UserWarning, match="computed at each use.*room"):
        (record,) = run(tmp_path / "without", chosen)
    assert record.execution.known_stages == 0
    same(tmp_path / "with", tmp_path / "without", cell)


def test_a_disk_that_fills_up_does_not_end_the_run(tmp_path, monkeypatch):
    chosen = select("linear", views=2)
    (cell,) = plan(chosen)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    run(tmp_path / "first", select("linear"))
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = feature_cache.Rows.write

    def write(self, number, row):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, former[1]))
        try:
            real(self, number, row)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)

    monkeypatch.setattr(feature_cache.Rows, "write", write)
    with pytest.warns(UserWarning, match="computed at each use"):
        (record,) = run(tmp_path / "full", chosen)
    assert record.status == "done"
    monkeypatch.undo()
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    run(tmp_path / "calm", chosen)
    same(tmp_path / "full", tmp_path / "calm", cell)


def test_a_run_that_was_stopped_goes_on_with_the_same_batches(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    chosen = select("spm[placement=1+2+3]", views=2, steps=5)
    (cell,) = plan(chosen)
    run(tmp_path / "calm", chosen)
    for _ in range(3):
        (record,) = run(tmp_path / "again", chosen, max_seconds=0.001, retry="all")
        assert record.status == "timeout"
    (record,) = run(tmp_path / "again", chosen, retry="all")
    assert record.execution.resumed_at == (1, 2, 3)
    same(tmp_path / "again", tmp_path / "calm", cell)


def test_views_are_the_same_for_every_seed_and_differ_from_each_other():
    assert view_of("a", 0) == view_of("a", 0)
    assert len({view_of(id, view) for id in "ab" for view in range(3)}) == 6
    drawn = [next(draws(8, 8, seed, views=3)) for seed in (0, 1)]
    assert {crop.view for crops in drawn for crop in crops} == {0, 1, 2}
    assert all(crop.place is None for crops in drawn for crop in crops)
    orders = [[crop.example for crop in crops] for crops in drawn]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8)) and orders[0] != orders[1]
