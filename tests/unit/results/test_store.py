import json
import os

import numpy as np
import pytest

from benchmark.core import processes
from benchmark.core.errors import UserError
from benchmark.planning.plan import Selection, plan
from benchmark.results import index, store
from tests.helpers.records import record
from tests.helpers.tiny import of_the_dead

pytestmark = pytest.mark.no_torch


@pytest.fixture
def spec():
    return plan(Selection(methods="linear", benchmarks="cells"))[0]


def record_of(spec, **fields):
    return record().model_copy(update={"run_id": spec.run_id} | fields)


def test_a_finished_block_is_a_run(tmp_path, spec):
    assert not store.is_done(tmp_path, spec)
    with store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec))
        assert not store.is_done(tmp_path, spec)
    assert store.is_done(tmp_path, spec)
    assert [path.name for path in (tmp_path / spec.folder).parent.iterdir()] == [spec.run_id]


def test_a_broken_block_leaves_the_older_run_as_it_was(tmp_path, spec):
    with store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec, reason="first"))
    with pytest.raises(KeyboardInterrupt), store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec, reason="second"))
        raise KeyboardInterrupt
    assert store.read_record(tmp_path / spec.folder).reason == "first"
    assert len(list((tmp_path / spec.folder).parent.iterdir())) == 1


def test_leftovers_of_a_crash_are_replaced(tmp_path, spec):
    stale = (tmp_path / spec.folder).with_name(f".{spec.run_id}.{of_the_dead()}")
    stale.mkdir(parents=True)
    (stale / "junk").write_text("x")
    with store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec))
    assert store.is_done(tmp_path, spec) and not stale.exists()


@pytest.mark.parametrize(
    ("status", "done"), [("done", True), ("unsupported", True), ("failed", False)]
)
def test_only_failed_runs_are_run_again(tmp_path, spec, status, done):
    with store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec, status=status))
    assert store.is_done(tmp_path, spec) is done


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": 3}', "\x00\xff"])
def test_a_damaged_record_is_not_done(tmp_path, spec, content):
    with store.staging(tmp_path, spec) as folder:
        (folder / "record.json").write_text(content)
    assert not store.is_done(tmp_path, spec)


def test_counts_and_curve_come_back(tmp_path):
    counts = {"label": np.arange(6).reshape(2, 3)}
    store.write_counts(tmp_path, ["a", "b"], counts)
    back = store.read_counts(tmp_path)
    assert back["ids"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(back["label"], counts["label"])
    store.write_curve(tmp_path, [{"step": 1, "loss": 0.5}])
    assert json.loads((tmp_path / "curve.jsonl").read_text()) == {"step": 1, "loss": 0.5}


def test_drafts_of_all_processes_have_names_of_their_own(monkeypatch):
    tags = {processes.tag() for _ in range(20)}
    assert len(tags) == 20 and {processes.writer(tag) for tag in tags} == {os.getpid()}
    for foreign in ("", "checkpoint", "lock", "7", f"00000000-{os.getpid()}-abcd"):
        assert processes.writer(foreign) is None


def test_an_entry_of_the_index_needs_a_version(tmp_path, spec):
    with store.staging(tmp_path, spec) as folder:
        store.write_record(folder, record_of(spec))
    place = spec.folder.as_posix()
    assert place in index.read_index(tmp_path).entries
    path = tmp_path / spec.folder / "record.json"
    content = json.loads(path.read_text())
    del content["schema_version"]
    path.write_text(json.dumps(content))
    assert store.read_record(path.parent) is None
    assert place not in index.read_index(tmp_path).entries


def test_a_file_in_the_way_is_told(tmp_path):
    blocked = tmp_path / "results"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*--results DIR"):
        store.check_writable(blocked)
