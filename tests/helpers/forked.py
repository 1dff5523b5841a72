"""The command line in a process of its own, without the seconds that importing torch takes.

A server imports what most commands need, once, and each call is a fork of it: its own process,
folder, environment, output and exit code, as `python -m benchmark` has them. How the command
starts up, and what it imports until then, is for tests that start Python themselves.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_SAY_WHERE = signal.SIGUSR2
"""Makes a process print the stacks of its threads."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.helpers.preloaded"])


def clean(**variables):
    """This environment without settings of the benchmark but its cache, with one thread."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BENCHMARK_")}
    kept |= {"BENCHMARK_CACHE": os.environ["BENCHMARK_CACHE"], "PYTHONPATH": str(ROOT)}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | variables


class Running:
    """`python -m benchmark` with words, in a process that was started and may be sent signals."""

    def __init__(self, *words, cwd=ROOT, env=None, prepare=None):
        # Processes of its own would each import torch, and there is a test on every core.
        runs = words[0] in ("run", "tune", "quickstart")
        jobs = ["--jobs", "1"] if runs and not {"--jobs", "--executor"} & {*words} else []
        self.command = ["-m benchmark", *map(str, words), *jobs]
        self._folder = tempfile.TemporaryDirectory()
        self._paths = [Path(self._folder.name, name) for name in ("out", "err")]
        for path in self._paths:
            path.touch()
        arguments = (self.command, str(cwd), env or clean(), *map(str, self._paths), prepare)
        self._process = _SERVER.Process(target=_benchmark, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def is_running(self):
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def printed(self):
        """What it has printed so far, without a line that is not whole yet."""
        return self._paths[0].read_text("utf-8").rpartition("\n")[0]

    def wait_until(self, happened, timeout=120):
        """Returns once `happened()` is true; fails where the process ends before."""
        deadline = time.monotonic() + timeout
        while not happened():
            ended = self._process.exitcode is not None
            if (ended and not happened()) or time.monotonic() > deadline:
                done = self.end(1)
                raise AssertionError(f"it did not happen: {done.stdout}{done.stderr}")
            time.sleep(0.02)

    def wait_for(self, text, timeout=120):
        """Returns once a line with a text is printed."""
        self.wait_until(lambda: text in self.printed(), timeout)

    def send_signal(self, number):
        """Sends a signal, unless the process has ended."""
        if self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, timeout=600):
        """Waits for the end; as `subprocess.run` with text gives it."""
        self._process.join(timeout)
        hangs = self._process.is_alive()
        if hangs:
            self.send_signal(_SAY_WHERE)
            self._process.join(5)
            self._process.kill()
            self._process.join()
        out, err = (path.read_text("utf-8") for path in self._paths)
        self._folder.cleanup()
        if hangs:
            raise AssertionError(f"{self.command} did not end in {timeout} s: {out}{err}")
        return subprocess.CompletedProcess(self.command, self._process.exitcode, out, err)


def call(*words, cwd=ROOT, env=None, timeout=600, prepare=None):
    """Runs `python -m benchmark` with words; `prepare` is called in the process before."""
    return Running(*words, cwd=cwd, env=env, prepare=prepare).end(timeout)


def _benchmark(command, cwd, env, out, err, prepare):
    import torch

    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    faulthandler.register(_SAY_WHERE)
    # A shell starts what it puts into the background, and the tests with it, with this ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    sys.path[:0] = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = command
    if prepare is not None:
        prepare()
    runpy.run_module("benchmark", run_name="__main__", alter_sys=True)
