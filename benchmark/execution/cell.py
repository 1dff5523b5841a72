"""RunSpec -> Record: builds, trains, evaluates, measures, stores. One cell, top to bottom."""

import contextlib
import datetime
import errno
import platform
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.interrupt import Diverged, Interrupted, OutOfMemory, Superseded, TimedOut, Watch
from benchmark.core.machine import device_name
from benchmark.core.record import (
    FINAL,
    Compiled,
    Costs,
    Curve,
    Execution,
    Provenance,
    Record,
    Status,
    TrainCost,
)
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import RunSpec, short_hash
from benchmark.data.base import Example
from benchmark.data.examples import Part
from benchmark.data.seal import seal_test
from benchmark.data.subsample import take
from benchmark.data.training_data import TrainingSplit
from benchmark.engine import checkpoint
from benchmark.engine.batching import spread
from benchmark.engine.build import build_segmenter
from benchmark.engine.evaluate import evaluate, same_class_counts
from benchmark.engine.feature_cache import Feed
from benchmark.engine.measure import Phases, first_trainable_depth, measure_inference
from benchmark.engine.memory import known_memory
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.replicas import Replicas, replicate
from benchmark.engine.train import Course, Progress, Trained, train
from benchmark.execution.environment import Environment, decoded, open_benchmark
from benchmark.models import delta as deltas
from benchmark.planning.catalogue import DECODERS, build_method
from benchmark.planning.compile_policy import payback
from benchmark.planning.plan import command
from benchmark.results import predictions, provenance, store
from benchmark.results.metrics import summarise
from methods.base import Method, Unsupported

_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
"""Errors of the disk, which are nothing that a record of the cell could tell."""

TRACEBACK_LINES = 30

VERIFIED_IMAGES = 4
"""Test images, spread over the split, whose batches the stored delta is evaluated on again."""


def run_cell(
    spec: RunSpec, results: Path, environment: Environment, progress: Progress | None = None
) -> Record:
    """Runs one cell and stores it; an exception becomes a record with a status.

    A cell that was interrupted, or ran out of time, goes on from its checkpoint; one that is done
    stays as it is where running it again fails. What the user could mend, such as an image that
    was damaged meanwhile, is a failure of this cell, too.

    Raises:
        UserError: there is no such method, or the results cannot be written; nothing is stored.
        Superseded: another process took the cell over; nothing is stored.
    """
    method = build_method(spec.method, spec.method_params)
    environment = replace(environment, compute=environment.compute_of(spec))
    attempt = Attempt(spec, results, method)
    environment.watch.restart()
    with store.staging(results, spec) as folder:
        try:
            with seal_test() if spec.protocol.eval_split == "val" else contextlib.nullcontext():
                try:
                    record = _run(spec, method, folder, environment, attempt, progress)
                except checkpoint.Unfit as reason:
                    checkpoint.set_aside(attempt.checkpoint, f"not of this code: {reason}")
                    record = _run(spec, method, folder, environment, attempt, progress)
        except Superseded:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _WRITING:
                raise
            if not folder.is_dir():
                raise OSError(
                    errno.ENOENT, "the folder was removed while the run went on"
                ) from None
            tail = traceback.format_exc().splitlines()
            (folder / "log.txt").write_text("\n".join(tail) + "\n")
            status = status_of(error)
            expected = status not in ("failed", "oom") or isinstance(error, UserError)
            record = _without_result(
                spec,
                method,
                environment,
                attempt,
                status,
                str(error) if expected else on_one_line(error),
                "" if expected else "\n".join(tail[-TRACEBACK_LINES:]),
            )
        environment.watch.check_holder("before its result was stored")
        store.write_record(folder, record)
        if record.status not in FINAL and store.is_done(results, spec):
            raise store.Discard
    if record.status in FINAL:
        store.forget_attempts(results, spec)
    return record


def store_failure(
    spec: RunSpec, results: Path, environment: Environment, status: Status, reason: str
) -> Record:
    """Stores a cell that could not tell itself why it failed, and returns its record.

    Raises:
        UserError: there is no such method, or the results cannot be written.
    """
    attempt = Attempt(spec, results, build_method(spec.method, spec.method_params))
    record = _without_result(spec, attempt.method, environment, attempt, status, reason)
    with store.staging(results, spec) as folder:
        store.write_record(folder, record)
        if store.is_done(results, spec):
            raise store.Discard
    return record


def status_of(error: Exception) -> Status:
    """The status of a run that ended with an exception."""
    kinds: tuple[tuple[type[Exception], Status], ...] = (
        (Unsupported, "unsupported"),
        (Interrupted, "interrupted"),
        (TimedOut, "timeout"),
        (Diverged, "nan"),
        (OutOfMemory, "oom"),
    )
    for kind, status in kinds:
        if isinstance(error, kind):
            return status
    return "oom" if is_out_of_memory(error) else "failed"


class Attempt:
    """What is known of a cell's earlier attempts, and of this one.

    Attributes:
        results: the results folder.
        spec: of the run.
        method: of the run.
        checkpoint: its file, beside the run's folder.
        started: UTC, ISO 8601.
        phases: seconds by phase.
        opened: times that a split was evaluated, by its name, over all attempts.
        progress: of the training, once there is some.
        known_stages: leading stages whose output is taken from the cache.
    """

    def __init__(self, spec: RunSpec, results: Path, method: Method) -> None:
        self.checkpoint = store.checkpoint_of(results, spec)
        self.results, self.spec, self.method = results, spec, method
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self.phases = Phases()
        self.opened = store.openings(results, spec)
        self.progress: checkpoint.Progress | None = None
        self.known_stages = 0

    def identity(self, **found: str | None) -> dict[str, str]:
        """Everything that training depends on: a checkpoint of anything else is not taken.

        Args:
            **found: hashes of weights and data, how it computes and the type of the device.
        """
        decoder = DECODERS.get(self.spec.protocol.decoder)
        return {name: str(value) for name, value in found.items()} | {
            "run": self.spec.run_id,
            "method": provenance.method_sha256(type(self.method)),
            "code": provenance.training_sha256(decoder),
            "packages": short_hash(provenance.package_versions()),
            "threads": str(torch.get_num_threads()),
        }

    def execution(self) -> Execution | None:
        """For the record; None before anything was trained or evaluated."""
        if self.progress is None and not self.opened:
            return None
        progress = self.progress or checkpoint.Progress()
        return Execution(
            starts=progress.starts,
            resumed_at=tuple(progress.resumed_at),
            micro_batch=progress.micro_batch,
            opened_splits=self.opened,
            known_stages=self.known_stages,
            compiled=Compiled(
                after_step=progress.compiled_after,
                seconds=progress.compile_seconds,
                gain=progress.gain,
            )
            if progress.compiled_after
            else None,
        )


def _run(
    spec: RunSpec,
    method: Method,
    folder: Path,
    environment: Environment,
    attempt: Attempt,
    progress: Progress | None,
) -> Record:
    protocol, device, phases = spec.protocol, environment.device, attempt.phases
    compute = environment.compute_of(spec)
    precision = compute.precision
    with phases("model"):
        segmenter, pristine = build_segmenter(spec, method, environment.weights, environment.device)
        params = deltas.count_parameters(segmenter, pristine)
        depth = first_trainable_depth(segmenter, protocol)
    with phases("data"):
        benchmark = open_benchmark(spec.benchmark, environment.data)
        training = decoded(spec.benchmark, environment.data, "train")
        examples = decoded(spec.benchmark, environment.data, protocol.eval_split)
        identity = attempt.identity(
            weights=segmenter.backbone.weights_sha256,
            data=short_hash([training.sha256, examples.sha256]),
            precision=precision,
            attention=compute.attention,
            device=device.type,
        )
        saved = checkpoint.load(attempt.checkpoint, identity)
        own = take(training, protocol.fraction, spec.seed)
        method.before_training(segmenter.backbone, TrainingSplit(own, len(benchmark.classes)))
        feed = Feed(segmenter, pristine, training, protocol, compute, spec.seed)
        attempt.known_stages = feed.known_stages
        crops = feed.batches(environment.workers, skip=saved.progress.step if saved else 0)
    course = Course(
        identity,
        attempt.checkpoint if environment.checkpoint_seconds is not None else None,
        environment.checkpoint_seconds or 0.0,
        environment.watch,
        saved,
    )
    replicas = Replicas(segmenter)
    if environment.compiling != "always":
        replicas = replicate(
            segmenter,
            lambda: build_segmenter(spec, method, environment.weights, environment.device)[0],
            method,
            protocol,
        )
    # From known stages the network goes on in another way, and copies are not compiled.
    if not feed.known_stages and len(replicas.segmenters) == 1:
        course.pays = payback(
            environment.compiling, spec, attempt.results, device_name(str(device))
        )
    with (
        phases("train"),
        replicas.sharing(compute),
        torch_stream(spec.seed, "training"),
        contextlib.closing(crops),
    ):
        attempt.progress = course.progress
        trained = train(segmenter, method, crops, protocol, precision, progress, course, replicas)
    del replicas
    with phases("evaluate"):
        opened = attempt.opened.get(protocol.eval_split, 0) + 1
        attempt.opened |= {protocol.eval_split: opened}
        store.log_openings(attempt.results, spec, attempt.opened)
        watched = _watched(examples, environment.watch)
        keeper = predictions.Keeper(examples.ids, spec.benchmark)
        batches: list[list[int]] = []
        counts = evaluate(
            segmenter, benchmark, watched, protocol, precision, seen=keeper, passed=batches.append
        )
    with phases("costs"):
        infer = measure_inference(segmenter, protocol, precision)
    with phases("verify"):
        stored = deltas.write(segmenter, pristine, folder / "delta.safetensors")
        again, _ = build_segmenter(spec, method, environment.weights, environment.device)
        deltas.load_delta(again.eval(), load_file(folder / "delta.safetensors"))
        # Equal tensors of the same modules give equal counts; what else a method might keep shows
        # in the images.
        deltas.require_same_state(segmenter, again)
        for batch in spread(batches, VERIFIED_IMAGES):
            watched = _watched(Part(examples, np.array(batch)), environment.watch)
            repeated = evaluate(again, benchmark, watched, protocol, precision, full=False)
            if not same_class_counts({key: counts[key][batch] for key in counts}, repeated):
                raise RuntimeError("the stored delta does not reproduce the evaluated counts")
    merged = None
    if method.mergeable and params.inserted:
        with phases("costs"):
            merged = measure_inference(again, protocol, precision, merging=method)
    del again
    with phases("costs"):  # last, since it trains on
        memory = known_memory(feed, method, course.progress.micro_batch)
    store.write_curve(folder, trained.curve)
    store.write_counts(folder, examples.ids, counts)
    keeper.write(folder)
    base = _without_result(spec, method, environment, attempt, "done")
    return base.model_copy(
        update={
            "metrics": summarise(counts, benchmark.classes),
            "costs": Costs(
                params=params,
                stored=stored,
                train=TrainCost(
                    seconds=trained.seconds,
                    images_per_second=trained.images_per_second,
                    memory=memory,
                    first_trainable_depth=depth,
                ),
                infer=infer,
                infer_merged=merged,
            ),
            "timings": dict(phases),
            "curve": _summary(trained),
            "provenance": base.provenance.model_copy(
                update={
                    "weights": segmenter.backbone.weights_source,
                    "weights_sha256": segmenter.backbone.weights_sha256,
                    "benchmark_sha256": provenance.benchmark_sha256(benchmark),
                    "data_sha256": provenance.data_sha256(training.sha256, examples.sha256),
                }
            ),
        }
    )


def _summary(trained: Trained) -> Curve:
    losses = [point["loss"] for point in trained.curve]
    tenth = max(1, len(losses) // 10)
    return Curve(
        steps=len(losses),
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
    )


def _watched(examples: Sequence[Example], watch: Watch) -> Iterator[Example]:
    for number, example in enumerate(examples):
        watch.check(f"at image {number + 1} of {len(examples)} of the evaluation")
        yield example


def _without_result(
    spec: RunSpec,
    method: Method,
    environment: Environment,
    attempt: Attempt,
    status: Status,
    reason: str = "",
    tail: str = "",
) -> Record:
    commit, dirty = provenance.git_state()
    device = environment.device
    return Record(
        run_id=spec.run_id,
        suite=spec.suite,
        benchmark=spec.benchmark,
        benchmark_version=spec.benchmark_version,
        backbone=spec.backbone,
        method=spec.method_label,
        method_params=spec.method_params,
        method_traits={
            "supports": sorted(method.supports),
            "keeps_structure": method.keeps_structure,
            "mergeable": method.mergeable,
            "identity_at_init": method.identity_at_init,
            "reference": method.reference,
        },
        weights=spec.weights,
        seed=spec.seed,
        protocol=spec.protocol.model_dump(),
        protocol_hash=spec.protocol.hash,
        status=status,
        reason=" ".join(reason.split()),
        traceback=tail,
        command=command(spec),
        execution=attempt.execution(),
        provenance=Provenance(
            git_commit=commit,
            git_dirty=dirty,
            packages=provenance.package_versions(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            device=device_name(str(device)),
            threads=torch.get_num_threads(),
            precision=environment.compute_of(spec).precision,
            attention=environment.compute_of(spec).attention,
            weights="none (random)" if spec.weights == "none" else spec.backbone,
            weights_sha256=None,
            data_sha256=None,
            started=attempt.started,
            method_sha256=provenance.method_sha256(type(method)),
        ),
    )
