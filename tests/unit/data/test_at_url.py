"""Data at a URL: copied once per machine, whole or not at all; one line says what is wrong."""

import shutil
import threading
from collections import namedtuple

import pytest
import yaml

from benchmark.core import object_store
from benchmark.core.errors import UserError
from benchmark.core.object_store import Away, Store
from benchmark.data import available
from benchmark.data.acquire import at_url
from benchmark.data.acquire.at_url import bring, located, url_of
from benchmark.data.base import BENCHMARKS, SPLITS
from benchmark.data.fake import write_fake
from benchmark.planning import plugins
from benchmark.planning.catalogue import open_set
from benchmark.planning.staleness import CurrentHashes

pytestmark = pytest.mark.no_torch


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """A data root with a tiny CamVid; its mirror is in a new cache."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    write_fake(available()["camvid"], tmp_path / "data")
    write_fake(available()["mtd"], tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def calls(monkeypatch):
    """Names of the objects that are downloaded, in order."""
    seen, download = [], Store.download

    def noted(self, name, path):
        seen.append(name)
        return download(self, name, path)

    monkeypatch.setattr(Store, "download", noted)
    return seen


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_set_is_copied_when_it_is_needed_and_only_once(camvid, calls, capsys):
    root = located(camvid.as_uri())
    assert url_of(root) == camvid.as_uri() and not calls
    here = open_set("camvid", root)
    assert files(here.path) == files(camvid / "camvid/CamVid") and not (root / "mtd").exists()
    assert [here.ids(split) for split in SPLITS] == [
        open_set("camvid", camvid).ids(split) for split in SPLITS
    ]
    number = len(calls)
    assert f"copying {number} files" in capsys.readouterr().err
    open_set("camvid", located(camvid.as_uri()))
    assert len(calls) == number
    # A copy is the same benchmark.
    assert CurrentHashes(root).benchmark("camvid") == CurrentHashes(camvid).benchmark("camvid")


def test_processes_wait_for_the_one_that_copies(camvid, calls):
    root = located(camvid.as_uri())
    threads = [threading.Thread(target=bring, args=(root / "mtd", "mtd")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == len(set(calls)) == len(files(camvid / "mtd"))


def test_a_copy_that_was_interrupted_goes_on(camvid, calls, monkeypatch):
    root, download = located(camvid.as_uri()), Store.download
    every = len(files(camvid / "mtd"))
    monkeypatch.setattr(at_url, "THREADS", 1)

    def dying(self, name, path):
        if len(calls) == every // 2:
            raise KeyboardInterrupt
        return download(self, name, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "download", dying)
        with pytest.raises(KeyboardInterrupt):
            bring(root / "mtd", "mtd")
    assert len(calls) == every // 2 and not list((root / at_url.COPIED).glob("mtd"))
    bring(root / "mtd", "mtd")
    assert len(calls) == every and files(root / "mtd") == files(camvid / "mtd")


def test_a_store_that_is_away_for_a_moment_is_asked_again(camvid, monkeypatch, capsys):
    root, ask, left = located(camvid.as_uri()), Store._ask, [2]
    monkeypatch.setattr(object_store, "FIRST_SECONDS", 0.01)

    def shaky(self, *arguments):
        left[0] -= 1
        if left[0] >= 0:
            raise Away("s3://data does not answer")
        return ask(self, *arguments)

    monkeypatch.setattr(Store, "_ask", shaky)
    assert open_set("camvid", root).ids("train")
    assert capsys.readouterr().err.count("trying again") == 1


def test_what_is_wrong_is_said_on_one_line(camvid, monkeypatch):
    root = located(camvid.as_uri())

    def refused(name="camvid"):
        with pytest.raises(UserError) as refusal:
            open_set(name, root)
        text = str(refusal.value)
        assert "\n" not in text and (camvid.as_uri() in text or str(root) in text)
        assert not [path for path in (root / at_url.COPIED).iterdir() if path.suffix != ".lock"]
        return text

    assert "there are no files at" in refused("dubai")
    with monkeypatch.context() as patch:
        usage = namedtuple("usage", "total used free")
        patch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
        assert "make room" in refused()
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr(Store, "_open", lambda self: (Broken(full), "x"))
        assert "No space left on device; make room" in refused()
    with monkeypatch.context() as patch:
        patch.setattr(at_url, "PATIENCE_SECONDS", 0.0)
        patch.setattr(Store, "_open", lambda self: (Broken(ConnectionError("gone")), "x"))
        assert "does not answer" in refused()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_open", lambda self: (Broken(FileNotFoundError("gone")), "x"))
        assert "train.txt vanished" in refused()
    monkeypatch.setattr(Store, "find", lambda self, below: {"../../x": ("", 1)})
    assert "leads out of its folder" in refused()


class Broken:
    """A file system whose listings work, and whose files do not."""

    def __init__(self, error):
        self.error = error

    def find(self, path, detail):
        return {f"{path}/train.txt": {"size": 1}}

    def get_file(self, *_):
        raise self.error


def test_a_description_may_name_a_url(camvid, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    own = tmp_path / "own"
    shutil.copytree(camvid / "camvid/CamVid/train", own / "images" / "train")
    shutil.copytree(camvid / "camvid/CamVid/trainannot", own / "labels" / "train")
    for split in ("val", "test"):
        shutil.copytree(own / "images/train", own / "images" / split)
        shutil.copytree(own / "labels/train", own / "labels" / split)
    names = [f"c{number}" for number in range(12)]
    sets = {}
    for name, folder in (("near", str(own)), ("far", own.as_uri())):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "classes": names, "folder": folder}))
        plugins.load_files([path])
    assert not calls
    try:
        sets = {name: open_set(name, None) for name in ("near", "far")}
    finally:
        for name in ("near", "far"):
            BENCHMARKS.pop(name)
    assert len(calls) == len(files(own))
    assert sets["far"].origin == own.as_uri()
    assert [sets["far"].ids(split) for split in SPLITS] == [
        sets["near"].ids(split) for split in SPLITS
    ]


def test_folders_of_this_machine_ask_no_store(camvid, monkeypatch):
    monkeypatch.setattr(Store, "_ask", lambda *_: pytest.fail("asked"))
    assert open_set("camvid", camvid).ids("train") and open_set("cells", None).ids("train")
    assert located(None) is None and located(camvid) == camvid and url_of(camvid) is None
