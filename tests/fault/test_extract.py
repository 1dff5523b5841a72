import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.data.acquire.extract import ArchiveError, extract, is_archive

pytestmark = pytest.mark.no_torch

Entry = tuple[str, bytes]
FILES: list[Entry] = [
    ("repo-1a2b/set/a/1.png", b"one"),
    ("repo-1a2b/set/a/2.png", np.random.default_rng(0).bytes(50_000)),
    ("repo-1a2b/set/list.txt", b"1\n2\n"),
    ("repo-1a2b/README.md", b"read"),
]


def make_zip(path: Path, files: list[Entry] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def make_tar(path: Path, files: list[Entry] = FILES, **facts: Any) -> Path:
    """`facts` are set on the last member."""
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for i, (name, data) in enumerate(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if i == len(files) - 1:
                for key, value in facts.items():
                    setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS: dict[str, Callable[[Path, list[Entry]], Path]] = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": make_tar,
    "a.tgz": make_tar,
    "a.tar.bz2": make_tar,
    "a.tar.xz": make_tar,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def fails(archive: Path, kind: type[UserError] = ArchiveError, **options: Any) -> str:
    """The one line that unpacking ends with; nothing is left anywhere near the target."""
    home = archive.parent
    before = sorted(home.rglob("*"))
    with pytest.raises(kind) as info:
        extract(archive, home / "x" / "y", **options)
    message = str(info.value)
    assert len(message.splitlines()) == 1
    assert str(archive) in message
    assert sorted(home.rglob("*")) == before
    return message


@pytest.mark.parametrize("name", MAKERS)
def test_extract(name: str, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    told: list[tuple[int, int | None]] = []
    count = extract(archive, tmp_path / "x" / "y", progress=lambda *now: told.append(now))
    assert count == len(FILES)
    assert contents(tmp_path / "x") == {f"y/{name}": data for name, data in FILES}
    assert sorted(os.listdir(tmp_path)) == [name, "x"]
    size = archive.stat().st_size
    assert all(0 < done <= size == total for done, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("*/set", {"a/1.png", "a/2.png", "list.txt"}),
        ("*/set/a", {"1.png", "2.png"}),
        ("repo-1a2b/*/a/", {"1.png", "2.png"}),
        ("*", {"set/a/1.png", "set/a/2.png", "set/list.txt", "README.md"}),
    ],
)
def test_inside(name: str, inside: str, expected: set[str], tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    assert extract(archive, tmp_path / "x", inside) == len(expected)
    assert set(contents(tmp_path / "x")) == expected


@pytest.mark.parametrize("inside", ["set", "*/*/*/*", "repo-*/set", "*/README.md", "*/se"])
def test_nothing_inside(inside: str, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip")
    assert repr(inside) in fails(archive, inside=inside)


def test_into_an_existing_folder(tmp_path: Path) -> None:
    first = [("a/1", b"old"), ("a/2", b"kept"), ("b", b"kept")]
    second = [("a/1", b"new"), ("a/c/3", b"new"), ("d/4", b"new")]
    assert extract(make_zip(tmp_path / "1.zip", first), tmp_path / "x") == 3
    assert extract(make_tar(tmp_path / "2.tar", second), tmp_path / "x") == 3
    assert contents(tmp_path / "x") == {
        "a/1": b"new",
        "a/2": b"kept",
        "a/c/3": b"new",
        "b": b"kept",
        "d/4": b"new",
    }


def test_after_a_killed_process(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip")
    stale = tmp_path / "x" / ".unpacking-a.zip"
    stale.mkdir(parents=True)
    (stale / "old").write_text("")
    extract(archive, tmp_path / "x")
    assert contents(tmp_path / "x") == dict(FILES)


def test_modes_are_not_taken(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [("tool", b"#!")], mode=0o6777)
    extract(archive, tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x" / "tool").stat().st_mode) & 0o7133 == 0


def test_names_that_differ_by_case_or_occur_twice(tmp_path: Path) -> None:
    files = [("a/I.png", b"1"), ("A/i.png", b"2"), ("b", b"3"), ("b", b"4")]
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = make_zip(tmp_path / "a.zip", files)
    extract(archive, tmp_path / "x")
    assert contents(tmp_path / "x")["b"] == b"4"


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "name",
    [
        "../evil", "a/../../evil", "a/..", "/evil", "//evil", "C:/evil", "c:evil", "a/C:/evil",
        "..\\evil", "a\\evil", "\\\\host\\evil", "n" * 256, "ä" * 128, "/".join("a" * 65),
    ],
)  # fmt: skip
def test_dangerous_names(make: Callable[..., Path], name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", [*FILES, (name, b"evil")])
    message = fails(archive)
    assert repr(name)[:40] in message and "nothing was unpacked" in message
    # Also where it stands outside of what is taken.
    fails(archive, inside="*/set")


def test_a_name_cannot_break_the_line(tmp_path: Path) -> None:
    assert r"../a\nb" in fails(make_tar(tmp_path / "a.tar", [("../a\nb\x1b[31m", b"")]))


@pytest.mark.parametrize(
    "facts",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc"},
        {"type": tarfile.SYMTYPE, "linkname": "set"},
        {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": FILES[0][0]},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_in_tar(facts: dict[str, Any], tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [*FILES, ("repo-1a2b/set/it", b"")], **facts)
    message = fails(archive)
    assert "'repo-1a2b/set/it'" in message and "link or a device" in message
    # Where it would not be unpacked, it does no harm.
    assert extract(archive, tmp_path / "x", "*/set/a") == 2


def test_a_file_below_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("link/evil"))
    fails(archive)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_zip(kind: int, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("fine", b"")
        info = zipfile.ZipInfo("it")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "'it'" in fails(archive)


def test_encrypted(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", [("secret", b"abc")])
    data = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + offset] |= 1
    archive.write_bytes(data)
    message = fails(archive)
    assert "'secret'" in message and "encrypted" in message


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_bombs(name: str, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, [("fine", b"1"), ("bomb", bytes(30_000_000))])
    assert archive.stat().st_size * 400 < 30_000_000
    assert "unpacks to more than" in fails(archive)
    assert "20.0 MB" in fails(archive, limit_bytes=20_000_000)
    assert extract(archive, tmp_path / "x", limit_bytes=30_000_001) == 2


@pytest.mark.parametrize("claimed", [10, 2**32 - 2])
def test_a_zip_that_lies_about_sizes(claimed: int, tmp_path: Path) -> None:
    # Either way, what counts is what comes out.
    archive = make_zip(tmp_path / "a.zip", [("bomb", bytes(30_000_000))])
    data = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(magic) + offset, claimed)
    archive.write_bytes(data)
    fails(archive)
    fails(archive, limit_bytes=100_000)
    if claimed == 10:
        fails(archive, limit_bytes=2**40)
    else:
        extract(archive, tmp_path / "x", limit_bytes=30_000_000)


def test_a_tar_that_lies_about_sizes(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    info = tarfile.TarInfo("file")
    info.size = 2**40
    archive.write_bytes(info.tobuf() + b"0" * 10240)
    fails(archive)


def test_a_header_as_long_as_the_memory(tmp_path: Path) -> None:
    # A long name is read as a whole; its length is the archive's to choose.
    import gzip

    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + b"n" * info.size)
    assert "header is too long" in fails(archive, limit_bytes=2**40)


def test_sparse_members(tmp_path: Path) -> None:
    # 10 bytes of content that a header blows up to gigabytes.
    info = tarfile.TarInfo("sparse")
    info.size = 512
    info.pax_headers = {
        "GNU.sparse.map": "0,10",
        "GNU.sparse.size": str(2**33),
        "GNU.sparse.numblocks": "1",
    }
    archive = tmp_path / "a.tar"
    archive.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(512 + 10240))
    assert "'sparse'" in fails(archive)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_too_many_members(make: Callable[..., Path], tmp_path: Path) -> None:
    archive = make(tmp_path / "a", [(f"{i}", b"") for i in range(101)])
    assert "more than 100 files" in fails(archive, limit_members=100)
    assert extract(archive, tmp_path / "x", limit_members=101) == 101


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_truncated(name: str, share: float, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    # The last records of a plain archive are padding.
    os.truncate(archive, int(share * (51_200 if name == "a.tar" else archive.stat().st_size)))
    assert "fetch it again" in fails(archive)


def test_a_tar_truncated_between_members(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [("1", b"x" * 512), ("2", b"x" * 512)])
    os.truncate(archive, 1024)
    assert "mark of the end" in fails(archive)


@pytest.mark.parametrize("name", MAKERS)
def test_damaged(name: str, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    data = bytearray(archive.read_bytes())
    if name == "a.tar":
        # A plain archive has checksums of headers only; this is the second.
        data[tarfile.BLOCKSIZE * 2 + 3] ^= 1
    else:
        data[20_000] ^= 1
    archive.write_bytes(data)
    assert "fetch it again" in fails(archive)


@pytest.mark.parametrize(
    "data", [b"", b"<!DOCTYPE html><html>log in</html>", b"PK", b"BZh9", b"\0"]
)
def test_no_archive(data: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(data)
    fails(archive)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_no_files(make: Callable[..., Path], tmp_path: Path) -> None:
    fails(make(tmp_path / "a", []))


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", [("a", b""), ("a/b", b"")])
    fails(archive, UserError)


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.data.acquire import extract as module

    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    message = fails(make_zip(tmp_path / "a.zip"), UserError)
    assert "has room for 1.0 kB" in message and "make room" in message


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    # A limit on the size of files stands for the size of the disk.
    archive = make_zip(tmp_path / "a.zip")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from benchmark.data.acquire.extract import extract\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: extract(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as error: print(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UserError:") and "make room" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert os.listdir(tmp_path) == ["a.zip"]


def test_a_missing_archive(tmp_path: Path) -> None:
    fails(tmp_path / "a.zip", UserError)


def test_what_is_an_archive() -> None:
    assert all(is_archive(name) for name in (*MAKERS, "A.ZIP", "b.tbz2", "v1.0.txz"))
    assert not any(is_archive(name) for name in ("a.txt", "a.csv.gz", "zip", "a.npz", "a.tar.md5"))
