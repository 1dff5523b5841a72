"""RunSpec -> Record: builds, trains, evaluates, measures, stores. One cell, top to bottom."""

import contextlib
import datetime
import platform
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save, save_file

from benchmark import provenance, store
from benchmark.catalogue import BENCHMARKS, DECODERS, build_method
from benchmark.costs import PeakMemory, first_trainable_depth, measure_inference
from benchmark.data.batches import Normalise, batches
from benchmark.data.fraction import take
from benchmark.engine import Progress, Trained, resolve_precision, train
from benchmark.environment import Environment, decoded, open_benchmark
from benchmark.errors import UserError, on_one_line
from benchmark.evaluate import evaluate, same_class_counts
from benchmark.metrics import summarise
from benchmark.models import delta as deltas
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import build_backbone
from benchmark.planner import command
from benchmark.record import Costs, Curve, Provenance, Record, Status, Stored, TrainCost
from benchmark.seeding import torch_stream
from benchmark.spec import RunSpec
from methods.base import Method, Unsupported


class Phases(dict[str, float]):
    """Seconds by phase."""

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self[name] = round(self.get(name, 0.0) + time.perf_counter() - start, 3)


def run_cell(
    spec: RunSpec, results: Path, environment: Environment, progress: Progress | None = None
) -> Record:
    """Runs one cell and stores it; an exception becomes a record with a status.

    Raises:
        UserError: the user's files or options are at fault; nothing is stored.
    """
    method = build_method(spec.method, spec.method_params)
    phases = Phases()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with store.staging(results, spec) as folder:
        try:
            record = _run(spec, method, folder, environment, phases, started, progress)
        except UserError:
            raise
        except Unsupported as refusal:
            record = _without_result(
                spec, method, environment, started, "unsupported", str(refusal)
            )
        except Exception as error:
            (folder / "log.txt").write_text(traceback.format_exc())
            record = _without_result(
                spec, method, environment, started, "failed", on_one_line(error)
            )
        store.write_record(folder, record)
    return record


def _run(
    spec: RunSpec,
    method: Method,
    folder: Path,
    environment: Environment,
    phases: Phases,
    started: str,
    progress: Progress | None,
) -> Record:
    protocol, device = spec.protocol, environment.device
    precision = resolve_precision(protocol.precision, device)
    with phases("model"):
        segmenter, pristine = build_segmenter(spec, method, environment)
    with phases("data"):
        benchmark = open_benchmark(spec.benchmark, environment.data)
        training = decoded(spec.benchmark, environment.data, "train")
        examples = decoded(spec.benchmark, environment.data, protocol.eval_split)
        crops = batches(
            take(training, protocol.fraction, spec.seed),
            Normalise(segmenter.backbone.mean, segmenter.backbone.std),
            protocol,
            spec.seed,
            environment.workers,
        )
    params = deltas.count_parameters(segmenter, pristine)
    depth = first_trainable_depth(segmenter, protocol)
    memory = PeakMemory()
    with (
        phases("train"),
        memory.measure(segmenter),
        torch_stream(spec.seed, "training"),
        contextlib.closing(crops),
    ):
        trained = train(segmenter, method, crops, protocol, precision, progress)
    with phases("evaluate"):
        counts = evaluate(segmenter, benchmark, examples, protocol, precision)
    with phases("costs"):
        infer = measure_inference(segmenter, protocol, precision)
    with phases("verify"):
        stored = _store_delta(segmenter, pristine, folder / "delta.safetensors")
        del segmenter
        again, _ = build_segmenter(spec, method, environment)
        deltas.load_delta(again, load_file(folder / "delta.safetensors"))
        if not same_class_counts(
            counts, evaluate(again.eval(), benchmark, examples, protocol, precision, full=False)
        ):
            raise RuntimeError("the stored delta does not reproduce the evaluated counts")
    merged = None
    if method.mergeable and params.inserted:
        with phases("costs"):
            method.merge(again.backbone)
            merged = measure_inference(again, protocol, precision)
    store.write_curve(folder, trained.curve)
    store.write_counts(folder, examples.ids, counts)
    base = _without_result(spec, method, environment, started, "done", "")
    return base.model_copy(
        update={
            "metrics": summarise(counts, benchmark.classes),
            "costs": Costs(
                params=params,
                stored=stored,
                train=TrainCost(
                    seconds=trained.seconds,
                    images_per_second=trained.images_per_second,
                    peak_memory_bytes=memory.bytes,
                    first_trainable_depth=depth,
                ),
                infer=infer,
                infer_merged=merged,
            ),
            "timings": dict(phases),
            "curve": _summary(trained),
            "provenance": base.provenance.model_copy(
                update={
                    "weights": again.backbone.weights_source,
                    "weights_sha256": again.backbone.weights_sha256,
                    "data_sha256": provenance.data_sha256(training.sha256, examples.sha256),
                }
            ),
        }
    )


def build_segmenter(
    spec: RunSpec, method: Method, environment: Environment
) -> tuple[Segmenter, deltas.Pristine]:
    """Backbone, method and decoder of a run, each from its own random stream.

    Returns:
        The segmenter, and what the backbone was before the method touched it.
    """
    classes = len(BENCHMARKS.get(spec.benchmark).classes)
    with torch_stream(spec.seed, "backbone-init"):
        backbone = build_backbone(spec.backbone, spec.weights, environment.weights)
    pristine = deltas.snapshot(backbone)
    with torch_stream(spec.seed, "method-init"):
        method.tune(backbone, classes)
    with torch_stream(spec.seed, "decoder-init"):
        build = DECODERS.get(spec.protocol.decoder)
        decoder = build(backbone.channels, backbone.strides, classes)
    return Segmenter(backbone, decoder).to(environment.device), pristine


def _store_delta(segmenter: Segmenter, pristine: deltas.Pristine, path: Path) -> Stored:
    state = deltas.delta(segmenter, pristine)
    save_file(state, path)
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    return Stored(
        params=sum(tensor.numel() for tensor in state.values()),
        bytes=path.stat().st_size,
        bytes_fp16=len(save(half)),
        changed_buffers=deltas.changed_buffers(segmenter, pristine),
    )


def _summary(trained: Trained) -> Curve:
    losses = [point["loss"] for point in trained.curve]
    tenth = max(1, len(losses) // 10)
    return Curve(
        steps=len(losses),
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
    )


def _without_result(
    spec: RunSpec,
    method: Method,
    environment: Environment,
    started: str,
    status: Status,
    reason: str,
) -> Record:
    commit, dirty = provenance.git_state()
    device = environment.device
    return Record(
        run_id=spec.run_id,
        suite=spec.suite,
        benchmark=spec.benchmark,
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
        reason=reason,
        command=command(spec),
        provenance=Provenance(
            git_commit=commit,
            git_dirty=dirty,
            packages=provenance.package_versions(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            device=torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else provenance.processor(),
            threads=torch.get_num_threads(),
            precision=resolve_precision(spec.protocol.precision, device),
            weights="none (random)" if spec.weights == "none" else spec.backbone,
            weights_sha256=None,
            data_sha256=None,
            started=started,
        ),
    )
