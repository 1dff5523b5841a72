"""Folders at a URL: object stores such as S3, and whatever else fsspec opens.

What is at a URL is used through a *mirror*: a folder of the cache that says in `.url.json` of which
URL it is. So whoever is given a folder can ask whether there is more of it elsewhere.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmark.core.cache_folder import FOLDER, cache_folder
from benchmark.core.errors import UserError, on_one_line
from benchmark.core.files import make_folder, sync_folder, write_atomic
from benchmark.core.processes import tag

URL_FILE = ".url.json"
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 8.0
"""Pause before the second try of what failed, which doubles up to the longest."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_EXTRAS = {"s3": "'petseg-bench[s3]'", "s3a": "'petseg-bench[s3]'", "gs": "gcsfs", "gcs": "gcsfs"}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_NOT_ALLOWED = re.compile("Credential|Token|Profile|Region|ParamValidation|InvalidEndpoint")
"""In the names of the exceptions of botocore that trying again does not help."""
_SILENT = logging.NullHandler()

T = TypeVar("T")


class Away(UserError):
    """A store does not answer now, and may later."""


def is_url(text: object) -> bool:
    """Whether an option names a URL and no folder of this machine."""
    return isinstance(text, str) and _URL.match(text) is not None


@dataclass(frozen=True)
class Store:
    """The objects below a URL, by their names with `/`.

    All methods raise `Away` where it does not answer, and `UserError` where it refuses.

    Attributes:
        url: without `/` at the end.
    """

    url: str

    def find(self, below: str = "") -> dict[str, tuple[str, int]]:
        """All objects of a folder, by their names in it: what changes with them, and their bytes.

        Empty where there is no such folder.
        """
        top = self._at(below)
        try:
            found = self._ask(lambda fs: fs.find(top, detail=True))
        except FileNotFoundError:
            raise UserError(
                f"{self.url}: there is no such bucket; make it, or correct the name"
            ) from None
        entries: dict[str, tuple[str, int]] = {}
        for name, about in found.items():
            facts = repr(sorted((key, str(value)) for key, value in about.items()))
            token = hashlib.sha256(facts.encode()).hexdigest()[:16]
            entries[name[len(top) :].lstrip("/")] = token, int(about.get("size") or 0)
        return entries

    def read(self, name: str) -> bytes:
        """An object; raises FileNotFoundError where there is none."""
        content: bytes = self._ask(lambda fs: fs.cat_file(self._at(name)))
        return content

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Objects by their names, read side by side; those that are not there are left out."""
        wanted = {self._at(name): name for name in names}
        if not wanted:
            return {}
        found = self._ask(lambda fs: fs.cat(list(wanted), on_error="return"))
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise self._told(content)
        return {wanted[path]: text for path, text in found.items() if isinstance(text, bytes)}

    def write(self, name: str, content: bytes, new: bool = False) -> None:
        """Writes an object at once; where it must be new, raises FileExistsError if it is not."""
        mode, path = "create" if new else "overwrite", self._at(name)

        def act(fs: Any) -> None:
            if not getattr(fs, "local_file", False):
                fs.pipe_file(path, content, mode=mode)
                return
            draft = f"{path}.{tag()}"
            try:
                fs.pipe_file(draft, content)
                (os.link if new else os.replace)(draft, path)
            finally:
                Path(draft).unlink(missing_ok=True)

        self._ask(act)

    def upload(self, path: Path, name: str) -> None:
        """Copies a file there."""
        self._ask(lambda fs: fs.put_file(str(path), self._at(name)))

    def download(self, name: str, path: Path) -> None:
        """Copies an object to a file, which is there whole or not at all.

        Raises:
            FileNotFoundError: there is no such object.
        """
        draft = path.with_name(f".{path.name}.{tag()}")
        try:
            make_folder(path.parent)
            self._ask(lambda fs: fs.get_file(self._at(name), str(draft)), str(path))
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, path)
            sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)

    def copy(self, name: str, to: str) -> None:
        """Copies an object to another name."""
        self._ask(lambda fs: fs.cp_file(self._at(name), self._at(to)))

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; what cannot be removed stays, and is in nobody's way."""
        with contextlib.suppress(UserError, FileNotFoundError):
            self._ask(lambda fs: fs.rm([self._at(name) for name in names]))

    def _at(self, name: str) -> str:
        _, path = self._open()
        return f"{path}/{name}".rstrip("/") if name else path

    def _open(self) -> tuple[Any, str]:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False}
        scheme = self.url.partition("://")[0].lower()
        if scheme in ("s3", "s3a"):
            # Whoever asks repeats the question itself, and says so.
            options["config_kwargs"] = {"retries": {"max_attempts": 1}}
            options["max_concurrency"] = 1  # else the size of each small object is asked for first
        if scheme in ("file", "local"):
            options["auto_mkdir"] = True
        try:
            fs, path = fsspec.url_to_fs(self.url, **options)
        except ImportError as error:
            package = _EXTRAS.get(scheme, "")
            what = f"python -m pip install {package}" if package else on_one_line(error)
            raise UserError(f"{self.url}: {scheme}:// needs another package; {what}") from error
        except Exception as error:
            raise UserError(
                f"{self.url} is no URL that fsspec opens ({on_one_line(error)}); write it as in "
                "s3://BUCKET/FOLDER"
            ) from error
        # A library that logs an error also raises it, and that becomes the one line.
        logging.getLogger(type(fs).__module__.partition(".")[0]).addHandler(_SILENT)
        if loop := getattr(fs, "loop", None):
            # Of fsspec alone. What fails in it is raised by the question, too.
            loop.set_exception_handler(lambda loop, context: None)
        return fs, path.rstrip("/")

    def _ask(self, action: Callable[[Any], T], target: str = "") -> T:
        fs, _ = self._open()
        try:
            return action(fs)
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise self._told(error, target) from error

    def _told(self, error: Exception, target: str = "") -> UserError:
        kind, reason = type(error), " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            what = f"{target or self.url}: {error.strerror}"
            return UserError(f"{what}; make room, and repeat the command")
        if isinstance(error, PermissionError):
            return UserError(f"{self.url}: access is denied ({reason}); check the credentials")
        if isinstance(error, ValueError | TypeError) or any(
            _NOT_ALLOWED.search(base.__name__) for base in kind.__mro__
        ):
            return UserError(f"{self.url}: {reason}; check the URL and the credentials")
        return Away(f"{self.url} does not answer ({reason})")


def patiently(
    action: Callable[[], T],
    seconds: float,
    say: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> T:
    """What `action` returns, which is tried again while a store is away.

    Args:
        action: may be done again after it failed.
        seconds: how long to try.
        say: is given one line before the second try.
        stop: whether to give up.

    Raises:
        Away: the store did not answer in that time.
    """
    end, pause, told = time.monotonic() + seconds, FIRST_SECONDS, False
    while True:
        try:
            return action()
        except Away as error:
            left = end - time.monotonic()
            if left <= 0 or stop():
                raise
            if not told:
                told = True
                say(f"{error}; trying again for {left:.0f} s")
            awake = time.monotonic() + min(pause, left)
            while time.monotonic() < awake and not stop():
                time.sleep(0.1)
            pause = min(2 * pause, LONGEST_SECONDS)


def mirror(url: str, kind: str) -> Path:
    """The folder of the cache for what is at a URL; made where it is missing.

    Args:
        url: what users typed.
        kind: of what is there: folders of one URL are apart by it.

    Raises:
        UserError: there is no cache, or it cannot be written.
    """
    where, url = cache_folder().folder, url.rstrip("/")
    if re.match(r"(file|local)://(?!/)", url):
        raise UserError(f"{url}: write the whole path, as in file:///shared/results")
    if where is None:
        raise UserError(f"{url}: a URL needs the cache, and {FOLDER} is none; name a folder by it")
    name = re.sub(r"[^\w.-]+", "-", url.partition("://")[2]).strip("-.")[-60:] or "root"
    return link(where / kind / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}", url)


def link(folder: Path, url: str) -> Path:
    """Makes a folder the mirror of a URL, and returns it as an absolute path.

    Raises:
        UserError: it cannot be written.
    """
    folder = folder.absolute()
    try:
        if not (folder / URL_FILE).is_file():
            make_folder(folder)
            write_atomic(folder / URL_FILE, json.dumps({"url": url}).encode())
    except OSError as error:
        raise UserError(
            f"{folder}, for what is at {url}, cannot be written ({error.strerror}); name another "
            f"folder by {FOLDER}"
        ) from error
    return folder


def mirrored(path: Path) -> tuple[str, Path] | None:
    """The URL of the mirror that a path is, or is in, and the mirror; None of all other paths."""
    path = path.absolute()
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((folder / URL_FILE).read_bytes())["url"]), folder
    return None
