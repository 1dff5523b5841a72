"""Results at a URL: an object store holds the runs, and a folder of the cache mirrors them.

A run is computed in the mirror as in any results folder, and uploaded when it has ended:

    <url>/<suite>/<benchmark>/<backbone>/<method>/<run_id>/<version>/   its files
    <url>/.complete/<suite>/<benchmark>/<backbone>/<method>/<run_id>    its marker, written last

The marker names the files with sizes and hashes, and the version, which is a hash of these; a run
without a marker does not exist. So whatever ends an upload, readers see the former version or the
new one. Of two machines that ran the same cell, the first marker stays: it is written only where
there is none. Who changes a run later, as by evaluating it again, replaces the version that it
began with, and no other.

What was last known of a run's marker is beside it in the mirror, in `.<run_id>.remote`.
"""

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError, field_validator

from benchmark.core import object_store
from benchmark.core.errors import UserError
from benchmark.core.files import file_sha256, make_folder, write_atomic
from benchmark.core.format import counted
from benchmark.core.object_store import URL_FILE, Store, is_url, patiently
from benchmark.core.record import FINAL, RECORD, Status
from benchmark.core.spec import RunSpec, plain_name, short_hash
from benchmark.results import lock, store

MARKERS = ".complete"
"""Folder of the markers below the URL, so that a listing shows nothing else."""
DELTA = "delta.safetensors"
"""Alone in being large: it is fetched when a run is used."""
PATIENCE_SECONDS = 60.0
"""How long an upload is tried while the store does not answer."""
SHORT_SECONDS = 5.0
"""The same of a question at the beginning of a command."""

Say = Callable[[str], None]
Stop = Callable[[], bool]

_away: set[str] = set()
"""Stores that did not answer this process the last time: they are asked once, until they do."""


class Marker(BaseModel):
    """What a store has of a run.

    Attributes:
        version: of its files.
        status: of its record.
        started: when the run began; the same in all versions of one run.
        files: bytes and SHA-256 by name.
    """

    version: str
    status: Status
    started: str
    files: dict[str, tuple[int, str]]

    @field_validator("version")
    @classmethod
    def _a_name(cls, version: str) -> str:
        return _plain(version)

    @field_validator("files")
    @classmethod
    def _names(cls, files: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
        return {_plain(name): about for name, about in files.items()}


class _Known(BaseModel):
    """What the mirror knows of a run's marker; `token` changes with the object, "" = not known."""

    marker: Marker
    token: str = ""


def located(results: str | Path) -> Path:
    """The results folder that an option names: of a URL its mirror, which is brought up to date.

    Args:
        results: folder or URL.

    Raises:
        UserError: the store cannot be reached, or refuses.
    """
    if not is_url(results):
        return Path(results)
    there = Remote(str(results).rstrip("/"), mirror(str(results)))
    there.update()
    return there.folder


def mirror(url: str) -> Path:
    """The mirror of a URL as it is.

    Raises:
        UserError: there is no cache, or it cannot be written.
    """
    return object_store.mirror(url, "results")


def of(results: Path) -> "Remote | None":
    """The store that a results folder, or a folder in it, mirrors; None of all others."""
    found = object_store.mirrored(results)
    return None if found is None else Remote(*found)


def within(results: Path, name: str) -> Path:
    """A folder of a results folder that is one itself, such as that of `tune`; see `located`."""
    there = of(results)
    if there is None:
        return results / name
    inner = f"{there.url}/{name}"
    there = Remote(inner, object_store.link(results / name, inner))
    there.update()
    return there.folder


def check_writable(results: Path) -> None:
    """Proves that a results folder takes files, and so does the store that it mirrors.

    Raises:
        UserError: one of them does not.
    """
    store.check_writable(results)
    if there := of(results):
        there.check_writable()


def look(results: Path, cell: RunSpec) -> None:
    """Fetches the record of a cell that another machine has finished; under the cell's lock.

    A store that does not answer is no reason to wait: the upload tells who was first.
    """
    if there := of(results):
        with contextlib.suppress(UserError, OSError):
            there.look(cell.folder.as_posix())


def upload(results: Path, cell: RunSpec, say: Say, stop: Stop) -> str:
    """Uploads a cell that has ended; under the cell's lock.

    What cannot be uploaded stays in the mirror, and the next command uploads it.

    Args:
        results: folder of the results; nothing happens unless it mirrors a store.
        cell: which one.
        say: is given what a user should know.
        stop: whether to wait no more for a store that does not answer.

    Returns:
        Why it is not uploaded; empty = it is, or there is no store.
    """
    there = of(results)
    if there is None:
        return ""
    waiting = there.url not in _away
    seconds = PATIENCE_SECONDS if waiting else 0.0
    try:
        patiently(lambda: there.push(cell.folder.as_posix(), say), seconds, say, stop)
    except (UserError, OSError) as error:
        _away.add(there.url)
        if waiting:
            say(f"{error}; runs stay in {there.folder}, and the next command uploads them")
        return str(error)
    _away.discard(there.url)
    return ""


def unsent(results: Path, cell: RunSpec) -> str:
    """Why others do not see a cell that has ended here; empty = they do, or there is no store."""
    there = of(results)
    if there is None or not there.is_due(cell.folder.as_posix()):
        return ""
    return (
        f"it has ended, but {there.url} did not take it: kept in {there.folder}; repeat the command"
    )


def renew(results: Path) -> None:
    """Makes a results folder that mirrors a store show what that has by now, if it answers."""
    if there := of(results):
        try:
            there.update()
        except UserError as error:
            _warn(f"{error}; what other machines did last is not shown")


def finish(results: Path) -> bool:
    """Uploads what has changed in a results folder that mirrors a store, if the store answers.

    Returns:
        Whether nothing is left to upload; what is left, a warning says.
    """
    folders = (results, *(path.parent for path in results.glob(f"*/{URL_FILE}")))
    return all([there.finish() for folder in folders if (there := of(folder))])


def fetch(results: Path, folders: Iterable[Path], deltas: bool = False) -> None:
    """Fetches the files of runs that a store has and the mirror lacks.

    Args:
        results: the results folder, or a folder in it; nothing happens unless it mirrors a store.
        folders: of the runs.
        deltas: the trained tensors, too.

    Raises:
        UserError: the store does not answer, or has another version now.
    """
    if there := of(results):
        runs = [there.run_of(folder.absolute()) for folder in folders]
        patiently(lambda: there.fetch(runs, deltas), SHORT_SECONDS, _warn)


def holds(path: Path) -> bool:
    """Whether a file of a run that is not here can be fetched."""
    there = of(path)
    return there is not None and there.holds(path.absolute())


class Remote:
    """Results at a URL and their mirror.

    Args:
        url: without `/` at the end.
        folder: the mirror, absolute.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self._store = url, folder, Store(url)
        self._sent: set[str] = set()  # objects that another try need not upload again

    def update(self) -> None:
        """Makes the mirror show the runs that the store has, and uploads those that it lacks.

        Raises:
            UserError: the store does not answer, or refuses.
        """
        # Before the listing, so that runs uploaded from here in the meantime do not look removed.
        sent = {run for run in self._runs() if self._known(run) is not None}
        listed = patiently(lambda: self._store.find(MARKERS), SHORT_SECONDS, _warn)
        markers = {run: token for run, (token, _) in listed.items() if _is_run(run)}
        here, changed = set(self._runs()), {}
        for run, token in markers.items():
            known = self._known(run)
            if known is None or known.token != token or run not in here:
                changed[run] = token
        texts = self._store.read_many(f"{MARKERS}/{run}" for run in changed)
        found = {run: _marker(texts.get(f"{MARKERS}/{run}")) for run in changed}
        wanted = {run: m for run, m in found.items() if m and self._is_wanted(run, m, changed[run])}
        records = self._store.read_many(self._name(run, m, RECORD) for run, m in wanted.items())
        for run, marker in wanted.items():
            text = records.get(self._name(run, marker, RECORD))
            with lock.hold_run(self.folder / run) as mine:
                # Else it is replaced just now, or another command has run it here meanwhile.
                if mine and text is not None and self._is_wanted(run, marker, changed[run]):
                    try:
                        self._take(run, marker, text, changed[run])
                    except UserError as damaged:  # the others are whole
                        _warn(str(damaged))
        gone = sorted(sent - markers.keys())
        for run in gone:
            with lock.hold_run(self.folder / run) as mine:
                if mine:
                    store.set_aside(self.folder, self.folder / run)
                    self._beside(run).unlink(missing_ok=True)
        if gone:
            verb = "is" if len(gone) == 1 else "are"
            _warn(
                f"{counted(len(gone), 'run')} {verb} no longer at {self.url}; the copies here are "
                f"in {self.folder / store.SET_ASIDE}"
            )
        self.finish()

    def finish(self) -> bool:
        """Uploads runs that the store lacks, or that have changed here; see `finish`."""
        left = [run for run in self._runs() if self.is_due(run)]
        for number, run in enumerate(left):
            try:
                with lock.hold_run(self.folder / run) as mine:
                    if mine:
                        self.push(run, _warn)
            except UserError as error:
                _warn(
                    f"{error}; {counted(len(left) - number, 'run')} in {self.folder} not uploaded; "
                    "the next command with this URL uploads them"
                )
                return False
        return True

    def check_writable(self) -> None:
        """Proves that the store takes objects.

        Raises:
            UserError: it does not.
        """
        probe = f".probe-{os.getpid()}"
        try:
            patiently(lambda: self._store.write(probe, b""), SHORT_SECONDS, _warn)
        except FileNotFoundError:
            raise UserError(f"{self.url}: there is no such bucket; make it") from None
        self._store.remove([probe])

    def look(self, run: str) -> None:
        """Takes the record of a run that the store has in another version; see `look`."""
        marker = self._there(run)
        if marker is not None and self._is_wanted(run, marker, ""):
            self._take(run, marker, self._store.read(self._name(run, marker, RECORD)), "")

    def push(self, run: str, say: Say) -> None:
        """Uploads a run, unless the store has that of another machine, which is taken then.

        Raises:
            UserError: the store does not answer, or refuses; the run is as it was.
        """
        try:
            self._push(run, say)
        except FileNotFoundError as error:
            raise UserError(
                f"{self.url}: the bucket, or what is in it of run {Path(run).name}, is gone "
                f"({error}); make the bucket, and repeat the command"
            ) from error

    def _push(self, run: str, say: Say) -> None:
        folder, known = self.folder / run, self._known(run)
        record = store.read_record(folder)
        if record is None or record.status == "interrupted":
            return
        started, files = record.provenance.started, _files(folder)
        if known is not None and known.marker.started == started:
            files = known.marker.files | files  # some may never have been fetched
        own = Marker(version=short_hash(files), status=record.status, started=started, files=files)
        there = self._there(run)
        if there is not None and there.version != own.version:
            begun_with = known is not None and known.marker.version == there.version
            ours, theirs = own.status in FINAL, there.status in FINAL
            if ours < theirs or (ours == theirs and not begun_with):
                self._lose(run, there, say)
                return
        if there is None or there.version != own.version:
            for name in files:
                target = self._name(run, own, name)
                if target in self._sent:
                    continue
                if (folder / name).is_file():
                    self._store.upload(folder / name, target)
                elif known is not None:  # never fetched
                    self._store.copy(self._name(run, known.marker, name), target)
                self._sent.add(target)
            text = own.model_dump_json().encode()
            try:
                self._store.write(f"{MARKERS}/{run}", text, new=there is None)
            except FileExistsError:
                first = self._there(run)
                if first is not None and first.version != own.version:
                    self._store.remove(self._name(run, own, name) for name in files)
                    self._sent.clear()
                    self._lose(run, first, say)
                    return
            if there is not None:
                self._store.remove(self._name(run, there, name) for name in there.files)
        self._keep(run, own, "")

    def holds(self, path: Path) -> bool:
        """See `holds`."""
        known = self._known(self.run_of(path.parent))
        return known is not None and path.name in known.marker.files

    def fetch(self, runs: Iterable[str], deltas: bool) -> None:
        """See `fetch`."""
        missing: dict[str, tuple[Path, str]] = {}
        for run in runs:
            known = self._known(run)
            if known is None:
                continue
            for name, (_, digest) in known.marker.files.items():
                path = self.folder / run / name
                if not path.exists() and (deltas or name != DELTA):
                    missing[self._name(run, known.marker, name)] = path, digest
        small = [name for name, (path, _) in missing.items() if path.name != DELTA]
        texts = self._store.read_many(small)
        for name, (path, digest) in missing.items():
            try:
                if path.name == DELTA:
                    self._store.download(name, path)
                elif hashlib.sha256(texts[name]).hexdigest() == digest:
                    write_atomic(path, texts[name])
                if not path.exists() or file_sha256(path) != digest:
                    path.unlink(missing_ok=True)
                    raise FileNotFoundError
                since = self._beside(self.run_of(path.parent)).stat().st_mtime_ns
                os.utime(path, ns=(since, since - 1))  # what was fetched is no change
            except (FileNotFoundError, KeyError):
                raise UserError(
                    f"{self.url}/{name} is not there, or not what its marker says; if another "
                    "machine is replacing the run, repeat the command, else run it again"
                ) from None
            except OSError as error:
                raise UserError(
                    f"{path} cannot be written ({error.strerror}); make room, and repeat the "
                    "command"
                ) from error

    def _is_wanted(self, run: str, marker: Marker, token: str) -> bool:
        """Whether the store's version of a run is to be taken; otherwise it is here, or worse."""
        known, folder = self._known(run), self.folder / run
        record = store.read_record(folder)
        if record is None:
            return True
        if known is not None and known.marker.version == marker.version:
            changed = self._beside(run).stat().st_mtime_ns
            self._keep(run, marker, token)
            os.utime(self._beside(run), ns=(changed, changed))  # what changed since stays changed
            return False
        if marker.files.get(RECORD, (0, ""))[1] == file_sha256(folder / RECORD):
            self._keep(run, marker, token)
            return False
        return marker.status in FINAL or record.status not in (*FINAL, "interrupted")

    def _take(self, run: str, marker: Marker, text: bytes, token: str) -> None:
        """Puts the store's version of a run in place of that here."""
        if hashlib.sha256(text).hexdigest() != marker.files.get(RECORD, (0, ""))[1]:
            raise UserError(
                f"{self.url}/{self._name(run, marker, RECORD)} is not what its marker says; remove "
                f"{self.url}/{MARKERS}/{run}, and run it again"
            )
        folder = self.folder / run
        record = store.read_record(folder)
        if record is not None and record.status in FINAL and self.is_due(run):
            store.set_aside(self.folder, folder)
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        write_atomic(folder / RECORD, text)
        self._keep(run, marker, token)

    def _lose(self, run: str, first: Marker, say: Say) -> None:
        """Takes the run of another machine, and sets that of this one aside."""
        self._take(run, first, self._store.read(self._name(run, first, RECORD)), "")
        say(f"run {Path(run).name}: that of another machine is at {self.url}, and is kept")

    def is_due(self, run: str) -> bool:
        """Whether the store lacks a run, or what has changed of it here."""
        known, folder = self._known(run), self.folder / run
        if known is not None:
            since, files = self._beside(run).stat().st_mtime_ns, known.marker.files
            if not any(_differs(path, files.get(path.name), since) for path in _own(folder)):
                return False
        record = store.read_record(folder)
        return record is not None and record.status != "interrupted"

    def _runs(self) -> list[str]:
        found = self.folder.glob(f"*/*/*/*/[!.]*/{RECORD}")
        return sorted(self.run_of(path.parent) for path in found)

    def _there(self, run: str) -> Marker | None:
        try:
            return _marker(self._store.read(f"{MARKERS}/{run}"))
        except FileNotFoundError:
            return None

    def _known(self, run: str) -> _Known | None:
        try:
            return _Known.model_validate_json(self._beside(run).read_bytes())
        except (OSError, ValidationError):
            return None

    def _keep(self, run: str, marker: Marker, token: str) -> None:
        content = _Known(marker=marker, token=token).model_dump_json().encode()
        write_atomic(self._beside(run), content)

    def _beside(self, run: str) -> Path:
        folder = self.folder / run
        return folder.with_name(f".{folder.name}.remote")

    def run_of(self, folder: Path) -> str:
        """The name of the run in a folder of the mirror."""
        return folder.relative_to(self.folder).as_posix()

    def _name(self, run: str, marker: Marker, file: str) -> str:
        return f"{run}/{marker.version}/{file}"


def _marker(text: bytes | None) -> Marker | None:
    """None where there is none, or one that is not whole yet."""
    try:
        return None if text is None else Marker.model_validate_json(text)
    except ValidationError:
        return None


def _own(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_file())


def _differs(path: Path, known: tuple[int, str] | None, since: int) -> bool:
    """Whether a file is not as the marker says; one that is older than that is not read."""
    status = path.stat()
    if known is None or status.st_size != known[0]:
        return True
    return status.st_mtime_ns >= since and file_sha256(path) != known[1]


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    return {path.name: (path.stat().st_size, file_sha256(path)) for path in _own(folder)}


def _is_run(name: str) -> bool:
    """Whether an object's name is that of a run's marker, and leads to a place in the mirror."""
    parts = name.split("/")
    return len(parts) == 5 and all(part == plain_name(part) != "" for part in parts)


def _plain(name: str) -> str:
    if name != plain_name(name) or not name:
        raise ValueError(f"{name!r} is no name of a file")
    return name


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
