"""One lock a cell: never two at once, free once its holder dies, whatever the clocks say."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock

from benchmark.core.errors import UserError
from benchmark.execution import cell as runner
from benchmark.execution.environment import prepare
from benchmark.planning.plan import plan
from benchmark.results import lock, store
from tests.helpers.tiny import run, select

pytestmark = pytest.mark.usefixtures("tiny")

HOLDER = """
import sys, time
from pathlib import Path
from filelock import FileLock

lock = FileLock(sys.argv[1])
lock.acquire()
time.time = lambda: 0.0
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cell():
    return plan(select())[0]


def test_one_holds_a_cell_and_leaves_nothing(tmp_path, cell):
    path = lock.path_of(tmp_path, cell)
    assert not lock.is_held(path) and not path.exists()
    with lock.hold(tmp_path, cell) as mine:
        assert mine and lock.is_held(path)
        with lock.hold(tmp_path, cell) as second:
            assert not second
        assert lock.is_held(path)
    assert not list(path.parent.iterdir())


def test_the_cell_of_a_holder_that_died_is_free_at_once(tmp_path, cell, monkeypatch):
    path = lock.path_of(tmp_path, cell)
    path.parent.mkdir(parents=True)
    child = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    # No clock matters: neither the file's times, nor those of either process.
    os.utime(path, (1, 1))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert lock.is_held(path)
    with lock.hold(tmp_path, cell) as mine:
        assert not mine
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.exists() and not lock.is_held(path) and path.exists()
    with lock.hold(tmp_path, cell) as mine:
        assert mine


def test_a_child_of_the_holder_does_not_keep_the_lock(tmp_path, cell):
    with lock.hold(tmp_path, cell) as mine:
        assert mine
        pid = os.fork()
        if not pid:
            time.sleep(600)
    try:
        with lock.hold(tmp_path, cell) as mine:
            assert mine
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_among_many_at_once_one_at_a_time_holds_a_cell(tmp_path, cell):
    inside, most, held = [], [], []

    def grab():
        for _ in range(200):
            with lock.hold(tmp_path, cell) as mine:
                if mine:
                    inside.append(1)
                    most.append(len(inside))
                    held.append(1)
                    inside.pop()

    threads = [threading.Thread(target=grab) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held and set(most) == {1}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOSPC])
def test_a_disk_without_locks_or_room_is_refused(tmp_path, cell, monkeypatch, number):
    def refuse(self, *arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="cannot be locked"), lock.hold(tmp_path, cell):
        pass
    assert not list(lock.path_of(tmp_path, cell).parent.iterdir())


def test_who_lost_the_lock_does_not_replace_the_result_of_the_successor(
    tmp_path, cell, monkeypatch
):
    (theirs,) = run(tmp_path / "other", select())
    real = store.write_counts

    def slow(*arguments):
        real(*arguments)
        # This host was cut off from its disk, and another one took the cell over.
        shutil.copytree(tmp_path / "other" / cell.folder, tmp_path / "r" / cell.folder)

    monkeypatch.setattr(store, "write_counts", slow)
    record = runner.run_cell(cell, tmp_path / "r", prepare(None, (), "cpu"))
    assert record == theirs == store.record_of(tmp_path / "r", cell)
