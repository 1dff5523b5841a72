"""The queue between requests and the thread that computes.

Whatever waits when the thread is free and fits the image that waits longest passes with it. So
nothing waits for a batch to fill: batches grow with the load.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from benchmark.serving.engine import Engine, Key


class Late(Exception):
    """The time of a request ran out before its image was computed."""


class Closed(Exception):
    """The service ends."""


@dataclass(eq=False)
class _Job:
    name: str
    image: np.ndarray
    key: Key
    expires: float
    future: "Future[np.ndarray]" = field(default_factory=Future)


class Batcher:
    """Computes masks in a thread of its own, of images that fit each other together.

    Args:
        engine: does the passes; it is used by this thread alone.
        most: images of a batch.
        passed: called with the number of images of each batch.
    """

    def __init__(self, engine: Engine, most: int, passed: Callable[[int], None]) -> None:
        self._engine, self._most, self._passed = engine, most, passed
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="passes", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def submit(self, name: str, image: np.ndarray, seconds: float) -> "Future[np.ndarray]":
        """Asks for the mask of an image.

        Args:
            name: of the task.
            image: (H, W, C) uint8, as the task's predictor reads it.
            seconds: after which nobody waits for it any more.

        Returns:
            The mask (H, W) uint8; or what went wrong: `Late`, `Closed`, or any error of the pass.
        """
        key = self._engine.key(name, image)
        job = _Job(name, image, key, time.monotonic() + seconds)
        with self._changed:
            if self._closing:
                raise Closed
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Computes what waits, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            if jobs:
                self._passed(len(jobs))
                self._compute(jobs)

    def _next(self) -> list[_Job] | None:
        """The image that waits longest, with others that fit it; None at the end."""
        with self._changed:
            while True:
                self._drop_late()
                if self._waiting:
                    break
                if self._closing:
                    return None
                self._changed.wait()
            first, chosen = self._waiting[0], list[_Job]()
            for job in self._waiting:
                more = len(chosen) + 1
                if more > self._most or not self._engine.fits(first.key, more):
                    break
                if job.key == first.key:
                    chosen.append(job)
            self._waiting = [job for job in self._waiting if job not in chosen]
        return [job for job in chosen if job.future.set_running_or_notify_cancel()]

    def _drop_late(self) -> None:
        now, kept = time.monotonic(), list[_Job]()
        for job in self._waiting:
            if job.expires >= now:
                kept.append(job)
            elif job.future.set_running_or_notify_cancel():
                job.future.set_exception(Late())
        self._waiting = kept

    def _compute(self, jobs: list[_Job]) -> None:
        try:
            masks = self._engine.masks(jobs[0].key, [(job.name, job.image) for job in jobs])
        except Exception as error:  # memory, most likely; the service goes on
            if len(jobs) > 1:
                for job in jobs:
                    self._compute([job])
                return
            jobs[0].future.set_exception(error)
        else:
            for job, mask in zip(jobs, masks, strict=True):
                job.future.set_result(mask)
