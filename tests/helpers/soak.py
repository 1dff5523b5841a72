"""Many requests from many clients, some of them hostile, against a service; what came of them.

As a program it makes networks, starts the service and asks it:

    python -m tests.helpers.soak --requests 20000 --clients 16 --hostile 0.01
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import queue
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SIZES = ((96, 96), (96, 96), (96, 96), (60, 80), (130, 100))
"""Of images; one size is frequent, as from a camera."""

MOST_BODY = 20_000_000


@dataclass(frozen=True)
class Case:
    """A request and its right answer."""

    task: str
    body: bytes
    mask: np.ndarray


@dataclass
class Outcome:
    """What came of all requests.

    Attributes:
        statuses: how often each status came; 0 for a connection that was lost.
        expected_errors: hostile requests that were refused with 4xx or 503.
        wrong: masks that differ from the right one in more than 0.1 % of the pixels.
        different_pixels: in all masks together.
        pixels: the same, all of them.
        surprises: other things that must not happen, in words.
        seconds: of each right answer.
        memory: bytes of the processes of the service, over time.
        duration: of the whole, in seconds.
    """

    statuses: Counter = field(default_factory=Counter)
    expected_errors: int = 0
    wrong: int = 0
    different_pixels: int = 0
    pixels: int = 0
    surprises: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    memory: list = field(default_factory=list)
    duration: float = 0.0


def cases(tasks, count=40, seed=0):
    """Requests with the masks that the tasks themselves give.

    Args:
        tasks: a `Tasks`, in this process.
        count: of images.
        seed: of the images.
    """
    drawn = np.random.default_rng(seed)
    made = []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        small = drawn.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
        image = small.repeat(8, 0).repeat(8, 1)[:height, :width]
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        name = list(tasks)[number % len(tasks)]
        made.append(Case(name, file.getvalue(), tasks[name].predict(io.BytesIO(file.getvalue()))))
    return made


def _answer(port, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _torn(port, path):
    """Says that a body comes, and leaves in the middle of it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode())
        raw.sendall(b"Content-Length: 100000\r\n\r\n" + bytes(1000))
    return 400


def _noise(port, _):
    """No HTTP at all."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00" + bytes(range(256)) + b"\r\n\r\n")
        with contextlib.suppress(OSError):
            raw.recv(1000)
    return 400


def hostile(port, task, good, draw):
    """One hostile request; its status, where 4xx or 503 is right."""
    path = f"/v1/tasks/{task}:predict"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    kinds = [
        lambda: _answer(port, "POST", path, b"no image at all")[0],
        lambda: _answer(port, "POST", path, b"")[0],
        lambda: _answer(port, "POST", path, good[: len(good) // 2])[0],
        lambda: _answer(port, "POST", "/v1/tasks/nothing:predict", good)[0],
        lambda: _answer(port, "POST", "/v1/tasks/..%2f..%2fetc%2fpasswd:predict", good)[0],
        lambda: _answer(port, "POST", f"{path}?format=exe", good)[0],
        lambda: _answer(port, "POST", path, b"--x\r\nbroken", form)[0],
        lambda: _answer(port, "DELETE", path)[0],
        lambda: _answer(port, "POST", path, bytes(MOST_BODY + 1))[0],
        lambda: _answer(port, "POST", path, b"II*\0\x08\0\0\0" + draw.randbytes(500))[0],
        lambda: _torn(port, path),
        lambda: _noise(port, path),
    ]
    return draw.choice(kinds)()


def memory_of(pid):
    """Resident bytes of a process and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        whole = psutil.Process(pid)
        for one in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def soak(port, pid, good, requests, clients, share, seed=0, may_lose=False):
    """Asks a service, and looks at every answer.

    Args:
        port: of the service on loopback.
        pid: of its process.
        good: cases.
        requests: how many.
        clients: threads that ask.
        share: of hostile requests.
        seed: of everything drawn.
        may_lose: whether connections may be lost, since processes are killed.
    """
    found, lock, work = Outcome(), threading.Lock(), queue.SimpleQueue()
    for number in range(requests):
        work.put(number)

    def ask(number, connection):
        draw = random.Random(seed * 1_000_003 + number)
        case = draw.choice(good)
        if draw.random() < share:
            status = hostile(port, case.task, case.body, draw)
            with lock:
                found.statuses[status] += 1
                if 400 <= status < 500 or status == 503:
                    found.expected_errors += 1
                else:
                    found.surprises.append(f"hostile request {number}: {status}")
            return
        while True:
            start = time.monotonic()
            connection.request("POST", f"/v1/tasks/{case.task}:predict", case.body)
            response = connection.getresponse()
            content, taken = response.read(), time.monotonic() - start
            with lock:
                found.statuses[response.status] += 1
            if response.status != 503:
                break
            time.sleep(0.05 + 0.1 * draw.random())
        with lock:
            if response.status != 200:
                found.surprises.append(f"request {number}: {response.status} {content[:200]!r}")
                return
            mask = np.asarray(Image.open(io.BytesIO(content)))
            apart = int((mask != case.mask).sum()) if mask.shape == case.mask.shape else mask.size
            found.different_pixels += apart
            found.pixels += mask.size
            found.wrong += apart > 1e-3 * mask.size
            found.seconds.append(taken)

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            try:
                number = work.get_nowait()
            except queue.Empty:
                connection.close()
                return
            try:
                ask(number, connection)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with lock:
                    found.statuses[0] += 1
                    if not may_lose:
                        found.surprises.append(f"request {number}: {error!r}")

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found.memory.append((time.monotonic() - start, memory_of(pid)))
        threads[0].join(0.5) if threads[0].is_alive() else time.sleep(0.5)
    found.duration = time.monotonic() - start
    return found


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until_healthy(port, process, seconds=120):
    """Returns once a service answers; fails where its process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _answer(port, "GET", "/health")[0] == 200:
                return
        assert process.poll() is None, "the service ended"
        time.sleep(0.1)
    raise AssertionError("the service does not answer")


def report(found):
    """The outcome in a few lines."""
    taken = sorted(found.seconds)
    memory = [size / 1e6 for _, size in found.memory]
    tenth = max(1, len(memory) // 10)
    return json.dumps(
        {
            "requests": sum(found.statuses.values()),
            "statuses": {str(key): value for key, value in sorted(found.statuses.items())},
            "refused as expected": found.expected_errors,
            "wrong answers": found.wrong,
            "different pixels": f"{found.different_pixels} of {found.pixels}",
            "surprises": found.surprises[:10],
            "answers/s": round(len(taken) / found.duration, 1),
            "seconds p50, p95": [
                round(statistics.median(taken), 3),
                round(taken[int(0.95 * len(taken))], 3),
            ],
            "memory MB, second and last tenth": [
                round(statistics.mean(memory[tenth : 2 * tenth] or memory)),
                round(statistics.mean(memory[-tenth:])),
            ],
            "duration s": round(found.duration),
        },
        indent=1,
    )


def main():
    """Makes networks, starts the service and asks it."""
    from benchmark.inference.tasks import Tasks
    from tests.helpers.networks import store_network

    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--hostile", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tasks, words = Tasks("demo_vit", device="cpu"), []
        for number, method in enumerate(("linear", "spm", "lst", "side", "lora")):
            run = store_network(Path(folder), method, ("cells", "streets")[number % 2])
            tasks.add(method, run)
            words += ["--name", f"{method}={run}"]
        port = free_port()
        command = [sys.executable, "-m", "benchmark", "serve", *words, "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--workers", str(asked.workers)], env=dict(os.environ)
        )
        try:
            wait_until_healthy(port, process)
            good = cases(tasks)
            soak(port, process.pid, good, 200, asked.clients, 0.0, seed=1)  # warms up
            found = soak(port, process.pid, good, asked.requests, asked.clients, asked.hostile)
            print(report(found))
            assert process.poll() is None, "the service ended"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        print(f"exit code after SIGTERM: {process.returncode}")


if __name__ == "__main__":
    main()
