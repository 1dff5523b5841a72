"""When compiling pays, by what earlier runs on the device say."""

import pytest

from benchmark.core.errors import UserError
from benchmark.planning.compile_policy import check, experience, payback
from benchmark.planning.plan import Selection, plan
from benchmark.results.index import Entry

(CELL,) = plan(Selection(methods="lora", benchmarks="cells", seeds=(0,)))


def entry(method="lora", backbone=CELL.backbone, device="here", crop=CELL.protocol.crop, **known):
    known = {"compile_seconds": 10.0, "compile_gain": 2.0} | known
    return Entry("id", "done", "cells", backbone, method, device, crop, 8, **known)


def test_the_most_alike_runs_on_the_device_tell():
    nothing = entry(compile_seconds=None, compile_gain=None)
    assert experience([], CELL, "here") == (0.0, 1.0)
    runs = [entry(device="there"), nothing]
    assert experience(runs, CELL, "here") == (0.0, 1.0)
    runs.append(entry("spm", "other", compile_seconds=50.0, compile_gain=1.5))
    assert experience(runs, CELL, "here") == (50.0, 1.5)
    runs.append(entry("spm", compile_seconds=30.0))
    assert experience(runs, CELL, "here") == (30.0, 2.0)
    runs.append(entry(crop=7, compile_seconds=20.0))
    assert experience(runs, CELL, "here") == (20.0, 2.0)
    runs += [entry(compile_seconds=s, compile_gain=g) for s, g in ((1, 3), (2, 4), (9, 9))]
    assert experience(runs, CELL, "here") == (2, 4)


def known_to_take(monkeypatch, seconds, gain):
    monkeypatch.setattr("benchmark.planning.compile_policy.experience", lambda *_: (seconds, gain))


def test_it_pays_where_the_steps_that_are_left_win_more_than_it_costs(monkeypatch, tmp_path):
    known_to_take(monkeypatch, 10.0, 2.0)
    pays = payback("auto", CELL, tmp_path, "here")
    assert pays(0.1, 201) and not pays(0.1, 200)
    # What is slower than before never pays, and what nothing is known of does not.
    for seconds, gain in ((10.0, 0.9), (0.0, 1.0)):
        known_to_take(monkeypatch, seconds, gain)
        assert not payback("auto", CELL, tmp_path, "here")(10.0, 10**6)


def test_always_and_never_ask_nobody(tmp_path):
    assert payback("always", CELL, tmp_path / "nowhere", "here")(0.0, 0)
    assert not payback("never", CELL, tmp_path / "nowhere", "here")(1e9, 10**9)
    with pytest.raises(UserError, match="--compile 'often': choose from auto, always, never"):
        check("often")
