"""What `/metrics` tells, in the text format of Prometheus."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Folder, as prometheus_client reads it, in which several processes add up their numbers."""


class Metrics:
    """Counts of one process, or with `SHARED` set of all."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "petseg_requests",
            "Requests for a mask by task (empty: no such task) and status.",
            ("task", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "petseg_request_seconds",
            "Time from the header of a request to its answer.",
            ("task",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "petseg_batch_images",
            "Images that passed the backbone together.",
            buckets=_IMAGES,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "petseg_requests_in_flight",
            "Requests that are read, wait or are computed.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def text(self) -> bytes:
        """All of it."""
        registry = self._registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
