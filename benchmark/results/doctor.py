"""Looks through a results folder for everything that is not as the store writes it.

Names and files may hold any bytes. Findings are listed, and nothing is ever deleted: a repair
moves broken files to `.set-aside/` in the same folder, so that the next run repeats the cell.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.processes import LONGEST, TAG, is_alive, writer
from benchmark.core.record import FINAL
from benchmark.results import index, lock, remote, store, submitted
from benchmark.results import timing as timings
from benchmark.results.load import PUBLISHED, RECORD, run_folders
from benchmark.results.validate import (
    AGAIN,
    ASIDE,
    Finding,
    attempt,
    check_run,
    check_timing,
    fault,
    in_words,
    misplaced,
    read_record,
    told,
)

DAY = 24 * 3600.0
_PARTS = ("images.npz", "predictions.npz", "curve.jsonl", "delta.safetensors", "log.txt")
_RUN_ID = re.compile(r"[0-9a-f]{12}")
# A bare number, and a draft without a place, are names of earlier versions.
_DRAFT = re.compile(rf"\.+.+\.({TAG}|\d{{1,{LONGEST}}})(\.former)?")
_PASSING = re.compile(r"\.(.+\.lease(\..+)?|clock\..+|probe-.+)")
"""Leases and clocks are of earlier versions."""
_BROKEN = re.compile(r".*\.checkpoint\.broken(\.\d+)?")
_TWIN = "a second record of the run in"


def examine(root: Path) -> list[Finding]:
    """All problems of a results folder; reads, and changes nothing.

    Args:
        root: the results folder.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"no results folder {told(root)}; name one with --results DIR")
    remote.fetch(root, run_folders(root))
    found: list[Finding] = []
    runs: dict[tuple[bool, str], list[Path]] = {}
    for folder, entries in _walk(root, found):
        names = {entry.name for entry in entries}
        if index.NAME in names and folder == root and index.is_torn(root):
            fix = "nothing to do: the next `plan` rebuilds it"
            found.append(Finding("note", root / index.NAME, "an index that cannot be read", fix))
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink():
                found += _check_link(path, root)
            elif entry.name.startswith("."):
                found += _check_hidden(path)
        if folder.name == timings.FOLDER and folder != root:
            paths = [folder / name for name in sorted(names) if not name.startswith(".")]
            found += [one for path in paths if path.suffix == ".json" for one in check_timing(path)]
        if RECORD in names:
            found += check_run(folder)
            record = read_record(folder)[0]
            if record is not None:
                published = PUBLISHED in folder.relative_to(root).parts
                runs.setdefault((published, record.run_id), []).append(folder)
        elif _RUN_ID.fullmatch(folder.name) or names.intersection(_PARTS):
            found.append(Finding("fault", folder, "a run folder without a record", AGAIN, True))
        elif not names and folder != root:
            found.append(Finding("note", folder, "an empty folder", "remove it if you like"))
    for folders in runs.values():
        found += _check_twins(folders)
    found += _logs(root)
    return found


def set_aside(
    root: Path, findings: Sequence[Finding]
) -> tuple[list[tuple[Path, Path]], list[Finding]]:
    """Moves what is broken to `.set-aside/<same relative path>`, under a number if that is taken.

    Args:
        root: the results folder.
        findings: what `examine` found in it.

    Returns:
        From where to where things went, and the faults that are left.

    Raises:
        UserError: `.set-aside` is not a folder of the results folder.
    """
    base = root / store.SET_ASIDE
    if base.is_symlink() or (base.exists() and not base.is_dir()):
        raise UserError(f"{told(base)} is not a folder; move it away and repair again")
    moved: dict[Path, Path] = {}
    left = []
    for finding in (finding for finding in findings if finding.severity == "fault"):
        source = finding.path
        gone = any(path in moved for path in (source, *source.parents))
        if gone:
            continue
        if not finding.movable or source == root:
            left.append(finding)
            continue
        if not _stands(finding):
            continue
        try:
            moved[source] = store.set_aside(root, source)
        except OSError as error:
            left.append(
                Finding("fault", source, f"cannot be moved: {in_words(error)}", "move it by hand")
            )
    return list(moved.items()), left


def _stands(finding: Finding) -> bool:
    """Whether a fault still exists: a process may have started, or fixed it, since it was found."""
    path = finding.path
    if path.name.startswith("."):
        return bool(_check_hidden(path))
    if path.parent.name == timings.FOLDER and path.suffix == ".json":
        return bool(check_timing(path))
    folder = path if path.is_dir() else path.parent
    if _is_held(folder.with_name(f".{folder.name}{lock.END}")):
        return False
    if finding.what.startswith(_TWIN):
        return True
    return any(now.path == path and now.severity == "fault" for now in check_run(folder))


def _logs(root: Path) -> Iterator[Finding]:
    """What jobs of Slurm wrote whose runs are not done."""
    last = {folder: job.job for job in submitted.read(root) for folder in job.cells.values()}
    left: dict[Path, int] = {}
    for folder, job in last.items():
        record, _ = read_record(root / folder)
        log = submitted.log_of(root, job)
        if (record is None or record.status not in FINAL) and log.is_file():
            left[log] = left.get(log, 0) + 1
    for log, number in left.items():
        what = f"the log of a job, {number} of whose runs {'is' if number == 1 else 'are'} not done"
        yield Finding("note", log, what, "read it; to go on, repeat the `run` command")


def _walk(root: Path, found: list[Finding]) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Every folder but hidden ones, with what is in it; links are not followed."""
    todo = [root]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            what = f"cannot be listed: {in_words(error)}"
            found.append(Finding("fault", folder, what, "check its permissions"))
            continue
        yield folder, entries
        folders = (e for e in entries if e.is_dir(follow_symlinks=False))
        todo += [folder / e.name for e in reversed(list(folders)) if not e.name.startswith(".")]


def _check_link(path: Path, root: Path) -> list[Finding]:
    target, problem = attempt(lambda p: p.resolve(), path)
    if target is not None and target.is_relative_to(root.resolve()) and target.exists():
        return []
    where = "to nowhere" if target is None or not target.exists() else "out of the results folder"
    what = f"a link {where}{': ' if problem else ''}{problem}; reports do not follow it"
    return [
        Finding("fault", path, what, "replace it by the folder or file it points to, or remove it")
    ]


def _check_hidden(path: Path) -> list[Finding]:
    """What a process left; nothing where the process lives, or may."""
    run_id = path.name.lstrip(".").partition(".")[0]
    age = _age(path)
    if age is None or _is_held(path.with_name(f".{run_id}{lock.END}")):
        return []
    draft = _DRAFT.fullmatch(path.name)
    if path.name.endswith(lock.END):
        what = "the lock file of a process that has died"
        return [Finding("note", path, what, "nothing to do: the next `run` removes it")]
    if path.name.endswith(".checkpoint"):
        return [_checkpoint(path, path.with_name(run_id), age)]
    if path.name.endswith(".opened"):
        return []  # counts of a run that is not done yet
    if path.name.endswith(".discarded"):
        what = "a failed attempt; the finished run was kept"
        return [Finding("note", path, what, "see its log.txt; remove it if you like")]
    if _BROKEN.fullmatch(path.name):
        return [Finding("fault", path, "a checkpoint that could not be used", ASIDE, True)]
    pid = None if draft is None else writer(draft[1])
    if pid is not None:
        dead = not is_alive(pid)
    else:  # its process may live on another host
        dead = age > DAY and bool(draft or _PASSING.fullmatch(path.name))
    if dead:
        what = "an unfinished file of a dead process"
        if pid is None:
            what = "an unfinished file older than a day"
        if draft is not None and draft[2]:
            what = "the previous run, from a process that died while replacing it"
        return [Finding("fault", path, what, ASIDE, True)]
    if pid is not None and age > DAY:
        what = f"an old unfinished file; process {pid} is running, but may be another one by now"
        return [Finding("note", path, what, "remove it unless that process is a run")]
    return []


def _checkpoint(path: Path, folder: Path, age: float) -> Finding:
    record, _ = read_record(folder)
    if record is not None and record.status in FINAL:
        return Finding("fault", path, "the checkpoint of a finished run", ASIDE, True)
    if age > DAY and (record is None or record.status != "interrupted"):
        return Finding("fault", path, "a checkpoint older than a day", ASIDE, True)
    return Finding(
        "note", path, "the checkpoint of an interrupted run", "to resume, repeat the `run` command"
    )


def _is_held(path: Path) -> bool:
    """Whether a run's lock is held, or may be."""
    age = _age(path)
    if age is None:
        return False
    try:
        return lock.is_held(path)
    except OSError:  # a folder that cannot be written: judged by age alone
        return age <= DAY


def _age(path: Path) -> float | None:
    """Seconds since the last change of a file, or of a folder or what is in it."""
    try:
        newest = path.lstat().st_mtime
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                newest = max([newest, *(e.stat(follow_symlinks=False).st_mtime for e in entries)])
    except OSError:
        return None
    return time.time() - newest


def _check_twins(folders: list[Path]) -> list[Finding]:
    """All folders of one run id except the one that is in its place and nearest to the top."""
    if len(folders) == 1:
        return []
    in_place = {
        folder: (record := read_record(folder)[0]) is not None and not [*misplaced(folder, record)]
        for folder in folders
    }
    kept, *others = sorted(folders, key=lambda f: (not in_place[f], len(f.parts), f))
    return [fault(f, f"{_TWIN} {told(kept)}") for f in others]
