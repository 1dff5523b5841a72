"""The verb `serve`: a service in a process of its own, asked over loopback."""

import contextlib
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from benchmark.inference.tasks import Tasks
from tests.helpers import soak as asking
from tests.helpers.forked import Running, call, clean
from tests.helpers.networks import store_network


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    runs = {
        name: store_network(root, name, benchmark)
        for name, benchmark in (("spm", "cells"), ("linear", "streets"))
    }
    return root, runs


class Started:
    """A service that is ready."""

    def __init__(self, results, *words):
        root, runs = results
        self.port = asking.free_port()
        named = [f"--name={name}={run.name}" for name, run in runs.items()]
        options = ["--results", root, f"--port={self.port}", "--device=cpu"]
        self.process = Running("serve", *named, *options, *words)
        self.process.wait_until(self.answers)

    def answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return asking._answer(self.port, "GET", "/health")[0] == 200
        return False

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.end(60)


def picture():
    small = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small.repeat(8, 0).repeat(8, 1)).save(file, "PNG")
    return file.getvalue()


def test_a_service_answers_and_ends_at_a_signal_after_what_it_took(results):
    service, tasks = Started(results), Tasks("demo_vit", results=results[0], device="cpu")
    try:
        assert (
            f"serving spm, linear on http://127.0.0.1:{service.port}" in service.process.printed()
        )
        for name, run in results[1].items():
            path = f"/v1/tasks/{name}:predict"
            status, content = asking._answer(service.port, "POST", path, picture())
            assert status == 200
            mask = np.asarray(Image.open(io.BytesIO(content)))
            assert np.array_equal(mask, tasks.add(name, run).predict(io.BytesIO(picture())))
        taken = [
            threading.Thread(
                target=lambda: statuses.append(
                    asking._answer(service.port, "POST", "/v1/tasks/spm:predict", picture())[0]
                )
            )
            for _ in range(4)
        ]
        statuses = []
        for thread in taken:
            thread.start()
        while not statuses:
            taken[0].join(0.01)
    finally:
        done = service.end()
    for thread in taken:
        thread.join(30)
    assert statuses == [200] * 4
    assert done.returncode in (0, 128 + signal.SIGTERM) and "Traceback" not in done.stderr


def refused(*words, cwd):
    done = call("serve", *words, cwd=cwd)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    return line


def test_what_cannot_be_served_is_one_line(results, tmp_path):
    root, runs = results
    here = ["--results", root]
    run = runs["spm"].name
    short = tmp_path / "token.txt"
    short.write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            ([], "no task; name runs"),
            ([run, "--host=0.0.0.0"], "is reached from other machines, so --token-file FILE"),
            ([run, "--token-file", short], "holds no token of 16 to 4096 letters"),
            ([run, "--token-file", "/dev/zero"], "holds no token of 16 to 4096 letters"),
            ([run, "--max-seconds", "inf"], "must be at most 3600"),
            ([run, "--token-file", "nowhere"], "--token-file nowhere: No such file"),
            (["0000"], "no run '0000'"),
            ([run, run], "two tasks are called 'cells'"),
            (["--name=cells"], "write NAME=RUN"),
            ([f"--name=a/b={run}"], "task 'a/b': use letters"),
            ([run, "--max-body=2"], "--max-body '2': write a number above 0 with its unit"),
            ([run, f"--port={port}"], f"cannot listen on 127.0.0.1, port {port}"),
        ):
            assert message in refused(*words, *here, cwd=tmp_path), words


@pytest.mark.slow
def test_a_token_opens_a_service(results, tmp_path):
    path = tmp_path / "token.txt"
    path.write_text("a-token-of-this-test\n")
    service = Started(results, f"--token-file={path}")
    try:
        ask = lambda headers: asking._answer(service.port, "GET", "/v1/tasks", headers=headers)[0]  # noqa: E731
        assert ask({}) == 401
        assert ask({"Authorization": "Bearer a-token-of-this-test"}) == 200
    finally:
        service.end()


@pytest.mark.slow
def test_bodies_beyond_the_limit_and_a_rush_are_refused_and_the_service_lives(results):
    service = Started(results, "--queue=8")
    try:
        path = "/v1/tasks/spm:predict"
        status, content = asking._answer(service.port, "POST", path, bytes(200_000_000))
        assert status == 413 and b"the body has more than 20000000 bytes" in content
        statuses, body = [], picture()

        def ask():
            statuses.append(asking._answer(service.port, "POST", path, body)[0])

        threads = [threading.Thread(target=ask) for _ in range(500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(statuses) == 500 and set(statuses) <= {200, 503} and 200 in statuses
        asking._torn(service.port, path)
        asking._noise(service.port, path)
        assert service.answers()
        assert asking._answer(service.port, "POST", path, body)[0] == 200
    finally:
        done = service.end()
    assert done.stderr == ""


@pytest.mark.slow
def test_a_short_soak(results):
    service, tasks = Started(results), Tasks("demo_vit", results=results[0], device="cpu")
    try:
        for name, run in results[1].items():
            tasks.add(name, run)
        good, pid = asking.cases(tasks), service.process.pid
        asking.soak(service.port, pid, good, 100, 8, 0.0, seed=1)
        before = asking.memory_of(pid)
        found = asking.soak(service.port, pid, good, 600, 8, 0.1)
        text = asking.report(found)
        assert not found.surprises and not found.wrong, text
        assert len(found.seconds) + found.expected_errors == 600, text
        assert asking.memory_of(pid) < before + 200e6, text
        assert service.answers()
    finally:
        service.end()


@pytest.mark.slow
def test_a_killed_process_loses_no_more_than_its_requests(results):
    """Started without the server of forks: uvicorn starts processes as Python does."""
    root, runs = results
    port, tasks = asking.free_port(), Tasks("demo_vit", results=root, device="cpu")
    words = [f"--name={name}={run.name}" for name, run in runs.items()]
    for name, run in runs.items():
        tasks.add(name, run)
    command = [sys.executable, "-m", "benchmark", "serve", *words, "--results", str(root)]
    command += [f"--port={port}", "--workers=2", "--device=cpu"]
    process = subprocess.Popen(command, env=clean())
    try:
        asking.wait_until_healthy(port, process)
        good, killed = asking.cases(tasks), []

        def kill():
            time.sleep(1)
            workers = [
                one
                for one in psutil.Process(process.pid).children()
                if any("spawn_main" in word for word in one.cmdline())
            ]
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        found = asking.soak(port, process.pid, good, 400, 8, 0.0, may_lose=True)
        killer.join()
        text = asking.report(found)
        assert killed and not found.wrong and not found.surprises, text
        # A client waits for one answer at a time, and loses that one.
        assert found.statuses[0] <= 2 * 8, text
        asking.wait_until_healthy(port, process)
        after = asking.soak(port, process.pid, good, 50, 8, 0.0, seed=2)
        assert len(after.seconds) == 50 and not after.wrong
        # The numbers of all processes, also of the one that was killed.
        _, text = asking._answer(port, "GET", "/metrics")
        counted = re.findall(r'^petseg_requests_total{.*status="200".*} (.*)$', text.decode(), re.M)
        assert sum(map(float, counted)) >= len(found.seconds) + len(after.seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
