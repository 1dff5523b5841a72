"""Forecasts from made-up runs, with the answers worked out by hand."""

import pytest

from benchmark.planning.forecast import (
    START_SECONDS,
    Forecaster,
    forecast,
    side_by_side,
    too_large,
)
from benchmark.planning.plan import Selection, plan
from benchmark.results.index import Entry, summary
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch


def entry(method="linear", benchmark="cells", *, rate=10.0, **fields):
    usual = {
        "run_id": "0",
        "status": "done",
        "backbone": "demo_vit",
        "device": "here",
        "crop": 96,
        "batch_size": 8,
        "memory_bytes": 100,
        "other_seconds": 5.0,
        "disk_bytes": 7,
        "stored_bytes": 6,
    }
    return Entry(method=method, benchmark=benchmark, images_per_second=rate, **(usual | fields))


def cells(methods="linear", benchmarks="cells", **protocol):
    settings = {"steps": 100, "crop": 96, "batch_size": 8} | protocol
    return plan(Selection(methods=methods, benchmarks=benchmarks, protocol=settings))


def expected(runs, **protocol):
    return Forecaster(runs, "here").expected(cells(**protocol)[0])


def test_time_is_training_and_the_rest():
    # 100 steps x 8 images at 10 images/s, and 5 s for evaluation and costs.
    assert expected([entry()]) == (85.0, 100, 7, 6, False)


def test_the_median_decides():
    runs = [entry(rate=rate, memory_bytes=m) for rate, m in ((10, 1), (20, 2), (1000, 300))]
    assert expected(runs)[:2] == (100 * 8 / 20 + 5, 2)


@pytest.mark.parametrize(
    ("nearest", "rate"),
    [
        (entry(rate=40), 40),
        (entry(rate=40, crop=48), 10),  # a quarter of the pixels a step
        (entry(rate=40, device="elsewhere"), 40),
        (entry("lora", rate=40), 40),
        (entry("lora", rate=40, device="elsewhere"), 40),
    ],
)
def test_the_runs_most_alike_decide(nearest, rate):
    # Each is the better basis than all that come after it, and none of another backbone.
    order = [
        entry(rate=40),
        entry(rate=40, crop=48),
        entry(rate=40, device="elsewhere"),
        entry("lora", rate=40),
        entry("lora", rate=40, device="elsewhere"),
    ]
    worse = [run._replace(images_per_second=1.0) for run in order[order.index(nearest) + 1 :]]
    other = entry(backbone="resnet18", rate=1.0)
    seconds = expected([other, *worse, nearest])[0]
    assert seconds == pytest.approx(800 / rate + 5)


def test_the_evaluation_is_that_of_the_same_benchmark():
    runs = [entry(benchmark="streets", other_seconds=60), entry("lora", other_seconds=9)]
    assert expected(runs)[0] == 80 + 9


def test_memory_grows_with_the_pixels_of_a_batch_and_does_not_shrink():
    assert expected([entry()], batch_size=16)[1] == 200
    assert expected([entry()], crop=192)[1] == 400
    assert expected([entry()], crop=48)[1] == 100


def test_cells_without_a_basis_are_counted_and_in_no_sum():
    todo = [*cells(), *cells(benchmarks="streets")]
    total = forecast(todo, Forecaster([], "here"))
    assert (total.cells, total.without_basis, total.device_seconds) == (2, 2, 0)
    total = forecast(todo, Forecaster([entry()], "here"))
    assert (total.without_basis, total.device_seconds, total.disk_bytes) == (0, 170, 14)
    assert total.memory_bytes == 100


def test_another_machine_tells_roughly_what_no_run_here_does():
    (cell,) = cells()
    rough = Forecaster([entry(device="elsewhere", memory_bytes=3)], "elsewhere")
    assert Forecaster([], "here", rough).expected(cell) == (85.0, 3, 7, 6, True)
    assert Forecaster([entry(rate=20)], "here", rough).expected(cell) == (45.0, 100, 7, 6, False)
    other = entry(backbone="resnet18")
    total = forecast([cell], Forecaster([other], "here", rough))
    assert (total.rough, total.without_basis, total.device_seconds) == (1, 0, 85)


def test_a_command_takes_its_longest_process_and_the_start():
    forecaster, todo = Forecaster([entry()], "here"), cells(benchmarks="cells,streets,figures")
    assert side_by_side(todo, forecaster, 1) == START_SECONDS + 3 * 85
    assert side_by_side(todo, forecaster, 2) == START_SECONDS + 2 * 85


def test_what_a_run_needs_and_leaves_is_known_when_it_is_finished():
    half = entry(status="interrupted", memory_bytes=9, disk_bytes=7)
    assert expected([half]).memory_bytes is None and expected([half]).disk_bytes is None
    whole = entry(memory_bytes=90, disk_bytes=70)
    found = expected([half, half, whole])
    assert (found.memory_bytes, found.disk_bytes) == (expected([whole]).memory_bytes, 70)


def test_what_a_method_stores_is_not_told_by_another_one():
    assert expected([entry("lora")]).stored_bytes is None
    assert expected([entry("lora")]).disk_bytes == 7
    assert expected([entry(benchmark="streets")]).stored_bytes is None  # of other classes
    assert expected([entry(stored_bytes=9)]).stored_bytes == 9


def test_failed_runs_tell_nothing():
    failed = summary(record(status="failed", reason="x", backbone="demo_vit"))
    assert expected([failed]) == (None, None, None, None, False)


def test_a_record_tells_speed_and_memory():
    told = summary(
        record(backbone="demo_vit", timings={"train": 50.0, "evaluate": 3.0, "costs": 1.5}), 99
    )
    assert (told.images_per_second, told.other_seconds, told.disk_bytes) == (
        record().costs.train.images_per_second,
        4.5,
        99,
    )
    assert told.memory_bytes == record().costs.train.memory.peak_bytes
    assert told.stored_bytes == record().costs.stored.bytes


def test_what_does_not_fit_is_named_with_what_it_needs():
    runs = [entry(memory_bytes=100), entry("lora", memory_bytes=300)]
    todo = cells("linear,lora")
    found = too_large(todo, Forecaster(runs, "here"), available_bytes=200)
    assert [(cell.method, need) for cell, need in found] == [("lora", 300)]
