"""RunSpec -> Record: builds, trains, evaluates, measures, stores. One cell, top to bottom."""

import contextlib
import datetime
import functools
import platform
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save, save_file

from benchmark import provenance, store
from benchmark.catalogue import BENCHMARKS, DECODERS, build_method
from benchmark.costs import PeakMemory, first_trainable_depth, measure_inference
from benchmark.data.base import Benchmark, Example, Split, load_split
from benchmark.data.batches import Normalise, at_working_scale, batches
from benchmark.engine import Progress, Trained, resolve_precision, train
from benchmark.errors import UserError, on_one_line
from benchmark.evaluate import evaluate, same_class_counts
from benchmark.metrics import summarise
from benchmark.models import delta as deltas
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import build_backbone, check_weights
from benchmark.planner import command
from benchmark.record import Costs, Curve, Provenance, Record, Status, Stored, TrainCost
from benchmark.seeding import torch_stream
from benchmark.spec import RunSpec
from methods.base import Method, Unsupported


@dataclass(frozen=True)
class Environment:
    """What is the machine's and not the run's.

    Attributes:
        data: data root; None where only generated benchmarks are run.
        weights: folders with weight files.
        device: where to train.
    """

    data: Path | None = None
    weights: Sequence[Path] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@functools.cache
def open_benchmark(name: str, root: Path | None) -> Benchmark:
    """The benchmark, once a process."""
    return BENCHMARKS.get(name)(root)


# Two splits of the current benchmark and of the one before: cells are ordered by benchmark.
@functools.lru_cache(maxsize=4)
def decoded(name: str, root: Path | None, split: Split) -> tuple[Example, ...]:
    """A split, decoded and audited."""
    return tuple(load_split(open_benchmark(name, root), split))


def preflight(
    cells: Sequence[RunSpec], data: Path | None, weights: Sequence[Path], device: str
) -> tuple[Environment, dict[str, str]]:
    """Finds out, before anything is trained or written, what would stop cells.

    Data is read last, because that takes longest.

    Returns:
        Where to run, and by run id why a method cannot act on a backbone.

    Raises:
        UserError: weights or data are missing or damaged; a backbone cannot be staged or does not
            take the crop; a hyperparameter does not fit a backbone; the device does not exist.
    """
    environment = Environment(data, tuple(weights), _device(device))
    for name, kind in dict.fromkeys((cell.backbone, cell.weights) for cell in cells):
        check_weights(name, kind, environment.weights)
        divisor = build_backbone(name, kind, environment.weights).divisor
        for crop in {cell.protocol.crop for cell in cells if cell.backbone == name}:
            if crop % divisor:
                near = max(divisor, crop // divisor * divisor)
                raise UserError(
                    f"crop={crop} is no multiple of {divisor}, which backbone {name!r} needs; "
                    f"use --set crop={near} or --set crop={near + divisor}"
                )
    refusals = _refusals(cells, environment)
    for name, split in dict.fromkeys((cell.benchmark, cell.protocol.eval_split) for cell in cells):
        decoded(name, data, "train")
        decoded(name, data, split)
    return environment, refusals


def _refusals(cells: Sequence[RunSpec], environment: Environment) -> dict[str, str]:
    """Applies every method once to every backbone that it is asked for."""
    tried: dict[tuple[str, ...], str] = {}
    for cell in cells:
        key = (cell.method_label, cell.backbone, cell.weights)
        if key not in tried:
            tried[key] = _refusal(cell, environment)
    found = {c.run_id: tried[c.method_label, c.backbone, c.weights] for c in cells}
    return {run_id: reason for run_id, reason in found.items() if reason}


def _refusal(cell: RunSpec, environment: Environment) -> str:
    method = build_method(cell.method, cell.method_params)
    backbone = build_backbone(cell.backbone, cell.weights, environment.weights)
    try:
        method.tune(backbone, len(BENCHMARKS.get(cell.benchmark).classes))
    except Unsupported as reason:
        return str(reason)
    except ValueError as error:
        raise UserError(f"{error} (backbone {cell.backbone!r})") from error
    except Exception:
        # A fault of the method's code stops its own cells only: they will fail with a traceback.
        return ""
    return ""


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available here; use --device cpu") from error
    return device


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
            [at_working_scale(benchmark, example) for example in training],
            Normalise(segmenter.backbone.mean, segmenter.backbone.std),
            protocol,
            spec.seed,
        )
    params = deltas.count_parameters(segmenter, pristine)
    depth = first_trainable_depth(segmenter, protocol)
    memory = PeakMemory()
    with phases("train"), memory.measure(segmenter), torch_stream(spec.seed, "training"):
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
    store.write_counts(folder, [example.id for example in examples], counts)
    base = _without_result(spec, method, environment, started, "ok", "")
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
                    "data_sha256": _fingerprint(
                        spec.benchmark, environment.data, protocol.eval_split
                    ),
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


@functools.cache
def _fingerprint(name: str, root: Path | None, split: Split) -> str:
    return provenance.data_sha256((*decoded(name, root, "train"), *decoded(name, root, split)))


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
