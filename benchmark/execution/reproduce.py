"""Repeats a recorded run and compares the results."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from benchmark.analysis.uncertainty.bootstrap import bootstrap
from benchmark.core.errors import UserError
from benchmark.core.record import Provenance, Record
from benchmark.core.spec import RunSpec, one_line
from benchmark.planning.catalogue import BENCHMARKS, build_method, method_label
from benchmark.results import store
from benchmark.results.metrics import CLASS_COUNTS, mean_iou
from benchmark.results.provenance import comparable
from benchmark.results.validate import spec_of

if TYPE_CHECKING:
    from benchmark.core.interrupt import StopSignal

Verdict = Literal["same", "inside", "outside"]
"""same: every count of every image, bit for bit. inside: the mIoU is in the recorded interval."""

RESAMPLES = 2000
LEVEL = 0.95

_NOT_COMPARED = {"packages", "git_dirty", "started"}
"""Of the provenance: packages are compared one by one, a dirty tree says nothing of which."""

Counts = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Judgement:
    """The result of a repeated run.

    Attributes:
        verdict: see `Verdict`.
        recorded: mIoU of the recorded run, in [0, 1].
        again: mIoU of the new run.
        interval: 95 % interval of the recorded mIoU, by a bootstrap over images.
        images_apart: images whose class counts differ; all where the images are not the same.
    """

    verdict: Verdict
    recorded: float
    again: float
    interval: tuple[float, float]
    images_apart: int


def respecify(record: Record) -> RunSpec:
    """The run that a record describes, as it would be specified now.

    Raises:
        UserError: it would be another run, and why: the method, the benchmark's description or the
            protocol has changed, or the record was edited.
    """
    where = f"run {record.run_id} cannot be repeated"
    method = build_method(record.method_name, record.method_params)
    try:
        recorded = spec_of(record)
    except ValidationError as error:
        raise UserError(f"{where}: {one_line(error, 'its protocol')}") from error
    now = {
        "benchmark_version": BENCHMARKS.get(record.benchmark).version,
        "method": method.name,
        "method_label": method_label(method),
        "method_params": dataclasses.asdict(method),
    }
    spec = recorded.model_copy(update=now)
    if spec.run_id == record.run_id:
        return spec
    changes = [
        *_changes(record.method_params, spec.method_params),
        *_changes({"version": record.benchmark_version}, {"version": spec.benchmark_version}),
        *(["the protocol"] if spec.protocol.hash != record.protocol_hash else []),
    ]
    what = "; ".join(changes) or "its record was edited, or ids are computed differently"
    raise UserError(
        f"{where}: today the same request makes run {spec.run_id} (changed: {what}); "
        "check out the commit that its provenance names"
    )


def rerun(
    spec: RunSpec,
    record: Record,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    device: str = "auto",
    watch: "StopSignal | None" = None,
) -> tuple[Record, Counts]:
    """Repeats a run in a temporary folder.

    On a CPU with as many threads as the record has, if there are as many cores: sums over other
    parts round differently. Evaluating the test split is not counted, since nothing is stored.

    Args:
        spec: what to run.
        record: of the recorded run.
        data: data root.
        weights: folders with weight files.
        device: auto, cpu, cuda or cuda:N.
        watch: the limits of the run; its `signal` says afterwards whether one came.

    Returns:
        The new record, and its per-image counts; empty where it is not done.

    Raises:
        Interrupted: a signal came before the run was done; nothing of it is kept.
        UserError: data, weights or device are not there.
    """
    import torch

    from benchmark.core.interrupt import Interrupted, StopSignal
    from benchmark.execution.grid import run_cells

    watch = watch or StopSignal()

    threads = torch.get_num_threads()
    torch.set_num_threads(min(max(1, record.provenance.threads), os.cpu_count() or 1))
    try:
        with tempfile.TemporaryDirectory(prefix="petseg-reproduce-") as folder:
            results = Path(folder)
            made = run_cells(
                [spec],
                results,
                data,
                weights,
                device,
                watch=watch,
                checkpoint_seconds=None,
                compute=record.provenance.compute,
            )
            if watch.signal and (not made or made[0].status != "done"):
                raise Interrupted(
                    f"{watch.signal} before run {spec.run_id} was repeated; nothing of it is kept"
                )
            (again,) = made
            counts = store.read_counts(results / spec.folder) if again.status == "done" else {}
    finally:
        torch.set_num_threads(threads)
    return again, counts


def read_recorded(folder: Path, record: Record) -> Counts:
    """The recorded per-image counts.

    Raises:
        UserError: the run is not done, or its images.npz is missing or damaged.
    """
    if record.status != "done":
        raise UserError(
            f"run {record.run_id} is {record.status}, so there is nothing to compare with; "
            f"run it: {record.command}"
        )
    try:
        counts = store.read_counts(folder)
        stacked = _class_counts(counts)
        if stacked.ndim != 3 or not len(stacked) or counts["ids"].shape != stacked.shape[:1]:
            raise ValueError("no counts of images")
    except Exception as error:
        # A damaged archive fails in as many ways as zip, zlib and numpy have.
        raise UserError(
            f"{folder / 'images.npz'} is missing or damaged; run it again: {record.command}"
        ) from error
    return counts


def judge(recorded: Counts, again: Counts) -> Judgement:
    """Compares per-image counts.

    Args:
        recorded: as `store.read_counts` returns them.
        again: of the new run.
    """
    same_images = np.array_equal(recorded["ids"], again["ids"])
    apart = len(again["label"])
    if same_images:
        differs = [
            (recorded[key] != again[key]).any(axis=1)
            for key in CLASS_COUNTS
            if recorded[key].shape == again[key].shape
        ]
        if len(differs) == len(CLASS_COUNTS):
            apart = int(np.logical_or.reduce(differs).sum())
    # What only one of them counts came with a later version of the harness.
    both = recorded.keys() & again.keys()
    identical = apart == 0 and all(np.array_equal(recorded[k], again[k]) for k in both)
    interval = bootstrap_interval(recorded)
    value = float(mean_iou(*_class_counts(again).sum(0)))
    inside = interval[0] <= value <= interval[1]
    return Judgement(
        verdict="same" if identical else "inside" if inside else "outside",
        recorded=float(mean_iou(*_class_counts(recorded).sum(0))),
        again=value,
        interval=interval,
        images_apart=apart,
    )


def bootstrap_interval(counts: Counts, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mIoU over images drawn with replacement.

    Args:
        counts: `intersection`, `prediction`, `label`: (N, K) pixels.
        seed: of the draws.
    """
    table = np.concatenate([counts[key] for key in CLASS_COUNTS], axis=1)
    drawn = bootstrap(table, lambda sums: mean_iou(*np.split(sums, 3, axis=1)), RESAMPLES, seed)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def differences(then: Provenance, now: Provenance) -> list[str]:
    """What has changed, `name: then -> now` each; packages first.

    Fields that lack a value are left out, and so is what is `unchecked`.
    """
    old, new = then.model_dump(), now.model_dump()
    skipped = {*_NOT_COMPARED, *unchecked(then, now)}
    fields = [name for name in old if name not in skipped and None not in (old[name], new[name])]
    return [
        *_changes(old["packages"], new["packages"]),
        *_changes({n: old[n] for n in fields}, {n: new[n] for n in fields}),
    ]


def unchecked(then: Provenance, now: Provenance) -> list[str]:
    """Hashes of two schemes, which do not show whether what was hashed differs."""
    old, new = then.model_dump(), now.model_dump()
    hashes = [name for name in old if name.endswith("_sha256")]
    both = [name for name in hashes if None not in (old[name], new[name])]
    return [name for name in both if not comparable(old[name], new[name])]


def _class_counts(counts: Counts) -> np.ndarray:
    """(N, 3, K): intersection, prediction, label."""
    return np.stack([counts[key] for key in CLASS_COUNTS], axis=1).astype(float)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {_shown(then, name)} -> {_shown(now, name)}"
        for name in {**then, **now}
        if _shown(then, name) != _shown(now, name)
    ]


def _shown(values: Mapping[str, Any], name: str) -> str:
    text = str(values.get(name, ""))
    scheme, colon, digest = text.rpartition(":")
    return f"{scheme}{colon}{digest[:12]}..." if len(digest) == 64 else text or "none"
