"""What is stored stays stored: foreign records, full and read-only disks."""

import errno
import os
import resource
import shutil
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmark.cli.request import Request
from benchmark.cli.run import _unsuccessful
from benchmark.core import files
from benchmark.core.errors import DataError, UserError
from benchmark.core.files import sync_folder
from benchmark.engine import checkpoint
from benchmark.execution import cell as runner
from benchmark.execution import grid, reevaluate
from benchmark.execution.environment import prepare
from benchmark.planning.plan import plan
from benchmark.results import lock, provenance, robustness, store
from tests.helpers.tiny import run, same, select

pytestmark = pytest.mark.usefixtures("tiny", "strange")


def test_the_record_of_another_run_is_no_result_of_a_cell_and_is_kept(tmp_path):
    cell, other = plan(select(seeds=(0, 1)))
    run(tmp_path, select(seeds=(1,)))
    shutil.copytree(tmp_path / other.folder, tmp_path / cell.folder)
    request = Request(select(), tmp_path, tmp_path, None, (), "cpu", None)
    out = StringIO()
    assert _unsuccessful(Console(file=out), request, [cell, other], {}) == {"missing"}
    assert "missing: linear on tiny, seed 0: not run yet" in out.getvalue()
    (record,) = run(tmp_path, select())
    assert record.run_id == cell.run_id and store.is_done(tmp_path, cell)
    aside = store.read_record(tmp_path / store.SET_ASIDE / cell.folder)
    assert aside.run_id == other.run_id


@contextmanager
def no_file_over(size):
    """As `ulimit -f`; Python turns the signal into an error."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_weights_that_do_not_fit_on_the_disk_are_one_line(tmp_path):
    cells = plan(select("full"))
    with no_file_over(10**6), pytest.raises(UserError, match=r"File too large.*make room"):
        grid.run_cells(cells, tmp_path, device="cpu", checkpoint_seconds=None)
    assert not (tmp_path / cells[0].folder).exists()


def test_a_folder_that_turns_read_only_keeps_the_result(tmp_path, monkeypatch):
    cell = plan(select())[0]
    real = Path.unlink

    def refuse(path, missing_ok=False):
        if path.name.endswith((".lock", ".checkpoint", ".opened")):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    (record,) = run(tmp_path, select())
    assert record.status == "done" and store.is_done(tmp_path, cell)


def test_a_discarded_attempt_that_cannot_be_kept_is_no_error(tmp_path, monkeypatch):
    cell = plan(select())[0]
    run(tmp_path, select())

    def refuse(source, target):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store.os, "replace", refuse)
    with store.staging(tmp_path, cell):
        raise store.Discard
    assert store.is_done(tmp_path, cell)


def test_new_folders_outlast_a_loss_of_power(tmp_path, monkeypatch):
    synced, real = set(), sync_folder
    for module in (files, store):
        monkeypatch.setattr(module, "sync_folder", lambda path: synced.add(path) or real(path))
    root = tmp_path / "new" / "results"
    cell = plan(select())[0]
    run(root, select())
    final = root / cell.folder
    above = [final.parent, *final.parent.parents]
    assert set(above[: above.index(tmp_path) + 1]) <= synced


def test_an_image_that_is_damaged_meanwhile_fails_its_cell_and_the_others_go_on(
    tmp_path, monkeypatch
):
    real, calls = runner.evaluate, []

    def evaluate(*arguments, **options):
        calls.append(options)
        if len(calls) == 1:
            raise DataError("x.png cannot be read; restore the file")
        return real(*arguments, **options)

    monkeypatch.setattr(runner, "evaluate", evaluate)
    first, second = run(tmp_path, select(seeds=(0, 1)))
    assert (first.status, second.status) == ("failed", "done")
    assert first.reason == "x.png cannot be read; restore the file" and not first.traceback


@pytest.fixture
def half(tmp_path):
    """A run that stopped in its training; its checkpoint."""
    (record,) = run(tmp_path, select(steps=30), max_seconds=0.05)
    assert record.status == "timeout"
    return store.checkpoint_of(tmp_path, plan(select(steps=30))[0])


def test_a_checkpoint_that_cannot_be_read_for_now_is_kept(tmp_path, half, monkeypatch):
    real = Path.read_bytes

    def flaky(path):
        if path == half:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", flaky)
    with pytest.raises(UserError, match="Input/output error"):
        run(tmp_path, select(steps=30), retry="all")
    monkeypatch.undo()
    (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_checkpoint_that_does_not_fit_into_memory_is_kept(half, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(type(error)):
        checkpoint.load(half, {})
    assert half.exists()


def test_a_commit_of_something_else_does_not_cost_the_checkpoint(tmp_path, half, monkeypatch):
    monkeypatch.setattr(provenance, "git_state", lambda: ("another commit", True))
    (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at
    run(tmp_path / "calm", select(steps=30))
    same(tmp_path, tmp_path / "calm", plan(select(steps=30))[0])


@pytest.mark.parametrize("what", ["code", "threads"])
def test_what_training_depends_on_costs_the_checkpoint_and_that_is_told(
    tmp_path, half, monkeypatch, what
):
    if what == "code":
        monkeypatch.setattr(provenance, "training_sha256", lambda decoder: "changed")
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.warns(
        UserWarning, match=f"of a run with other (attention, )?{what}; it is kept as"
    ):
        (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at == ()


def test_no_checkpoint_is_overwritten_by_another_that_was_set_aside(tmp_path):
    path = tmp_path / ".x.checkpoint"
    for content in ("first", "second", "third"):
        path.write_text(content)
        with pytest.warns(UserWarning, match="damaged or not a checkpoint"):
            assert checkpoint.load(path, {}) is None
    ends = ("", ".1", ".2")
    kept = [(tmp_path / f".x.checkpoint.broken{end}").read_text() for end in ends]
    assert kept == ["first", "second", "third"]


def test_corruptions_that_were_measured_survive_a_kill(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    environment, told = prepare(None, (), "cpu"), []

    def killed(*what):
        raise KeyboardInterrupt

    asked = (["contrast", "brightness"], (1, 5))
    with pytest.raises(KeyboardInterrupt):
        reevaluate.stress(cell, tmp_path, environment, *asked, killed)
    assert len(robustness.read(tmp_path / cell.folder).scores) == 1
    whole = reevaluate.stress(cell, tmp_path, environment, *asked, lambda *what: told.append(what))
    assert len(whole.scores) == 4 and [done for _, done, _ in told] == [1, 2, 3]


def test_what_a_killed_process_left_beside_a_finished_run_is_removed(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    left = [
        store.checkpoint_of(tmp_path, cell),
        store._opened(tmp_path, cell),
        lock.path_of(tmp_path, cell),
    ]
    left[0].write_bytes(b"of the attempt that was stored")
    left[1].write_text("{}")
    left[2].touch()
    long_ago = (tmp_path / cell.folder / "record.json").stat().st_mtime - 10
    for path in left[:2]:
        os.utime(path, (long_ago, long_ago))
    grid.tidy([cell], tmp_path)
    assert not [path for path in left if path.exists()]


def test_the_checkpoint_of_a_later_attempt_stays(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    path = store.checkpoint_of(tmp_path, cell)
    path.write_bytes(b"of an attempt that goes on")
    later = (tmp_path / cell.folder / "record.json").stat().st_mtime + 10
    os.utime(path, (later, later))
    grid.tidy([cell], tmp_path)
    assert path.exists()


def test_what_lies_beside_a_held_run_stays(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    path = store.checkpoint_of(tmp_path, cell)
    path.write_bytes(b"of an attempt of another process")
    os.utime(path, (1, 1))
    with lock.hold(tmp_path, cell) as mine:
        grid.tidy([cell], tmp_path)
        assert mine and path.exists()
