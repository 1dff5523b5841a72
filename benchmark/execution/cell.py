"""RunSpec -> Record: prepare, train, evaluate, verify, record. One cell, top to bottom."""

import contextlib
import errno
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.files import CHANGED, is_of_changed_files
from benchmark.core.format import counted
from benchmark.core.interrupt import (
    Diverged,
    Interrupted,
    OutOfMemory,
    StopSignal,
    TimedOut,
)
from benchmark.core.machine import device_name
from benchmark.core.record import (
    FINAL,
    Costs,
    Curve,
    Params,
    Record,
    Status,
    Stored,
    TrainCost,
)
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Compute, RunSpec, short_hash
from benchmark.data.base import Benchmark, Example, seal_test
from benchmark.data.examples import Examples, Part
from benchmark.data.subsample import take
from benchmark.data.task import task_of
from benchmark.engine import checkpoint
from benchmark.engine.batching import limit_on, shared_out, spread
from benchmark.engine.build import build_segmenter
from benchmark.engine.checkpoint import Checkpoint, Saving, TrainState
from benchmark.engine.evaluate import Counts, evaluate, joined, same_class_counts
from benchmark.engine.feature_cache import FeatureCacheLoader
from benchmark.engine.losses import Criterion
from benchmark.engine.measure import first_trainable_depth, measure_inference
from benchmark.engine.memory import known_memory
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.ranks import RankLost
from benchmark.engine.replicas import Replicas, replicate
from benchmark.engine.sharding import put_together, shard
from benchmark.engine.train import Progress, Trained, train
from benchmark.engine.training_data import TrainingSplit
from benchmark.execution.environment import Environment
from benchmark.execution.run_state import RunState
from benchmark.execution.splits import decoded, open_benchmark
from benchmark.execution.tasks import TRACEBACK_LINES, mark
from benchmark.models import delta as deltas
from benchmark.models.segmenter import Segmenter
from benchmark.planning.catalogue import build_method
from benchmark.planning.compile_policy import Pays, payback
from benchmark.results import predictions, provenance, store
from benchmark.results.metrics import CLASS_COUNTS, mean_iou, summarise
from methods.base import Unsupported

_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
"""Errors of the disk, on which no record of the cell can be stored."""

Validated = Callable[[int, float], None]
"""Called with the step (from 1) and the mIoU on the validation split."""

VERIFIED_IMAGES = 4
"""Test images, spread over the split, whose batches the stored delta is evaluated on again."""
_CHECK = "the check of the stored delta"


def run_cell(
    spec: RunSpec,
    results: Path,
    environment: Environment,
    progress: Progress | None = None,
    findings: Sequence[str] = (),
    resumed: Callable[[int], None] | None = None,
    near_copies: int | None = None,
    validated: Validated | None = None,
) -> Record:
    """Runs one cell and stores it; an exception becomes a record with a status.

    A cell that was interrupted, or ran out of time, resumes from its checkpoint; one that is done
    stays as it is if running it again fails. An error that the user could fix, such as an image
    damaged after the check, is a failure of this cell, too.

    Args:
        spec: what to run.
        results: folder of the results.
        environment: where.
        progress: called after each step.
        findings: of the audit, which the user accepted; the record names them.
        resumed: called with the step that a checkpoint was taken at.
        near_copies: see `Record.near_copies`.
        validated: called after each evaluation on the validation split during training.

    Raises:
        UserError: there is no such method, or the results cannot be written; nothing is stored.
    """
    method = build_method(spec.method, spec.method_params)
    environment = replace(environment, compute=environment.compute_of(spec))
    run = RunState(results, spec, method, tuple(findings), near_copies)
    environment.watch.restart()
    before = mark(results, spec)
    with store.staging(results, spec) as folder:
        try:
            with seal_test() if spec.protocol.eval_split == "val" else contextlib.nullcontext():
                try:
                    record = _run(run, folder, environment, progress, resumed, validated)
                except checkpoint.Unfit as reason:
                    checkpoint.set_aside(run.checkpoint, f"of other code: {reason}")
                    record = _run(run, folder, environment, progress, resumed, validated)
        except RankLost:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _WRITING:
                raise
            if not folder.is_dir():
                raise OSError(errno.ENOENT, "the folder was removed during the run") from None
            (folder / "log.txt").write_text(traceback.format_exc())
            record = run.record(environment, *failure_of(error))
        store.write_record(folder, record)
        if record.status not in FINAL and store.is_done(results, spec):
            raise store.Discard
        if mark(results, spec) != before:
            # The host was cut off from its network disk, and lost the lock to another.
            record = store.record_of(results, spec) or record
            raise store.Discard
    if record.status in FINAL:
        store.forget_attempts(results, spec)
    return record


def store_failure(
    spec: RunSpec,
    results: Path,
    environment: Environment,
    status: Status,
    reason: str,
    traceback: str = "",
) -> Record:
    """Stores a cell that did not run, or whose process died, and returns its record.

    Raises:
        UserError: there is no such method, or the results cannot be written.
    """
    run = RunState(results, spec, build_method(spec.method, spec.method_params))
    record = run.record(environment, status, reason, traceback)
    with store.staging(results, spec) as folder:
        if traceback:
            (folder / "log.txt").write_text(f"{traceback}\n")
        store.write_record(folder, record)
        if store.is_done(results, spec):
            raise store.Discard
    return record


def follow_cell(spec: RunSpec, results: Path, environment: Environment) -> None:
    """Trains and evaluates a cell beside the process that runs and stores it (`run_cell`).

    Args:
        spec: what that process runs.
        results: folder of the results; nothing is written to it.
        environment: where; its `ranks` say which process this is.
    """
    method = build_method(spec.method, spec.method_params)
    environment = replace(environment, compute=environment.compute_of(spec))
    environment.watch.restart()
    with seal_test() if spec.protocol.eval_split == "val" else contextlib.nullcontext():
        try:
            _follow(RunState(results, spec, method), environment)
        except checkpoint.Unfit:  # in all of the processes; the other one sets it aside
            _follow(RunState(results, spec, method), environment)


def _follow(run: RunState, environment: Environment) -> None:
    prepared = _prepare(run, environment)
    _train(run, prepared, environment, None, None)
    _evaluate(run.spec, prepared, prepared.examples, environment)


def failure_of(error: Exception) -> tuple[Status, str, str]:
    """Status, reason and traceback of a run that ended with an exception, as records have them."""
    if is_of_changed_files(error):
        return "interrupted", CHANGED, ""
    status = status_of(error)
    if status not in ("failed", "oom") or isinstance(error, UserError):
        return status, str(error), ""
    tail = traceback.format_exception(error)
    return status, on_one_line(error), "\n".join("".join(tail).splitlines()[-TRACEBACK_LINES:])


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


@dataclass(frozen=True)
class _Prepared:
    """What a run trains on what.

    Attributes:
        compute: precision and attention.
        segmenter: backbone, method and decoder, on the device.
        pristine: the backbone before the method touched it.
        params: numbers of parameters.
        depth: leading stages without a gradient.
        benchmark: opened.
        training: its training images.
        examples: the images that are evaluated.
        validation: the images that a training is followed on; None = it is not.
        criterion: the loss.
        feed: the batches.
        saved: checkpoint to resume from; None = start from the beginning.
    """

    compute: Compute
    segmenter: Segmenter
    pristine: deltas.Pristine
    params: Params
    depth: int
    benchmark: Benchmark
    training: Examples
    examples: Examples
    validation: Examples | None
    criterion: Criterion
    feed: FeatureCacheLoader
    saved: Checkpoint | None


@dataclass(frozen=True)
class _Scored:
    """What an evaluation found: counts of every image, kept predictions, images by batch."""

    counts: Mapping[str, np.ndarray]
    kept: predictions.PredictionRecorder
    batches: list[list[int]]


def _run(
    run: RunState,
    folder: Path,
    environment: Environment,
    progress: Progress | None,
    resumed: Callable[[int], None] | None,
    validated: Validated | None,
) -> Record:
    """A cell from its beginning, or its checkpoint, to its record; files go to a folder."""
    phases, protocol = run.phases, run.spec.protocol
    prepared = _prepare(run, environment)
    if prepared.saved and resumed:
        resumed(prepared.saved.progress.step)
    trained = _train(run, prepared, environment, progress, validated)
    with phases("evaluate"):
        scored = _evaluate(run.spec, prepared, prepared.examples, environment)
    precision = prepared.compute.precision
    with phases("costs"):
        infer = measure_inference(prepared.segmenter, protocol, precision)
    with phases("verify"):
        stored, again = _verify(run, prepared, scored, folder, environment)
    merged = None
    with phases("costs"):
        if run.method.mergeable and prepared.params.inserted:
            merged = measure_inference(again, protocol, precision, merging=run.method)
        del again
        # Last, since it trains on.
        at_once = -(-run.training.micro_batch // environment.ranks.count)
        memory = None
        if not environment.shard:
            memory = known_memory(prepared.feed, run.method, at_once, prepared.criterion)
    # From here on there are numbers that outlast this process, whatever ends it.
    run.opens(protocol.eval_split)
    store.write_curve(folder, run.training.curve)
    store.write_counts(folder, prepared.examples.ids, scored.counts)
    scored.kept.write(folder)
    training = TrainCost(
        seconds=run.training.seconds,
        images_per_second=trained.images_per_second,
        memory=memory,
        first_trainable_depth=prepared.depth,
    )
    costs = Costs(
        params=prepared.params, stored=stored, train=training, infer=infer, infer_merged=merged
    )
    return _record(run, prepared, scored, costs, environment)


def _prepare(run: RunState, environment: Environment) -> _Prepared:
    """Builds the segmenter, opens the data, and looks for a checkpoint."""
    spec, protocol, compute = run.spec, run.spec.protocol, environment.compute_of(run.spec)
    with run.phases("model"):
        segmenter, pristine = _build(run, environment)
        params = deltas.count_parameters(segmenter, pristine)
        depth = first_trainable_depth(segmenter, protocol)
    with run.phases("data"):
        training = decoded(spec.benchmark, environment.data, "train")
        examples = decoded(spec.benchmark, environment.data, protocol.eval_split)
        validation = None
        if protocol.val_every:
            validation = decoded(spec.benchmark, environment.data, "val")
        benchmark = open_benchmark(spec.benchmark, environment.data)
        own = TrainingSplit(take(training, protocol.fraction, spec.seed), len(benchmark.classes))
        run.method.before_training(segmenter.backbone, own)
        feed = FeatureCacheLoader(segmenter, pristine, training, protocol, compute, spec.seed)
        identity = run.identity(
            weights=segmenter.backbone.weights_sha256,
            data=short_hash(
                [part.sha256 for part in (training, examples, validation) if part is not None]
            ),
            precision=compute.precision,
            attention=compute.attention,
            device=environment.device.type,
            devices=environment.ranks.count,
        )
        run.training, run.known_stages = TrainState(identity), feed.known_stages
        return _Prepared(
            compute=compute,
            segmenter=segmenter,
            pristine=pristine,
            params=params,
            depth=depth,
            benchmark=benchmark,
            training=training,
            examples=examples,
            validation=validation,
            criterion=Criterion.of(protocol, own),
            feed=feed,
            saved=environment.ranks.first(lambda: checkpoint.load(run.checkpoint, identity)),
        )


def _build(run: RunState, environment: Environment) -> tuple[Segmenter, deltas.Pristine]:
    return build_segmenter(run.spec, run.method, environment.weights, environment.device)


def _train(
    run: RunState,
    prepared: _Prepared,
    environment: Environment,
    progress: Progress | None,
    validated: Validated | None,
) -> Trained:
    """Trains to the end of the protocol, on as many threads as help."""
    segmenter, protocol, ranks = prepared.segmenter, run.spec.protocol, environment.ranks
    replicas = Replicas(segmenter)
    if environment.compiling != "always" and ranks.count == 1:
        replicas = replicate(segmenter, lambda: _build(run, environment)[0], run.method, protocol)
    pays: Pays | None = None
    # With cached stages only a part of the network runs; copies, and blocks that are computed
    # twice, are not compiled.
    whole = len(replicas.segmenters) == 1 and protocol.checkpoint_activations == "off"
    if whole and not run.known_stages and ranks.count == 1:
        device = device_name(str(environment.device))
        pays = payback(environment.compiling, run.spec, run.results, device)
    seconds = environment.checkpoint_seconds
    saving = Saving() if seconds is None else Saving(run.checkpoint, seconds)
    made = prepared.saved.progress.step if prepared.saved else 0
    part = -(-protocol.batch_size // protocol.accumulate)
    places = ranks.places(protocol.batch_size, part)
    crops = prepared.feed.batches(environment.workers, skip=made, places=places)
    with run.phases("train"):
        if environment.shard:
            network, _ = _build(run, environment)
            shard(network, ranks)
            segmenter.to("cpu")
            replicas = Replicas(network)
        with (
            replicas.sharing(prepared.compute),
            torch_stream(run.spec.seed, "training"),
            contextlib.closing(crops),
        ):
            trained = train(
                replicas.segmenters[0],
                run.method,
                crops,
                protocol,
                prepared.compute.precision,
                progress,
                state=run.training,
                saved=prepared.saved,
                saving=saving,
                watch=environment.watch,
                pays=pays,
                replicas=replicas,
                criterion=prepared.criterion,
                validate=_validation(run, prepared, environment, validated),
                ranks=ranks,
            )
        if environment.shard:
            put_together(replicas.segmenters[0], segmenter.eval().to(environment.device))
    return trained


def _validation(
    run: RunState, prepared: _Prepared, environment: Environment, validated: Validated | None
) -> Callable[[], float] | None:
    """The mIoU on the validation split; None where the protocol asks for none."""
    what = "the validation during training"
    if (examples := prepared.validation) is None:
        return None

    def validate() -> float:
        counts = _evaluate(run.spec, prepared, examples, environment, what, full=False).counts
        if environment.ranks.is_first:
            run.opens("val")
        found = float(mean_iou(*(counts[name].sum(0) for name in CLASS_COUNTS)))
        if validated:
            validated(run.training.step, found)
        return found

    return validate


def _evaluate(
    spec: RunSpec,
    prepared: _Prepared,
    examples: Examples,
    environment: Environment,
    what: str = "the evaluation",
    full: bool = True,
) -> _Scored:
    """Scores every image of a split, each in one of the processes, and keeps some predictions."""
    ranks = environment.ranks
    keeper = predictions.PredictionRecorder(examples.ids, spec.benchmark)
    own = shared_out(len(examples), limit_on(environment.device, spec.protocol), ranks)
    batches: list[list[int]] = []
    counts: Counts = {}
    stop: Interrupted | TimedOut | None = None
    try:
        if len(own):
            counts = evaluate(
                prepared.segmenter,
                prepared.benchmark,
                _watched(
                    examples if ranks.count == 1 else Part(examples, own), environment.watch, what
                ),
                spec.protocol,
                prepared.compute.precision,
                full=full,
                seen=keeper,
                passed=lambda numbers: batches.append([int(own[number]) for number in numbers]),
            )
    except (Interrupted, TimedOut) as reason:
        if ranks.count == 1:
            raise
        stop = reason
    if why := ranks.agreed(stop):
        raise why
    if ranks.count == 1:
        return _Scored(counts, keeper, batches)
    found = ranks.gather((own, counts, keeper.maps, batches))
    for _, _, maps, _ in found:
        keeper.take(maps)
    every = sorted(batch for *_, some in found for batch in some)
    return _Scored(joined([(images, some) for images, some, *_ in found]), keeper, every)


def _verify(
    run: RunState, prepared: _Prepared, scored: _Scored, folder: Path, environment: Environment
) -> tuple[Stored, Segmenter]:
    """Stores the delta, loads it onto a fresh segmenter, and evaluates some images again.

    Returns:
        What was stored, and the fresh segmenter.

    Raises:
        RuntimeError: the stored delta does not give what was evaluated.
    """
    stored = deltas.write(prepared.segmenter, prepared.pristine, folder / "delta.safetensors")
    again, _ = _build(run, environment)
    deltas.load_delta(again.eval(), load_file(folder / "delta.safetensors"))
    # Equal tensors of the same modules give equal counts; what else a method might keep shows in
    # the images.
    deltas.require_same_state(prepared.segmenter, again)
    for batch in spread(scored.batches, VERIFIED_IMAGES):
        repeated = evaluate(
            again,
            prepared.benchmark,
            _watched(Part(prepared.examples, np.array(batch)), environment.watch, _CHECK),
            run.spec.protocol,
            prepared.compute.precision,
            full=False,
        )
        expected = {key: counts[batch] for key, counts in scored.counts.items()}
        if not same_class_counts(expected, repeated):
            raise RuntimeError("the stored delta does not reproduce the evaluated counts")
    return stored, again


def _record(
    run: RunState,
    prepared: _Prepared,
    scored: _Scored,
    costs: Costs,
    environment: Environment,
) -> Record:
    """The record of a finished run."""
    base, backbone = run.record(environment, "done"), prepared.segmenter.backbone
    found = {
        "weights": backbone.weights_source,
        "weights_sha256": backbone.weights_sha256,
        "benchmark_sha256": provenance.benchmark_sha256(prepared.benchmark),
        "data_sha256": provenance.data_sha256(prepared.training.sha256, prepared.examples.sha256),
    }
    return base.model_copy(
        update={
            "metrics": summarise(
                scored.counts,
                prepared.benchmark.classes,
                dice=prepared.benchmark.metric == "dice",
            ),
            "costs": costs,
            "timings": dict(run.phases),
            "curve": _summary(run.training.curve),
            "task": task_of(prepared.benchmark),
            "provenance": base.provenance.model_copy(update=found),
        }
    )


def _summary(curve: Sequence[Mapping[str, float]]) -> Curve:
    losses = [point["loss"] for point in curve]
    tenth = max(1, len(losses) // 10)
    return Curve(
        steps=len(losses),
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
    )


def _watched(
    examples: Sequence[Example], watch: StopSignal, what: str = "the evaluation"
) -> Iterator[Example]:
    for number, example in enumerate(examples):
        watch.check(f"after {number} of {counted(len(examples), 'image')} of {what}")
        yield example
