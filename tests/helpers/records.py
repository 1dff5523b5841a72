"""Builds valid records with made-up numbers, for the tests of everything behind the store."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.record import (
    Costs,
    Curve,
    InferCost,
    Memory,
    Metrics,
    Params,
    Provenance,
    Record,
    Stored,
    TrainCost,
    TrainMemory,
)
from benchmark.results.load import flat
from benchmark.results.timing import Load, Machine, Measured, Timing, add_columns
from benchmark.results.timing import write as write_timing
from benchmark.results.timing_columns import references

DECODER = 400_000
# name: (inserted, tuned backbone, mIoU on the first benchmark)
METHODS = {
    "full": (0, 5_526_000, 0.505),
    "linear": (0, 0, 0.440),
    "bitfit": (0, 50_000, 0.462),
    "norm": (0, 9_600, 0.457),
    "lora[rank=4]": (147_000, 0, 0.497),
    "adapter": (302_000, 0, 0.490),
    "vpt-shallow": (9_600, 0, 0.448),
    "vpt-deep": (115_000, 0, 0.471),
    "ssf": (42_000, 0, 0.481),
    "adaptformer": (295_000, 0, 0.493),
    "convpass": (330_000, 0, 0.499),
    "spm": (620_000, 0, 0.502),
    "partial[blocks=2]": (0, 890_000, 0.476),
    "peft:ia3": (18_000, 0, 0.452),
}
BENCHMARKS = {"camvid": 0.0, "drive": 0.13, "kvasir": 0.27, "loveda": -0.09, "pets": 0.31}


def record(
    method: str = "linear",
    benchmark: str = "camvid",
    *,
    miou: float | None = None,
    seed: int = 0,
    inserted: int = 0,
    tuned: int = 0,
    status: str = "done",
    reason: str = "",
    **changes: Any,
) -> Record:
    """One record; a run that is not done has neither metrics nor costs."""
    name = f"{method}-{benchmark}-{seed}"
    fields: dict[str, Any] = {
        "run_id": f"{abs(hash_text(name)):012x}",
        "suite": "small",
        "benchmark": benchmark,
        "backbone": "vit_tiny_patch16_224",
        "method": method,
        "method_params": {},
        "method_traits": {"mergeable": False},
        "weights": "pretrained",
        "seed": seed,
        "protocol": {"steps": 150, "batch_size": 8, "crop": 224, "schedule": "cosine"},
        "protocol_hash": "5d0c9e1f2a3b",
        "status": status,
        "reason": reason,
        "provenance": Provenance(
            git_commit="0123456789abcdef",
            git_dirty=False,
            packages={"torch": "2.11.0"},
            python="3.11.8",
            platform="Linux",
            device="cpu",
            threads=2,
            precision="fp32",
            weights="/srv/weights/vit_tiny.safetensors",
            weights_sha256="ab" * 32,
            data_sha256="cd" * 32,
            started=f"2025-03-0{1 + seed}T10:00:00Z",
        ),
    }
    if status == "done":
        fields["metrics"] = _metrics(0.5 if miou is None else miou, benchmark)
        fields["costs"] = _costs(inserted, tuned)
        fields["curve"] = Curve(steps=150, first_loss=2.1, last_loss=0.4)
    return Record(**(fields | changes))


def grid(
    methods: Sequence[str] | None = None, seeds: int = 1, benchmarks: Sequence[str] | None = None
) -> list[Record]:
    """Plausible records of methods x benchmarks x seeds."""
    names = list(METHODS) if methods is None else list(methods)
    return [
        record(
            name,
            benchmark,
            miou=METHODS[name][2]
            + BENCHMARKS[benchmark]
            + 0.018 * wobble(f"{name}{benchmark}")
            + 0.005 * wobble(f"{name}{benchmark}{seed}"),
            seed=seed,
            inserted=METHODS[name][0],
            tuned=METHODS[name][1],
        )
        for name in names
        for benchmark in benchmarks or BENCHMARKS
        for seed in range(seeds)
    ]


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """The table that `load_results` would return."""
    return pd.json_normalize([flat(item) for item in records])


def write(records: Sequence[Record], root: Path) -> None:
    """Stores records where the store puts them."""
    for item in records:
        parts = (item.suite, item.benchmark, item.backbone, item.method, item.run_id)
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(item.model_dump_json(), encoding="utf-8")


def hash_text(text: str) -> int:
    """A number from a text, the same in every process."""
    number = 7
    for letter in text:
        number = (number * 31 + ord(letter)) % 1_000_003
    return number


def wobble(text: str) -> float:
    """A number in [-1, 1] from a text."""
    return math.sin(hash_text(text))


def _metrics(miou: float, benchmark: str) -> Metrics:
    classes: dict[str, float | None] = {
        "background": miou + 0.1,
        f"{benchmark}_thing": miou - 0.1,
        "never seen": None,
    }
    return Metrics(
        miou=miou,
        image_miou=miou - 0.02,
        pixel_accuracy=0.9,
        mean_accuracy=0.7,
        fw_iou=0.8,
        boundary_miou=miou - 0.15,
        nll=0.4,
        ece=0.05,
        class_iou=classes,
        absent_classes=["never seen"],
        images=40,
    )


def _costs(inserted: int, tuned: int) -> Costs:
    stored = inserted + tuned + DECODER
    share = stored / 6_000_000
    return Costs(
        params=Params(
            backbone=5_526_000,
            inserted=inserted,
            tuned_backbone=tuned,
            decoder=DECODER,
            total_trainable=stored,
        ),
        stored=Stored(
            params=stored, bytes=4 * stored + 1800, bytes_fp16=2 * stored, changed_buffers=0
        ),
        train=TrainCost(
            seconds=58 + 45 * share**0.5,
            images_per_second=21 - 8 * share**0.5,
            memory=TrainMemory(
                peak_bytes=int(6e8 + 9e8 * share),
                parameter_bytes=22_000_000,
                buffer_bytes=0,
                gradient_bytes=4 * stored,
                optimiser_bytes=8 * stored,
                activation_bytes=500_000_000,
                other_bytes=800_000,
            ),
            first_trainable_depth=0,
        ),
        infer=InferCost(
            latency_ms_p50=8.2 + 5.0 * inserted / 600_000,
            latency_ms_p95=12.0,
            images_per_second=90.0,
            flops=2_500_000_000,
            memory=Memory(peak_bytes=400_000_000),
        ),
    )


def timing(records: Sequence[Record], rounds: int = 3) -> Timing:
    """Times of the methods of one group: those that insert more take longer; the first is merged.

    The frozen backbone and full training are measured along.
    """
    first = records[0]
    labels = dict.fromkeys([item.method for item in records if item.status == "done"])
    sizes = {item.method: item.costs.params.inserted for item in records if item.costs}
    methods = {}
    for number, label in enumerate([*labels, *(n for n in references() if n not in labels)]):
        slow = 1 + sizes.get(label, 0) / 400_000
        base = {"training": 0.05 * (1 if label == references()[0] else 2 * slow)}
        base |= {"latency": 0.004 * slow, "latency8": 0.02 * slow}
        if number == 0:
            base |= {"latency_merged": 0.004, "latency8_merged": 0.02}
        # A round in which the machine was busy is slow for all.
        seconds = {
            kind: tuple(
                value * (1 + 0.5 * turn + 0.01 * wobble(f"{label}{kind}{turn}"))
                for turn in range(rounds)
            )
            for kind, value in base.items()
        }
        methods[label] = Measured(method=label.partition("[")[0], method_params={}, seconds=seconds)
    return Timing(
        suite=first.suite,
        benchmark=first.benchmark,
        backbone=first.backbone,
        weights=first.weights,
        protocol=first.protocol,
        protocol_hash=first.protocol_hash,
        measured="2025-03-04T10:00:00+00:00",
        duration=30.0,
        rounds=rounds,
        steps=3,
        machine=Machine(
            device="Some CPU, 2 cores",
            threads=1,
            precision="fp32",
            platform="Linux x86_64",
            python="3.11.8",
            packages={"torch": "2.11.0"},
            git_commit="0123456789abcdef",
            git_dirty=False,
        ),
        load=Load(before=0.3, after=1.1, others=0.042, stolen=0.0),
        methods=methods,
    )


def timed(records: Sequence[Record]) -> pd.DataFrame:
    """The table that `load_results` would return where every group was measured side by side."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for item in records:
        groups.setdefault((item.backbone, item.weights, item.protocol_hash), []).append(item)
    with tempfile.TemporaryDirectory() as folder:
        for group in groups.values():
            write_timing(Path(folder), timing(group))
        rows = [
            pd.json_normalize(flat(item)).iloc[0].to_dict() | {"folder": "small/b/k/m/id"}
            for item in records
        ]
        add_columns(rows, Path(folder))
    return pd.DataFrame(rows).drop(columns="folder")
