"""The command line in a process of its own, without the seconds that importing torch takes.

A server imports what most commands need, once, and each call is a fork of it: its own process,
folder, environment, output and exit code, as `python -m benchmark` has them. How the command
starts up, and what it imports until then, is for tests that start Python themselves.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.preloaded"])


def clean(**variables):
    """This environment without settings of the benchmark but its cache, with one thread."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BENCHMARK_")}
    kept |= {"BENCHMARK_CACHE": os.environ["BENCHMARK_CACHE"], "PYTHONPATH": str(ROOT)}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | variables


def call(*words, cwd=ROOT, env=None, timeout=1500):
    """Runs `python -m benchmark` with words; as `subprocess.run` with text gives it."""
    command = ["-m benchmark", *map(str, words)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _SERVER.Process(
            target=_benchmark, args=(command, str(cwd), env or clean(), str(out), str(err))
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(
            command, process.exitcode, out.read_text("utf-8"), err.read_text("utf-8")
        )


def _benchmark(command, cwd, env, out, err):
    import torch

    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    sys.path[:0] = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = command
    runpy.run_module("benchmark", run_name="__main__", alter_sys=True)
