"""Results in an S3 bucket: a server that is killed and started again, and all that may be wrong."""

import os
import shutil

import boto3
import fsspec
import pytest

from benchmark.core import object_store
from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.core.record import RECORD
from benchmark.data import available
from benchmark.data.acquire import at_url
from benchmark.data.base import SPLITS
from benchmark.data.fake import write_fake
from benchmark.execution import elsewhere
from benchmark.execution.tasks import Silent
from benchmark.inference.find import find_run
from benchmark.planning.catalogue import open_set
from benchmark.planning.plan import plan
from benchmark.results import remote, store
from benchmark.results.validate import spec_of
from tests.fault.test_engine import Fake
from tests.helpers.bucket import KEYS, NAME, bucket
from tests.helpers.forked import Running, call, clean
from tests.helpers.stored import store_run
from tests.helpers.tiny import run, same, select, typed

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_away", set())
    with bucket(monkeypatch) as one:
        yield one


def elsewhere_too(server, monkeypatch, tmp_path):
    """What another machine sees."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "other"))
    return remote.located(server.url)


class Killer(Silent):
    """Kills the server when the first cell has ended, and starts it when it is missed."""

    def __init__(self, server):
        self.server, self.said = server, []

    def cell_finished(self, record):
        if not self.said:
            self.server.stop()
            self.said.append("killed")

    def note(self, text):
        self.said.append(text)
        if "trying again" in text:
            self.server.start()


@pytest.mark.slow
def test_a_grid_survives_a_server_that_is_killed_and_started_again(server, monkeypatch, tmp_path):
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 0.01)
    results, killer = remote.located(server.url), Killer(server)
    selection = select("linear,bitfit", seeds=(0, 1))
    cells = plan(selection)
    assert len(run(results, selection, listener=killer)) == 4
    assert ["trying again" in text for text in killer.said[1:]] == [True]
    there = elsewhere_too(server, monkeypatch, tmp_path)
    for cell in cells:
        assert store.is_done(there, cell) and not remote.unsent(results, cell)
        find_run(cell.run_id, there)
        same(results, there, cell)
    # Finished cells are not run again, there or here.
    assert not run(there, selection) and not run(remote.located(server.url), selection)


def test_workers_have_a_mirror_of_their_own(server, monkeypatch, tmp_path):
    """An engine on other machines: its workers upload, and the command sees it by the store."""
    results = remote.located(server.url)
    cells = plan(select())

    class Far(Fake):
        def ended(self):
            with monkeypatch.context() as patch:
                patch.setenv("BENCHMARK_CACHE", str(tmp_path / "worker"))
                return super().ended()

    travelling = elsewhere.cells_of(cells, results, (), "cpu")
    records = elsewhere.run_cells(travelling, Far(), results)
    assert [record.status for record in records] == ["done"]
    assert not list(results.rglob(RECORD))
    remote.renew(results)
    assert all(store.is_done(results, cell) for cell in cells)
    # Handed over again, they are found.
    shutil.rmtree(tmp_path / "worker")
    assert not elsewhere.run_cells(travelling, Far(), results)


@pytest.mark.slow
def test_a_worker_that_cannot_upload_says_so_and_does_so_the_next_time(
    server, monkeypatch, tmp_path
):
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.0)
    results = remote.located(server.url)
    (cell,) = plan(select())
    (travelling,) = elsewhere.cells_of([cell], results, (), "cpu")
    setup = elsewhere.setup_of("cpu", 1, None, (), 0, None, None, "never")
    environment = setup.environment(0, StopSignal())
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "worker"))
    server.stop()
    verdict = travelling(environment, Silent())
    server.start()
    assert "did not take it: kept in" in verdict.reason and verdict.by_user
    assert travelling(environment, Silent()).name == "FOUND"
    remote.renew(results)
    assert store.is_done(results, cell)


def test_what_is_wrong_is_one_line(server, monkeypatch):
    monkeypatch.setattr(remote, "SHORT_SECONDS", 0.0)

    def refused(url=server.url):
        # Or what was found out about credentials is remembered.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(UserError) as refusal:
            remote.located(url)
        assert "\n" not in str(refusal.value) and url in str(refusal.value)
        return str(refusal.value)

    assert "there is no such bucket; make it" in refused("s3://missing/grid")
    assert "Invalid bucket name" in refused("s3://Not a bucket/grid")
    with monkeypatch.context() as patch:
        for key in KEYS:
            patch.delenv(key)
        assert "Unable to locate credentials; check" in refused()
    server.stop()
    assert "does not answer" in refused()
    server.start()

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "url_to_fs", missing)
        assert "pip install 'petseg-bench[s3]'" in refused()


def test_data_in_a_bucket(server, tmp_path):
    kind = available()["camvid"]
    folder = write_fake(kind, tmp_path / "data")
    here = kind(tmp_path / "data")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(tmp_path / "data")
        boto3.client("s3").upload_file(str(path), NAME, f"data/{name.as_posix()}")
    there = open_set("camvid", at_url.located(f"s3://{NAME}/data"))
    for split in SPLITS:
        for id in here.ids(split):
            assert [p.read_bytes() for p in here.files(id)] == [
                p.read_bytes() for p in there.files(id)
            ]
    for url in ("s3://missing/data", f"s3://{NAME}/nothing"):
        with pytest.raises(UserError, match=r"there (is no such bucket|are no files)"):
            open_set("camvid", at_url.located(url))


def test_a_store_that_takes_nothing_is_refused_before_anything_runs(server, monkeypatch):
    results = remote.located(server.url)

    def denied(self, *_, **__):
        raise UserError(f"{self.url}: access is denied (403); check the credentials")

    monkeypatch.setattr(object_store.Store, "write", denied)
    with pytest.raises(UserError, match="access is denied"):
        run(results, select())
    assert not list(results.rglob(RECORD))


def test_an_upload_takes_few_requests(server):
    """As the documents say: one question, one request a file, and the marker."""
    results = remote.located(server.url)
    folder = store_run(results)
    server.requests.clear()
    remote.finish(results)
    methods = [method for method, _, _ in server.requests]
    assert methods.count("PUT") == len(list(folder.iterdir())) + 1
    assert len(methods) == methods.count("PUT") + 1
    server.requests.clear()
    remote.renew(results)
    assert [method for method, _, _ in server.requests] == ["GET", "GET"]
    server.requests.clear()
    remote.renew(results)
    assert [path for _, path, _ in server.requests] == [f"/{NAME}"]


@pytest.mark.slow
def test_uploads_survive_a_server_that_is_killed_again_and_again(server, monkeypatch, tmp_path):
    """Every fourth question finds it killed; it is started when the answer is missing."""
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 0.05)
    results, said, asked = remote.located(server.url), [], []
    folders = [store_run(results, seed=seed) for seed in range(4)]
    ask = object_store.Store._ask

    def killing(self, *arguments):
        asked.append(1)
        if len(asked) % 4:
            return ask(self, *arguments)
        server.stop()
        try:
            return ask(self, *arguments)
        finally:
            server.start()

    with monkeypatch.context() as patch:
        patch.setattr(object_store.Store, "_ask", killing)
        for folder in folders:
            spec = spec_of(store.read_record(folder))
            assert not remote.upload(results, spec, said.append, lambda: False)
    # Each file is uploaded once, and one line a run says what is wrong.
    assert len(said) == len(folders) and len(asked) < 12 * len(folders)
    there = elsewhere_too(server, monkeypatch, tmp_path)
    copies = [there / folder.relative_to(results) for folder in folders]
    remote.fetch(there, copies, deltas=True)
    for folder, copy in zip(folders, copies, strict=True):
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
            p.name: p.read_bytes() for p in copy.iterdir()
        }
    # Nothing is there twice: four files a run, and its marker.
    objects = boto3.resource("s3").Bucket(NAME).objects.all()
    assert len(list(objects)) == 5 * len(folders)


@pytest.mark.slow
def test_the_command_line_survives_a_killed_server(server, monkeypatch, tmp_path):
    words = ["run", "--methods", "linear,bitfit", "--benchmarks", "figures", "--seeds", "0,1"]
    words += ["--results", server.url, "--jobs", "2", *typed(steps=6, crop=36, batch_size=4)]
    kept = {n: t for n, t in os.environ.items() if n.startswith(("AWS_", "BENCHMARK_CACHE"))}
    running = Running(*words, env=clean(**kept))
    running.wait_until(
        lambda: any(m == "PUT" for m, path, _ in server.requests if "/.complete/" in path)
    )
    server.stop()
    running.wait_until(lambda: "trying again" in running.printed())
    server.start()
    done = running.end()
    assert done.returncode == 0, done
    there = elsewhere_too(server, monkeypatch, tmp_path)
    assert len(list(there.rglob(RECORD))) == 4
    again = call(*words, env=clean(**kept))
    assert "4 already done, 0 to train" in again.stdout
