"""States of cells, the hashes they are judged by, and the index they are read from."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from benchmark.core.errors import DataError
from benchmark.data.fake.small import write_camvid
from benchmark.planning import plugins, staleness
from benchmark.planning.catalogue import BENCHMARKS, METHODS
from benchmark.planning.plan import Selection, plan
from benchmark.planning.plugins import load_files
from benchmark.planning.staleness import (
    BENCHMARK,
    METHOD,
    WEIGHTS,
    CurrentHashes,
    State,
    reasons,
    state_of,
)
from benchmark.results import provenance
from benchmark.results.index import NAME, read_index, summary
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch

WORDS = {"method_sha256": "m", "benchmark_sha256": "b", "weights_sha256": "w"}


class Now:
    """Hashes of today, made up."""

    def __init__(self, method="m", benchmark="b", weights="w"):
        self.method = lambda name: method
        self.benchmark = lambda name: benchmark
        self.weights = lambda name: weights


@pytest.fixture
def spec():
    return plan(Selection(methods="linear", benchmarks="cells"))[0]


def recorded(spec, status="done", **hashes):
    made = record(status=status)
    return made.model_copy(
        update={
            "run_id": spec.run_id,
            "provenance": made.provenance.model_copy(update=WORDS | hashes),
        }
    )


def stored(results, spec, made):
    folder = results / spec.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(made.model_dump_json())
    return folder


def test_nothing_changed_is_no_reason(spec):
    assert reasons(spec, summary(recorded(spec)), Now()) == []
    assert not staleness.unknown(spec, recorded(spec).provenance, Now())


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (Now(method="x"), METHOD),
        (Now(benchmark="x"), BENCHMARK),
        (Now(weights="x"), WEIGHTS),
    ],
)
def test_each_change_is_its_own_reason(spec, now, reason):
    assert reasons(spec, summary(recorded(spec)), now) == [reason]


def test_random_weights_have_no_file(spec):
    random = spec.model_copy(update={"weights": "none"})
    assert reasons(random, summary(recorded(spec)), Now(weights="x")) == []


def test_what_cannot_be_compared_is_unknown_and_not_stale(spec):
    older = summary(recorded(spec, method_sha256=None))
    assert reasons(spec, older, Now(method="x")) == []
    assert staleness.unknown(spec, older, Now())
    assert reasons(spec, summary(recorded(spec)), Now(benchmark=None)) == []
    assert staleness.unknown(spec, summary(recorded(spec)), Now(benchmark=None))


def test_states(tmp_path, spec):
    def state(now=None):
        return state_of(spec, read_index(tmp_path), now or Now())

    assert state() == State("missing")
    folder = stored(tmp_path, spec, recorded(spec))
    assert state() == State("done")
    assert state(Now(method="x")) == State("stale", (METHOD,))
    assert state(Now(benchmark=None)) == State("done", unknown=True)
    for status in ("failed", "nan", "oom", "timeout", "interrupted"):
        stored(tmp_path, spec, recorded(spec, status))
        assert state(Now(method="x")) == State(status)
    stored(tmp_path, spec, recorded(spec, "unsupported", weights_sha256=None))
    assert state() == State("unsupported")
    assert state(Now(method="x")).name == "stale"
    (folder / "record.json").write_text("{")
    assert state() == State("missing")
    folder.with_name(f".{spec.run_id}.checkpoint").write_text("")
    assert state() == State("interrupted")


def test_another_runs_record_does_not_count(tmp_path, spec):
    stored(tmp_path, spec, recorded(spec).model_copy(update={"run_id": "0" * 12}))
    assert state_of(spec, read_index(tmp_path), Now()) == State("missing")


# the index


def test_the_index_is_used_while_records_stay_as_they_are(tmp_path, spec):
    folder = stored(tmp_path, spec, recorded(spec))
    first = read_index(tmp_path)
    # A record with the size and the time of the indexed one is not opened again.
    path = folder / "record.json"
    status, size = path.stat(), path.stat().st_size
    path.write_text("?" * size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_index(tmp_path) == first != {}
    path.write_text("?" * (size + 1))
    assert read_index(tmp_path).entries == {}
    shutil.rmtree(folder)
    assert read_index(tmp_path).entries == {} and spec.run_id not in (tmp_path / NAME).read_text()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": 99, "runs": {}}', '{"version": 1, "runs": {"a": [1, 2]}}', "\0"],
)
def test_a_torn_or_foreign_index_is_made_anew(tmp_path, spec, content):
    stored(tmp_path, spec, recorded(spec))
    good = read_index(tmp_path)
    (tmp_path / NAME).write_text(content)
    assert read_index(tmp_path) == good and len(good.entries) == 1
    assert spec.run_id in (tmp_path / NAME).read_text()


def test_a_folder_that_takes_no_index_is_read_all_the_same(tmp_path, spec):
    stored(tmp_path, spec, recorded(spec))
    (tmp_path / NAME).mkdir()  # a file cannot replace it, whoever runs this
    assert len(read_index(tmp_path).entries) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(f".{NAME}")]


def test_no_results_leave_no_index(tmp_path):
    assert read_index(tmp_path / "none").entries == {}
    assert read_index(tmp_path).entries == {} and not list(tmp_path.iterdir())


def test_published_runs_are_left_out(tmp_path, spec):
    stored(tmp_path / "published", spec, recorded(spec))
    stored(tmp_path, spec, recorded(spec))
    (only,) = read_index(tmp_path).entries
    assert only == spec.folder.as_posix()
    assert len(read_index(tmp_path / "published").entries) == 1


def test_the_disk_of_a_run_counts_a_delta_that_was_cleared_away(tmp_path, spec):
    made = recorded(spec)
    folder = stored(tmp_path, spec, made)
    (folder / "images.npz").write_bytes(b"x" * 100)
    size = (folder / "record.json").stat().st_size + 100
    (entry,) = read_index(tmp_path).entries.values()
    assert entry.disk_bytes == size + made.costs.stored.bytes


# the hashes

METHOD_FILE = """
from dataclasses import dataclass
from methods.{base} import {base_class}
from methods.base import register

@register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mine({base_class}):
    def count(self, backbone, num_classes):
        return 0
"""


def plugin_hash(path, name, base="linear", base_class="Linear", more=""):
    path.parent.mkdir(exist_ok=True)
    path.write_text(METHOD_FILE.format(name=name, base=base, base_class=base_class) + more)
    load_files([path])
    return provenance.method_sha256(METHODS.get(name))


def test_a_plugin_is_its_content_and_not_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    name = "hash-probe-name"
    first = plugin_hash(tmp_path / "a" / "m.py", name)
    METHODS._load()._loaded.pop(name)
    assert plugin_hash(tmp_path / "b" / "n.py", name) == first
    METHODS._load()._loaded.pop(name)
    assert plugin_hash(tmp_path / "c" / "m.py", name, more="# another\n") == first
    METHODS._load()._loaded.pop(name)
    assert plugin_hash(tmp_path / "d" / "m.py", name, more="ANOTHER = 1\n") != first
    METHODS._load()._loaded.pop(name)


def used_by(cls, package, always):
    names = []
    original = provenance._file_of

    def noted(name):
        path = original(name)
        if path:
            names.append(path.name)
        return path

    provenance._file_of = noted
    try:
        provenance._source_sha256(provenance._modules(cls) | always, package)
    finally:
        provenance._file_of = original
    return set(names)


def test_what_a_method_imports_from_the_package_belongs_to_it():
    always = {"methods.base"}
    assert used_by(METHODS.get("linear"), "methods", always) == {"linear.py", "base.py"}
    tuner = used_by(METHODS.get("peft:lora"), "methods", always)
    assert tuner == {
        "tuners.py",
        "_tuner_table.py",
        "lora.py",
        "fit.py",
        "lowrank.py",
        "frozen.py",
        "base.py",
    }


def test_what_draws_a_generated_benchmark_belongs_to_it():
    found = used_by(BENCHMARKS.get("cells"), "benchmark.data", {"benchmark.data.base"})
    assert {"cells.py", "scene.py", "textures.py"} <= found
    assert not {"streets.py", "cache.py", "audit.py"} & found


def test_a_benchmark_is_its_files_by_size_and_not_by_time(tmp_path):
    camvid = BENCHMARKS.get("camvid")
    for place in ("a", "b"):
        write_camvid(tmp_path / place)
    files = sorted(path for path in (tmp_path / "b").rglob("*.png"))
    os.utime(files[0], (1, 1))
    first, copy = (provenance.benchmark_sha256(camvid(tmp_path / place)) for place in "ab")
    assert first == copy
    files[0].write_bytes(files[0].read_bytes() + b"x")
    assert provenance.benchmark_sha256(camvid(tmp_path / "b")) != first


def test_missing_data_are_unknown(tmp_path):
    write_camvid(tmp_path)
    present = CurrentHashes(data=tmp_path)
    assert present.benchmark("camvid")
    assert CurrentHashes(data=None).benchmark("camvid") is None
    assert CurrentHashes(data=tmp_path / "nowhere").benchmark("camvid") is None
    assert (
        CurrentHashes().benchmark("no such benchmark") is None
        and CurrentHashes().method("none") is None
    )
    opened = BENCHMARKS.get("camvid")(tmp_path)
    opened.files(opened.ids("train")[0])[0].unlink()
    with pytest.raises(DataError, match="cannot be read"):
        provenance.benchmark_sha256(opened)


def test_the_weights_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"one")
    first = CurrentHashes(weights=(tmp_path,)).weights("net")
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert CurrentHashes(weights=(tmp_path,)).weights("net") == first
    monkeypatch.undo()
    path.write_bytes(b"other")
    assert CurrentHashes(weights=(tmp_path,)).weights("net") != first
    assert CurrentHashes(weights=(Path(tmp_path),)).weights("absent") is None
