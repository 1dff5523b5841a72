"""Results at a URL: what each machine sees, whatever ends an upload, and whoever was first."""

import json

import pytest

from benchmark.core import object_store
from benchmark.core.errors import UserError
from benchmark.core.object_store import Away, Store
from benchmark.core.record import RECORD
from benchmark.inference.find import find_run
from benchmark.results import remote, store
from benchmark.results.doctor import examine
from benchmark.results.load import load_results
from benchmark.results.merge import merge
from benchmark.results.remote import DELTA, MARKERS, Remote
from benchmark.results.validate import spec_of
from tests.helpers.stored import store_run

pytestmark = pytest.mark.no_torch


@pytest.fixture
def machine(tmp_path):
    """A machine by its name: its mirror of the one store, brought up to date."""
    url = (tmp_path / "store").as_uri()

    def at(name):
        there = Remote(url, object_store.link(tmp_path / name, url))
        there.update()
        return there

    return at


@pytest.fixture
def objects(tmp_path):
    """Names of the files of runs in the store, without markers."""
    top = tmp_path / "store"
    every = lambda: (p.relative_to(top) for p in top.rglob("*") if p.is_file())  # noqa: E731
    return lambda: sorted(path.as_posix() for path in every() if path.parts[0] != MARKERS)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Hardly a pause before a store is asked again, and no memory of one that was away."""
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(remote, "_away", set())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def otherwise(folder, **changes):
    """Makes the record in a folder that of another attempt."""
    found = store.read_record(folder)
    made = found.provenance.model_copy(update={"started": "2031-01-01T00:00:00+00:00"})
    store.write_record(folder, found.model_copy(update={"provenance": made} | changes))


def change(folder, reason):
    """Changes the record in a folder, as evaluating a run again does."""
    store.write_record(folder, store.read_record(folder).model_copy(update={"reason": reason}))


def test_others_get_the_record_first_and_files_when_they_are_needed(machine):
    a = machine("a")
    folder = store_run(a.folder)
    a.finish()
    b = machine("b")
    there = b.folder / folder.relative_to(a.folder)
    assert names(there) == [RECORD]
    assert len(load_results(b.folder)) == 1
    assert names(there) == sorted({*names(folder)} - {DELTA})
    assert examine(b.folder) == []  # what can be fetched is not missing
    assert find_run(folder.name, b.folder).folder == there
    assert content(there) == content(folder)
    run = folder.relative_to(a.folder).as_posix()
    assert not a.is_due(run) and not b.is_due(run)  # what was fetched is no change


def test_a_run_without_its_marker_does_not_exist(machine, tmp_path, recwarn):
    a = machine("a")
    folder = store_run(a.folder)
    a.finish()
    next((tmp_path / "store" / MARKERS).rglob(folder.name)).unlink()
    assert not list(machine("b").folder.rglob(RECORD))
    machine("a")
    assert not folder.exists()
    assert (a.folder / store.SET_ASIDE / folder.relative_to(a.folder) / DELTA).exists()
    assert "no longer at" in str(recwarn.pop(UserWarning).message)


def test_what_is_uploaded_from_here_while_markers_are_listed_stays(machine, monkeypatch):
    a = machine("a")
    folder = store_run(a.folder)
    other_command, find = Remote(a.url, a.folder), Store.find

    def slow(self, below):
        found = find(self, below)
        other_command.finish()
        return found

    monkeypatch.setattr(Store, "find", slow)
    machine("a")
    assert folder.exists() and not a.is_due(a.run_of(folder))


def test_whatever_ends_an_upload_others_see_the_former_run_or_the_new(machine, monkeypatch):
    a, left = machine("a"), [0]
    folder = store_run(a.folder)
    run = folder.relative_to(a.folder)
    asked = Store._ask

    def ask(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return asked(self, *arguments)

    def attempts(number):
        """What another machine sees after an upload that ends after so many requests, and more."""
        for limit in range(50):
            with monkeypatch.context() as patch:
                patch.setattr(Store, "_ask", ask)
                left[0] = limit
                try:
                    Remote(a.url, a.folder).finish()
                except KeyboardInterrupt:
                    pass
                else:
                    return
            yield store.read_record(machine(f"{number}-{limit}").folder / run)

    first = store.read_record(folder)
    seen = list(attempts(1))
    # One question, four files, and the marker, before which there is nothing.
    assert len(seen) == 6 and set(map(str, seen)) == {"None"}
    change(folder, "second")
    second = store.read_record(folder)
    seen = list(attempts(2))
    assert seen[0] == first and all(one in (first, second) for one in seen)
    assert store.read_record(machine("b").folder / run) == second
    assert not a.is_due(run.as_posix())


def test_of_two_machines_the_first_marker_stays(machine, objects):
    a, b = machine("a"), machine("b")
    first, second = store_run(a.folder), store_run(b.folder)
    otherwise(second)
    run = first.relative_to(a.folder).as_posix()
    a.finish()
    before, said = objects(), []
    b.push(run, said.append)
    assert objects() == before and "another machine is at" in said[0]
    assert (second / RECORD).read_bytes() == (first / RECORD).read_bytes()
    assert (b.folder / store.SET_ASIDE / run / DELTA).exists()


def test_of_two_that_upload_at_once_the_first_marker_stays(machine, objects, monkeypatch):
    a, b = machine("a"), machine("b")
    first, second = store_run(a.folder), store_run(b.folder)
    otherwise(second)
    run = first.relative_to(a.folder).as_posix()
    there, answers = Remote._there, [None]

    def late(self, run):
        return answers.pop() if answers else there(self, run)

    a.finish()
    before = objects()
    monkeypatch.setattr(Remote, "_there", late)
    b.push(run, lambda text: None)
    assert not answers and objects() == before
    assert (second / RECORD).read_bytes() == (first / RECORD).read_bytes()


def test_a_lost_answer_to_the_marker_is_no_other_machine(machine, monkeypatch):
    a, said = machine("a"), []
    folder = store_run(a.folder)
    spec, write = spec_of(store.read_record(folder)), Store.write

    def deaf(self, *arguments, **options):
        write(self, *arguments, **options)
        monkeypatch.setattr(Store, "write", write)
        raise Away("no answer")

    monkeypatch.setattr(Store, "write", deaf)
    assert not remote.upload(a.folder, spec, said.append, lambda: False)
    assert not remote.unsent(a.folder, spec) and "trying again" in said[0] and len(said) == 1
    assert (folder / DELTA).exists()


@pytest.mark.parametrize("fetched", [False, True])
def test_who_changes_a_run_replaces_the_version_it_began_with(machine, objects, fetched):
    a = machine("a")
    folder = store_run(a.folder)
    a.finish()
    b = machine("b")
    there = b.folder / folder.relative_to(a.folder)
    if fetched:
        remote.fetch(b.folder, [there], deltas=True)
    change(there, "by b")
    b.finish()
    assert len(objects()) == len(names(folder))  # the former version is gone
    machine("a")
    assert store.read_record(folder).reason == "by b"
    remote.fetch(a.folder, [folder], deltas=True)
    assert find_run(folder.name, a.folder).delta.exists()
    # Who began with the former one does not undo that.
    late = machine("c")
    change(late.folder / folder.relative_to(a.folder), "late")
    change(folder, "by a")
    a.finish()
    with pytest.warns(UserWarning, match="another machine is at"):
        late.finish()
    assert store.read_record(late.folder / folder.relative_to(a.folder)).reason == "by a"


def test_a_failure_gives_way_to_a_finished_run_and_not_the_other_way_round(machine):
    a, b = machine("a"), machine("b")
    failed = store_run(a.folder, status="failed", reason="no memory")
    done = store_run(b.folder)
    run = failed.relative_to(a.folder)
    a.finish()
    b.finish()
    machine("a")
    assert store.read_record(a.folder / run).status == "done"
    c = machine("c")
    otherwise(c.folder / run, status="failed", reason="another")
    c.push(run.as_posix(), lambda text: None)
    assert store.read_record(machine("d").folder / run) == store.read_record(done)


def test_an_interrupted_run_stays_on_its_machine(machine, objects):
    a = machine("a")
    folder = store_run(a.folder, status="interrupted", reason="SIGINT")
    a.finish()
    assert not objects() and folder.exists()
    assert not remote.unsent(a.folder, spec_of(store.read_record(folder)))


def test_what_could_not_be_uploaded_waits_for_the_next_command(machine, monkeypatch, objects):
    a, said = machine("a"), []
    folders = [store_run(a.folder, seed=seed) for seed in range(3)]
    specs = [spec_of(store.read_record(folder)) for folder in folders]
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.3)

    def away(self, *_):
        tried.append(1)
        raise Away("s3://b does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_ask", away)
        for number, spec in enumerate(specs):
            tried = []
            assert "does not answer" in remote.upload(a.folder, spec, said.append, lambda: False)
            assert (len(tried) > 1) == (number == 0)  # a store that is away is not waited for again
            assert remote.unsent(a.folder, spec)
        with pytest.warns(UserWarning, match="3 runs in .* not uploaded"):
            assert not remote.finish(a.folder)
    assert len(said) == 2 and "trying again" in said[0] and "the next command" in said[1]
    assert all(folder.exists() for folder in folders) and not objects()
    machine("a")
    assert not any(remote.unsent(a.folder, spec) for spec in specs)
    assert len(list(machine("b").folder.rglob(RECORD))) == 3


def test_a_signal_ends_the_wait(machine, monkeypatch):
    a = machine("a")
    spec = spec_of(store.read_record(store_run(a.folder)))
    monkeypatch.setattr(Store, "_ask", lambda *_: (_ for _ in ()).throw(Away("away")))
    assert remote.upload(a.folder, spec, lambda text: None, lambda: True) == "away"


def test_a_file_that_is_not_what_its_marker_says_is_refused(machine, tmp_path):
    a = machine("a")
    folder = store_run(a.folder)
    a.finish()
    b = machine("b")
    there = b.folder / folder.relative_to(a.folder)
    next((tmp_path / "store").rglob("images.npz")).write_bytes(b"other")
    with pytest.raises(UserError, match="not what its marker says") as refusal:
        load_results(b.folder)
    assert "\n" not in str(refusal.value) and not (there / "images.npz").exists()


def test_a_damaged_record_is_told_and_stops_no_other_run(machine, tmp_path):
    a = machine("a")
    damaged, whole = (store_run(a.folder, seed=seed) for seed in (0, 1))
    a.finish()
    below = tmp_path / "store" / damaged.relative_to(a.folder)
    next(below.rglob(RECORD)).write_bytes(b"{}")
    with pytest.warns(UserWarning, match="not what its marker says.*run it again"):
        c = machine("c")
    (there,) = c.folder.rglob(RECORD)
    assert there.parent == c.folder / whole.relative_to(a.folder)


@pytest.mark.parametrize("bad", ["../../x", "a/b", ".hidden", ""])
def test_markers_lead_nowhere_else(machine, tmp_path, bad):
    a = machine("a")
    folder = store_run(a.folder)
    a.finish()
    path = next((tmp_path / "store" / MARKERS).rglob(folder.name))
    text = json.loads(path.read_text())
    text["files"][bad] = [1, "0" * 64]
    path.write_text(json.dumps(text))
    (path.parent / ".hidden").write_text(path.read_text())
    (path.parents[1] / "flat").write_text(path.read_text())
    assert not list(machine("b").folder.rglob(RECORD))


def test_a_folder_in_the_results_is_a_store_of_its_own(machine):
    a = machine("a")
    inner = remote.within(a.folder, "tuning")
    folder = store_run(inner)
    remote.finish(a.folder)
    b = machine("b")
    assert not list(b.folder.rglob(RECORD))
    assert (remote.within(b.folder, "tuning") / folder.relative_to(inner) / RECORD).exists()


def test_results_merge_into_a_store_and_out_of_it(machine, tmp_path):
    folder = store_run(tmp_path / "own")
    a = machine("a")
    assert len(merge([tmp_path / "own"], a.folder).copied) == 1
    a.finish()
    merge([machine("b").folder], tmp_path / "back")
    back = tmp_path / "back" / folder.relative_to(tmp_path / "own")
    assert content(back) == content(folder)


def test_folders_of_this_machine_ask_no_store(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "_ask", lambda *_: pytest.fail("asked"))
    folder = store_run(tmp_path)
    assert remote.located(tmp_path) == tmp_path and remote.of(folder) is None
    remote.finish(tmp_path)
    assert len(load_results(tmp_path)) == 1
    assert find_run(folder.name, tmp_path).delta.exists()


def test_a_url_needs_a_cache_and_a_scheme(monkeypatch):
    with pytest.raises(UserError, match="no URL that fsspec opens"):
        remote.located("nothing://here")
    with pytest.raises(UserError, match="write the whole path"):
        remote.located("file://here")
    monkeypatch.setenv("BENCHMARK_CACHE", "none")
    with pytest.raises(UserError, match="BENCHMARK_CACHE is none"):
        remote.located("memory://here")
