"""Downloads that survive cut connections.

A file grows as `<name>.part` and is renamed when it is whole and its checksum is right, so a file
under its final name is always complete. The version of the file on the server (its ETag, or its
date) is in `<name>.part.version`: the next try asks for the rest of exactly that version (RFC 9110,
sections 13.1.5 and 14.2), and starts over where the server has another, or knows no ranges.
"""

import errno
import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.format import size_text
from benchmark.data.base import Source

Progress = Callable[[int, int | None], None]
"""Called with what is done and the total, in one unit; None = not known."""

CHUNK = 1 << 20
HEADWAY = 1 << 20
"""Bytes that a try must add for the tries before it to be forgotten."""

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _Cut(Exception):
    """The connection ended too early, or another try may do better for another reason."""


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to plain http."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        # The base class lets ftp pass, and refuses all other schemes before.
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise HTTPError(newurl, code, f"{req.type} to {scheme}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    # Not build_opener: it also opens file:, ftp: and data: addresses.
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _Redirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True)
class _Part:
    """The unfinished file, with the version of the server's file that it is a part of."""

    path: Path

    @property
    def _version(self) -> Path:
        return self.path.with_name(self.path.name + ".version")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> str:
        return self._version.read_text().strip() if self._version.exists() else ""

    def restart(self, version: str) -> None:
        # In this order, so that bytes are never beside the version of others.
        self.path.unlink(missing_ok=True)
        self._version.write_text(version)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        os.replace(self.path, path)
        self._version.unlink(missing_ok=True)


def file_name(url: str) -> str:
    """The name under which a download is kept: the last component of the address.

    Raises:
        UserError: the address is not http or https, or names no file.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url!r} cannot be downloaded: {error}; correct the address") from error
    name = PurePosixPath(unquote(parts.path).replace("\\", "/")).name
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"{url!r} cannot be downloaded: give an address of http or https")
    if name in ("", "..") or not name.isprintable():
        raise UserError(f"{url!r} cannot be downloaded: its path ends in no file name")
    return name


def fetch(
    source: Source,
    folder: Path,
    progress: Progress | None = None,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 60.0,
) -> Path:
    """Downloads a file, or resumes where an earlier call stopped.

    A file that is already there under its final name is taken as it is where its checksum is
    right or not known.

    Args:
        source: what to download.
        folder: where to; made if it is missing.
        progress: called with the bytes done and the total.
        attempts: tries in a row that may fail without at least `HEADWAY` bytes more.
        pause: seconds before the second of these tries; doubles with each.
        timeout: seconds without a single byte after which a connection counts as cut.

    Returns:
        Path of the complete file.

    Raises:
        UserError: the server refuses or fails for good, the disk is full, or the checksum is
            wrong; the file is then set aside as `<name>.wrong`.

    Example:
        >>> fetch(Source("https://example.org/a.zip", to="a"), Path("downloads"))  # doctest: +SKIP
        PosixPath('downloads/a.zip')
    """
    final = folder / file_name(source.url)
    part = _Part(final.with_name(final.name + ".part"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if final.is_file():
            if not _mismatch(final, source.checksum):
                return final
            os.replace(final, _aside(final))
        _persist(source.url, part, progress, attempts, pause, timeout)
        problem = _mismatch(part.path, source.checksum)
        part.finish(_aside(final) if problem else final)
    except OSError as error:
        raise UserError(
            f"{final} cannot be written ({error.strerror}); choose another data folder, or fix "
            "its permissions"
        ) from error
    if problem:
        raise UserError(
            f"{source.url}: {problem}; the file is kept as {_aside(final)}. Repeat the command to "
            "download it again; if the problem persists, the origin has changed its file"
        )
    return final


def _persist(
    url: str, part: _Part, progress: Progress | None, attempts: int, pause: float, timeout: float
) -> None:
    """Tries until the part is whole."""
    failures, furthest = 0, part.size()
    while True:
        try:
            _go_on(url, part, progress, timeout)
            return
        except _Cut as cut:
            reason = str(cut)
        size = part.size()
        # A server that cuts at the same byte again and again makes no headway.
        failures = 1 if size >= furthest + HEADWAY else failures + 1
        furthest = max(furthest, size)
        if failures >= attempts:
            raise UserError(
                f"{url}: gave up after {attempts} tries ({reason}); {size_text(size)} are kept in "
                f"{part.path}: check the network; to resume, repeat the command"
            )
        time.sleep(pause * 2 ** (failures - 1))


def _go_on(url: str, part: _Part, progress: Progress | None, timeout: float) -> None:
    """One request: for the rest of the part where its version is known, else for everything."""
    headers = {"User-Agent": "petseg-bench"}
    size, version = part.size(), part.version()
    if size and version:
        headers |= {"Range": f"bytes={size}-", "If-Range": version}
    try:
        response = _opener().open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            if error.headers.get("Content-Range", "").endswith(f"/{size}"):
                return
            part.discard()
            raise _Cut("the server's file has changed") from error
        raise _refusal(url, error, part) from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"{url}: the server's certificate is not trusted ({error.reason.verify_message}); "
                "check the clock and the proxy of this machine"
            ) from error
        raise _Cut(" ".join(str(error.reason).split())) from error
    except ValueError as error:
        raise UserError(
            f"{url}: this address, or one that it redirects to, is malformed ({error}); look for "
            "the file at its origin"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(on_one_line(error)) from error
    with response:
        _receive(url, response, part, progress)


def _refusal(url: str, error: HTTPError, part: _Part) -> Exception:
    if error.code in _PASSING:
        return _Cut(f"the server answered {error.code}")
    reason = " ".join(str(error.reason).split())
    if error.code // 100 == 3:
        return UserError(
            f"{url}: a redirect to {error.filename!r} is not followed ({reason}); look for the "
            "file at its origin"
        )
    return UserError(
        f"{url}: the server answered {error.code} ({reason}); the file may have moved: get it by "
        f"hand and put it at {part.path.with_suffix('')}"
    )


def _receive(
    url: str, response: http.client.HTTPResponse, part: _Part, progress: Progress | None
) -> None:
    """Adds a response's body to the part, or starts a new part with it."""
    version = _version(response)
    if response.status == 206:
        begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        # Some servers send ranges of a changed file, against If-Range.
        if not begin or int(begin[1]) != part.size() or version not in ("", part.version()):
            part.discard()
            raise _Cut("the server's file has changed")
    elif response.status == 200:
        part.restart(version)
    else:
        raise UserError(f"{url}: the server answered {response.status}, not with the file")
    done = part.size()
    total = None if response.length is None else done + response.length
    where, name = part.path.parent, part.path.with_suffix("").name
    if total is not None and (free := shutil.disk_usage(where).free) < total - done:
        raise UserError(
            f"{where} has room for {size_text(free)}, but {name} needs {size_text(total - done)} "
            "more; make room, then repeat the command to resume"
        )
    if progress:
        progress(done, total)
    try:
        with part.path.open("ab") as file:
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        more = "more room" if total is None else f"{size_text(total - part.size())} more"
        raise UserError(
            f"{where} is full: {name} needs {more} there; make room, then repeat the command to "
            "resume"
        ) from error
    if total is not None and done < total:
        raise _Cut(f"the connection ended at {size_text(done)} of {size_text(total)}")


def _read(response: http.client.HTTPResponse) -> bytes:
    # Separates network errors from those of the disk: both are OSErrors.
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(on_one_line(error)) from error


def _version(response: http.client.HTTPResponse) -> str:
    """What If-Range takes: a strong ETag, else a date; empty = the server gives neither."""
    tag = response.headers.get("ETag", "").strip()
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "").strip()


def _mismatch(path: Path, checksum: str) -> str:
    """How a file's checksum differs from the expected; empty if it does not, or none is known."""
    if not checksum:
        return ""
    kind, _, expected = checksum.partition(":")
    if kind not in ("sha256", "md5"):
        raise ValueError(f"checksum {checksum!r} is neither sha256:<hex> nor md5:<hex>")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    if found.hexdigest() == expected.lower():
        return ""
    return f"its {kind} is {found.hexdigest()}, but {expected.lower()} is expected"


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".wrong")
