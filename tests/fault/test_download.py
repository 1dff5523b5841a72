import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.data.acquire.download import HEADWAY, fetch, file_name
from benchmark.data.base import Source
from tests.helpers.fileserver import Answer, FileServer, serving

pytestmark = pytest.mark.no_torch

BODY = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(250_000)
CUT = 100_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.files["/set.zip"] = BODY
        yield server


def source(server: FileServer, checksum: str = "") -> Source:
    return Source(server.url("/set.zip"), "set", checksum=checksum)


def sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def fails(source: Source, folder: Path, **options: float) -> str:
    """The one line that the download ends with; no file is left under the final name."""
    with pytest.raises(UserError) as info:
        fetch(source, folder, **{"pause": 0, **options})  # type: ignore[arg-type]
    message = str(info.value)
    assert message and len(message.splitlines()) == 1
    assert not (folder / "set.zip").exists()
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("chunked", [False, True])
def test_download(server: FileServer, tmp_path: Path, chunked: bool) -> None:
    server.default.chunked = chunked
    told: list[tuple[int, int | None]] = []
    path = fetch(source(server), tmp_path / "new", lambda *told_now: told.append(told_now))
    assert path == tmp_path / "new" / "set.zip"
    assert path.read_bytes() == BODY
    assert names(tmp_path / "new") == ["set.zip"]
    total = None if chunked else len(BODY)
    assert told[0] == (0, total) and told[-1] == (len(BODY), total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_complete_file_is_not_fetched_again(
    server: FileServer, tmp_path: Path, kind: str
) -> None:
    item = source(server, f"{kind}:{hashlib.new(kind, BODY).hexdigest().upper()}")
    fetch(item, tmp_path)
    fetch(item, tmp_path)
    fetch(source(server), tmp_path)
    assert len(server.asked) == 1


def test_a_wrong_file_in_its_place_is_set_aside(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"by hand")
    assert fetch(source(server, sha256(BODY)), tmp_path).read_bytes() == BODY
    assert (tmp_path / "set.zip.wrong").read_bytes() == b"by hand"


def test_a_cut_connection_goes_on_where_it_was(server: FileServer, tmp_path: Path) -> None:
    server.answers = [Answer(cut=CUT), Answer(cut=CUT)]
    path = fetch(source(server, sha256(BODY)), tmp_path, pause=0)
    assert path.read_bytes() == BODY
    assert [(asked.range, asked.if_range) for asked in server.asked] == [
        (None, None),
        (f"bytes={CUT}-", '"one"'),
        (f"bytes={2 * CUT}-", '"one"'),
    ]
    assert [asked.sent for asked in server.asked] == [CUT, CUT, len(BODY) - 2 * CUT]
    assert names(tmp_path) == ["set.zip"]


def test_another_call_goes_on_too(server: FileServer, tmp_path: Path) -> None:
    server.answers = [Answer(cut=CUT)]
    message = fails(source(server), tmp_path, attempts=1)
    for part in (
        server.url("/set.zip"),
        "1 tries",
        "100.0 kB",
        "set.zip.part",
        "epeat the command",
    ):
        assert part in message
    assert fetch(source(server), tmp_path).read_bytes() == BODY
    assert [asked.sent for asked in server.asked] == [CUT, len(BODY) - CUT]


def test_chunks_that_end_too_early(server: FileServer, tmp_path: Path) -> None:
    server.answers = [Answer(chunked=True, cut=CUT)]
    assert fetch(source(server), tmp_path, pause=0).read_bytes() == BODY
    assert server.asked[1].range == f"bytes={CUT}-"


def test_a_whole_part_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    # As if the process had been killed just before it renamed the file.
    (tmp_path / "set.zip.part").write_bytes(BODY)
    (tmp_path / "set.zip.part.version").write_text('"one"')
    assert fetch(source(server, sha256(BODY)), tmp_path).read_bytes() == BODY
    assert [asked.sent for asked in server.asked] == [0]
    assert names(tmp_path) == ["set.zip"]


@pytest.mark.parametrize("default", [Answer(ranges=False), Answer(tag=""), Answer(tag='W/"weak"')])
def test_a_server_without_ranges_starts_anew(
    server: FileServer, tmp_path: Path, default: Answer
) -> None:
    server.default = default
    server.answers = [Answer(cut=CUT, ranges=default.ranges, tag=default.tag)]
    assert fetch(source(server), tmp_path, pause=0).read_bytes() == BODY
    assert [asked.sent for asked in server.asked] == [CUT, len(BODY)]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("other", [OTHER, OTHER[:CUT], OTHER[: CUT // 2]])
def test_a_changed_file_starts_anew(
    server: FileServer, tmp_path: Path, if_range: bool, other: bytes
) -> None:
    server.answers = [
        Answer(cut=CUT),
        Answer(tag='"two"', if_range=if_range, change=other),
    ]
    server.default = Answer(tag='"two"')
    if not if_range and len(other) == CUT:
        # Nothing tells this file from a part that is whole, but its checksum.
        assert "sha256" in fails(source(server, sha256(other)), tmp_path)
    assert fetch(source(server, sha256(other)), tmp_path, pause=0).read_bytes() == other


def test_a_part_of_unknown_version_starts_anew(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(b"?" * CUT)
    assert fetch(source(server), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_checksum(server: FileServer, tmp_path: Path, kind: str) -> None:
    expected, found = (hashlib.new(kind, body).hexdigest() for body in (OTHER, BODY))
    message = fails(source(server, f"{kind}:{expected}"), tmp_path)
    for part in (
        server.url("/set.zip"),
        expected,
        found,
        kind,
        "set.zip.wrong",
        "epeat the command",
    ):
        assert part in message
    assert names(tmp_path) == ["set.zip.wrong"]
    server.files["/set.zip"] = OTHER
    assert fetch(source(server, f"{kind}:{expected}"), tmp_path).read_bytes() == OTHER


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(server: FileServer, tmp_path: Path, status: int) -> None:
    server.default.status = status
    message = fails(source(server), tmp_path)
    assert str(status) in message and str(tmp_path / "set.zip") in message
    assert len(server.asked) == 1


def test_a_passing_failure_is_tried_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("benchmark.data.acquire.download.time.sleep", pauses.append)
    server.answers = [Answer(status=503), Answer(status=500), Answer(status=429)]
    assert fetch(source(server), tmp_path, pause=0.5).read_bytes() == BODY
    assert pauses == [0.5, 1.0, 2.0]
    server.default.status = 502
    assert "502" in fails(Source(server.url("/b/set.zip"), ""), tmp_path / "b")


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/set.zip", "data:text/plain,a", "//[", "/set.zip"],
)
def test_redirects_that_are_not_followed(server: FileServer, tmp_path: Path, target: str) -> None:
    # The last one leads to itself.
    server.default.redirect = target
    message = fails(source(server), tmp_path, attempts=2)
    assert server.url("/set.zip") in message
    assert "redirect" in message and len(server.asked) <= 11
    assert names(tmp_path) == []


def test_a_redirect_within_http_is_followed(server: FileServer, tmp_path: Path) -> None:
    server.files["/elsewhere"] = OTHER
    server.answers = [Answer(redirect=server.url("/elsewhere"))]
    assert fetch(source(server), tmp_path).read_bytes() == OTHER


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    import http.client
    import io
    from urllib.error import HTTPError
    from urllib.request import Request

    from benchmark.data.acquire.download import _Redirects

    def follow(old: str, new: str) -> Request | None:
        headers = http.client.HTTPMessage()
        return _Redirects().redirect_request(Request(old), io.BytesIO(), 302, "", headers, new)

    assert follow("http://a.org/x", "https://a.org/x") is not None
    assert follow("https://a.org/x", "https://b.org/x") is not None
    with pytest.raises(HTTPError):
        follow("https://a.org/x", "http://a.org/x")


@pytest.mark.parametrize("answer", [Answer(cut=0), Answer(cut=CUT, ranges=False), Answer(cut=1)])
def test_cuts_without_end(server: FileServer, tmp_path: Path, answer: Answer) -> None:
    server.default = answer
    message = fails(source(server), tmp_path, attempts=4)
    assert "gave up after 4 tries" in message and "epeat the command" in message
    assert len(server.asked) == 4


def test_tries_that_make_headway_do_not_count(server: FileServer, tmp_path: Path) -> None:
    server.files["/set.zip"] = body = BODY * 20
    server.default.cut = HEADWAY
    assert fetch(source(server), tmp_path, attempts=2, pause=0).read_bytes() == body
    assert len(server.asked) == -(-len(body) // HEADWAY) > 4


def test_a_slow_trickle(server: FileServer, tmp_path: Path) -> None:
    # Longer than the time limit as a whole, but never silent for so long.
    server.default.pause = 0.15
    assert fetch(source(server), tmp_path, attempts=1, timeout=0.6).read_bytes() == BODY


def test_silence_counts_as_a_cut(server: FileServer, tmp_path: Path) -> None:
    server.answers = [Answer(pause=0.5)]
    assert fetch(source(server), tmp_path, pause=0, timeout=0.2).read_bytes() == BODY
    assert len(server.asked) == 2


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as gone:
        address = gone.url("/set.zip")
    message = fails(Source(address, ""), tmp_path, attempts=2)
    assert "gave up after 2 tries" in message and "refused" in message


@pytest.mark.parametrize("url", ["file:///a.zip", "ftp://a.org/a.zip", "a.zip", "http:///a.zip"])
def test_other_addresses(url: str, tmp_path: Path) -> None:
    assert "http or https" in fails(Source(url, ""), tmp_path)


def test_file_names() -> None:
    assert file_name("https://a.org/b/c%20d.zip?e=f/g#h/i") == "c d.zip"
    assert file_name("https://a.org/..%2F..%2Fetc%2Fpasswd") == "passwd"
    assert file_name("https://a.org/b%5C..%5Cc.zip") == "c.zip"
    for url in (
        "https://a.org/",
        "https://a.org",
        "http://[/file name",
        "https://a.org/b/..",
        "https://a.org/a%0Ab",
    ):
        with pytest.raises(UserError, match="file name"):
            file_name(url)


def test_too_little_room_is_told_before(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 1000, 1000))
    message = fails(source(server), tmp_path)
    for part in (str(tmp_path), "1.0 kB", "300.0 kB", "make room", "repeat the command to resume"):
        assert part in message
    assert not (tmp_path / "set.zip.part").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up(server: FileServer, tmp_path: Path) -> None:
    # The kernel itself answers "no space left" to every write to this device.
    part = tmp_path / "set.zip.part"
    keep = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path != part:
            keep(path, missing_ok)

    part.symlink_to("/dev/full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        message = fails(source(server), tmp_path)
    for text in (f"{tmp_path} is full", "300.0 kB", "make room", "repeat the command to resume"):
        assert text in message
    assert len(server.asked) == 1


def test_after_a_full_disk_it_goes_on(server: FileServer, tmp_path: Path) -> None:
    # A limit on the size of files stands for the size of the disk.
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from benchmark.data.acquire.download import fetch\n"
        "from benchmark.data.base import Source\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({CUT}, {resource.RLIM_INFINITY}))\n"
        "try: fetch(Source(sys.argv[1], ''), Path(sys.argv[2]))\n"
        "except Exception as error: print(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", code, server.url("/set.zip"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"UserError: {tmp_path} is full: set.zip needs 200.0 kB more")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "set.zip.part").stat().st_size == CUT
    assert fetch(source(server, sha256(BODY)), tmp_path).read_bytes() == BODY
    assert server.asked[-1].range == f"bytes={CUT}-"


def test_a_folder_that_is_a_file(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written") as info:
        fetch(source(server), tmp_path / "file")
    assert len(str(info.value).splitlines()) == 1
    assert not server.asked
