"""Writes whole runs that hold what their records say, for the tests of what reads them."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmark.core.record import Curve, Record
from benchmark.core.spec import Protocol
from benchmark.results import store
from benchmark.results.metrics import summarise
from benchmark.results.validate import spec_of
from tests.helpers.records import record

CLASSES = ("road", "tree", "sky")
STEPS = 4


def counts(
    images: int = 30, accuracy: float = 0.8, seed: int = 0, spread: float = 0.05
) -> dict[str, np.ndarray]:
    """Per-image counts of a made-up run; labels hang on the number of images alone.

    Args:
        images: N.
        accuracy: mean share of a class's pixels that are right.
        seed: of this run's luck.
        spread: how much the share differs from image to image.
    """
    classes = len(CLASSES)
    label = np.random.default_rng(images).integers(50, 500, (images, classes))
    random = np.random.default_rng(seed)
    share = np.clip(random.normal(accuracy, spread, (images, 1)), 0, 1)
    hits = random.binomial(label, share)
    prediction = hits + np.roll(label - hits, 1, axis=1)
    return {
        "intersection": hits,
        "prediction": prediction,
        "label": label,
        "boundary_intersection": hits // 10,
        "boundary_union": label // 10,
        "nll": label.sum(1) * 0.3,
        "bin_count": label,
        "bin_correct": hits,
        "bin_confidence": hits * 1.0,
    }


def names(images: int) -> list[str]:
    """Ids of images."""
    return [f"image{index:03d}" for index in range(images)]


def store_run(
    root: Path,
    method: str = "linear",
    *,
    numbers: dict[str, np.ndarray] | None = None,
    delta: bool = True,
    status: str = "done",
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A run at its place below `root`.

    Args:
        root: results folder.
        method: label.
        numbers: per-image counts.
        delta: whether the weights were kept.
        status: of the run.
        seed: of the run.
        **changes: other fields of the record.

    Returns:
        Its folder.
    """
    numbers = counts(seed=seed) if numbers is None else numbers
    protocol = Protocol(steps=STEPS)
    base = record(
        method,
        status=status,
        seed=seed,
        protocol=protocol.model_dump(),
        protocol_hash=protocol.hash,
        **changes,
    )
    spec = spec_of(base)
    base = base.model_copy(update={"run_id": spec.run_id})
    folder = root / spec.folder
    folder.mkdir(parents=True)
    if status == "done":
        base = _with_files(folder, base, numbers)
        if not delta:
            (folder / "delta.safetensors").unlink()
    store.write_record(folder, base)
    return folder


def _with_files(folder: Path, base: Record, numbers: dict[str, np.ndarray]) -> Record:
    images = len(numbers["label"])
    store.write_counts(folder, names(images), numbers)
    store.write_curve(folder, [{"step": i + 1, "loss": 1.0 - 0.1 * i} for i in range(STEPS)])
    delta = folder / "delta.safetensors"
    save_file({"decoder.weight": np.ones((3, 4), np.float32)}, delta)
    assert base.costs is not None
    stored = base.costs.stored.model_copy(update={"params": 12, "bytes": delta.stat().st_size})
    return base.model_copy(
        update={
            "metrics": summarise(numbers, CLASSES),
            "curve": Curve(steps=STEPS, first_loss=1.0, last_loss=0.7),
            "costs": base.costs.model_copy(update={"stored": stored}),
        }
    )
