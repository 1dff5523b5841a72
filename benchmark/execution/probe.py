"""What a cell takes on this machine, found out by two training steps."""

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.machine import device_name
from benchmark.core.record import TrainMemory
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Compute, Protocol, RunSpec
from benchmark.data.base import read_example
from benchmark.data.batches import Batch
from benchmark.data.examples import Examples
from benchmark.data.subsample import take
from benchmark.engine.batching import limit_on
from benchmark.engine.build import build_segmenter
from benchmark.engine.evaluate import evaluate
from benchmark.engine.feature_cache import FeatureCacheLoader
from benchmark.engine.losses import Criterion
from benchmark.engine.memory import training_memory
from benchmark.engine.replicas import Replicas, replicate
from benchmark.engine.train import Progress, train
from benchmark.engine.training_data import TrainingSplit
from benchmark.execution.cell import VERIFIED_IMAGES
from benchmark.execution.checks import too_costly
from benchmark.execution.environment import Environment
from benchmark.execution.splits import decoded, open_benchmark
from benchmark.models.delta import Pristine, stored_bytes
from benchmark.models.segmenter import Segmenter
from benchmark.planning.catalogue import build_method
from benchmark.results.index import Entry, needed
from methods.base import Method

STEPS = 2
"""The first one settles allocators and kernels, the second is timed."""


def kinds(cells: Sequence[RunSpec]) -> list[RunSpec]:
    """One cell of each method, backbone, benchmark and protocol."""
    return list(
        {(c.method_label, c.backbone, c.benchmark, c.protocol.hash): c for c in cells}.values()
    )


def probe(cell: RunSpec, environment: Environment) -> tuple[Entry | None, str]:
    """Trains a cell for two steps and evaluates one batch; nothing is stored.

    Returns:
        What it took, as the entry of a run; or None, and why there is none.

    Raises:
        UserError: weights or data are missing or damaged.
    """
    if reason := too_costly(cell, environment):
        return None, reason
    try:
        return _measure(cell, environment), ""
    except UserError:
        raise
    except Exception as error:
        # Whatever stops the probe (memory, a refusal) is what would stop the cell.
        return None, on_one_line(error)


@dataclass(frozen=True)
class Rehearsal:
    """The beginning of a cell's training, of which nothing is stored.

    Attributes:
        method: of the cell.
        segmenter: that it was applied to, on the environment's device.
        pristine: the backbone as it was before.
        protocol: the cell's, but for the number of steps.
        compute: precision and attention.
        training: the training images.
        replicas: the segmenter and its copies, one a thread.
        criterion: the loss.
    """

    method: Method
    segmenter: Segmenter
    pristine: Pristine
    protocol: Protocol
    compute: Compute
    training: Examples
    replicas: Replicas
    criterion: Criterion
    _feed: FeatureCacheLoader
    _cell: RunSpec
    _workers: int

    @classmethod
    def of(cls, cell: RunSpec, environment: Environment, steps: int) -> "Rehearsal":
        """Builds what the cell trains."""
        method = build_method(cell.method, cell.method_params)
        protocol = cell.protocol.shortened(steps)
        segmenter, pristine = build_segmenter(cell, method, environment.weights, environment.device)
        compute = environment.compute_of(cell)
        training = decoded(cell.benchmark, environment.data, "train")
        classes = len(open_benchmark(cell.benchmark, environment.data).classes)
        own = TrainingSplit(take(training, protocol.fraction, cell.seed), classes)
        feed = FeatureCacheLoader(segmenter, pristine, training, protocol, compute, cell.seed)
        replicas = replicate(
            segmenter,
            lambda: build_segmenter(cell, method, environment.weights, environment.device)[0],
            method,
            protocol,
        )
        return cls(
            method,
            segmenter,
            pristine,
            protocol,
            compute,
            training,
            replicas,
            Criterion.of(protocol, own),
            feed,
            cell,
            environment.workers,
        )

    @property
    def device(self) -> torch.device:
        """Where the segmenter is."""
        return next(self.segmenter.parameters()).device

    @property
    def known_stages(self) -> int:
        """Leading stages whose output is taken from the cache."""
        return self._feed.known_stages

    def batches(self) -> Generator[Batch]:
        """The run's batches, from the first one on."""
        return self._feed.batches(self._workers)

    def train(self, progress: Progress) -> None:
        """Trains; `progress` as that of `engine.train`."""
        crops = self.batches()
        with (
            self.replicas.sharing(self.compute),
            torch_stream(self._cell.seed, "training"),
            contextlib.closing(crops),
        ):
            train(
                self.segmenter,
                self.method,
                crops,
                self.protocol,
                self.compute.precision,
                progress,
                replicas=self.replicas,
                criterion=self.criterion,
            )

    def memory(self) -> TrainMemory:
        """What a step holds; trains on."""
        return training_memory(self._feed, self.method, criterion=self.criterion)


def _measure(cell: RunSpec, environment: Environment) -> Entry:
    rehearsal = Rehearsal.of(cell, environment, STEPS)
    segmenter, protocol = rehearsal.segmenter, rehearsal.protocol
    precision, training = rehearsal.compute.precision, rehearsal.training
    times: list[float] = []
    rehearsal.train(lambda *_: times.append(time.perf_counter()))
    memory = rehearsal.memory()
    benchmark = open_benchmark(cell.benchmark, environment.data)
    example = read_example(benchmark, training.ids[0])  # of native size, as those of evaluation
    images = [example] * limit_on(rehearsal.device, protocol).images  # of one shape: they batch
    start = time.perf_counter()
    evaluate(segmenter.eval(), benchmark, images, protocol, precision)
    one_image = (time.perf_counter() - start) / len(images)
    return Entry(
        run_id=cell.run_id,
        status="done",
        benchmark=cell.benchmark,
        backbone=cell.backbone,
        method=cell.method_label,
        device=device_name(str(environment.device)),
        crop=protocol.crop,
        batch_size=protocol.batch_size,
        images_per_second=protocol.batch_size / (times[-1] - times[-2]),
        memory_bytes=needed(memory),
        stored_bytes=stored_bytes(segmenter, rehearsal.pristine),
        # A run evaluates all images as trained, and a few again from the delta that it stored.
        other_seconds=(len(benchmark.ids(protocol.eval_split)) + VERIFIED_IMAGES) * one_image,
    )
