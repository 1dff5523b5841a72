"""The costs of a method, in one list: leaderboard, tables, figures and the page are made from it.

A cost is better the lower it is. A new one needs an entry in `COSTS` and a value in the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.core.format import Kind
from benchmark.results.timing_columns import LATENCY, RATIOS, TRAINING

BACKBONE = "costs.params.backbone"
INSERTED = "costs.params.inserted"
TUNED = "costs.params.tuned_backbone"
DECODER = "costs.params.decoder"
TRAINABLE = "costs.params.total_trainable"
TRAINED = "costs.params.trained_backbone"
STORED = "costs.stored.bytes"


@dataclass(frozen=True)
class Cost:
    """One cost.

    Attributes:
        column: of the records, or of the times that were measured side by side.
        title: what it is, as an axis says it.
        short: heading of a column.
        kind: unit of the numbers.
        compared: in the leaderboard; the statistics tell which methods are on its Pareto front.
        main: shown where there is room for few costs, with the lowest in bold.
        figure: name of the file of its Pareto figure; "" for none.
        against: what that figure shows mIoU against, in its title.
        parts: columns that it is the sum of; the records do not hold it.
        reference: method of which a time is a multiple.
        published: what published numbers of parameters count where they count the same.
        of_backbone: all methods share it, so that it makes no axis.
        about: what it is, for those who meet it for the first time.
    """

    column: str
    title: str
    short: str
    kind: Kind
    compared: bool = False
    main: bool = False
    figure: str = ""
    against: str = ""
    parts: tuple[str, ...] = ()
    reference: str = ""
    published: str = ""
    of_backbone: bool = False
    about: str = ""

    @property
    def heading(self) -> str:
        """`short`, and what a time is a multiple of."""
        return f"{self.short} / {self.reference}" if self.reference else self.short

    @property
    def varies(self) -> bool:
        """Whether it may differ from run to run, unlike a size."""
        return self.column.startswith(("costs.train.", "costs.infer."))


_TIMES = {
    "training": ("Time of a training step", "Training", "time of a training step"),
    "latency": ("Latency of one image", "Latency", "time to segment one image"),
    "latency8": ("Latency of eight images", "Latency, 8", "time to segment a batch of eight"),
    "latency_merged": (
        "Latency of one image, merged",
        "Merged",
        "time to segment one image, with what was inserted folded into the backbone's weights",
    ),
    "latency8_merged": (
        "Latency of eight images, merged",
        "Merged, 8",
        "time to segment a batch of eight, with what was inserted folded into the weights",
    ),
}


def _time(ratio: str, figure: str = "", against: str = "") -> Cost:
    """A time as a multiple of that of a reference; compared where it has a figure."""
    _, kind, reference = ratio.split(".", 2)
    title, short, about = _TIMES[kind]
    return Cost(
        ratio,
        f"{title}, as a multiple of {reference}",
        short,
        "ratio",
        compared=bool(figure),
        main=bool(figure),
        figure=figure,
        against=against,
        reference=reference,
        about=f"{about}, as a multiple of that of {reference}",
    )


COSTS: tuple[Cost, ...] = (
    Cost(BACKBONE, "Parameters of the backbone", "Backbone", "count", of_backbone=True),
    Cost(
        INSERTED,
        "Inserted parameters",
        "Inserted",
        "count",
        compared=True,
        about="new parameters in or beside the backbone, all trained",
    ),
    Cost(
        TUNED,
        "Tuned backbone parameters",
        "Tuned",
        "count",
        compared=True,
        about="pretrained parameters of the backbone that are trained",
    ),
    Cost(
        DECODER,
        "Decoder parameters",
        "Decoder",
        "count",
        compared=True,
        about="parameters of the decoder, the same for all methods",
    ),
    Cost(
        TRAINABLE,
        "Trainable parameters, decoder included",
        "Trainable",
        "count",
        compared=True,
        main=True,
        figure="parameters",
        against="trainable parameters",
        published="total trainable",
        about="inserted, tuned and decoder parameters together",
    ),
    Cost(
        TRAINED,
        "Trained backbone parameters (inserted and tuned)",
        "In backbone",
        "count",
        figure="backbone",
        against="trained backbone parameters",
        parts=(INSERTED, TUNED),
        published="backbone",
        about="inserted and tuned parameters together, without the decoder",
    ),
    Cost(
        STORED,
        "Stored for one more task",
        "Stored",
        "bytes",
        compared=True,
        main=True,
        figure="stored",
        against="stored bytes",
        about="bytes on disk for one more task that shares the backbone",
    ),
    Cost(
        "costs.stored.bytes_fp16",
        "Stored in half precision",
        "Stored, fp16",
        "bytes",
        about="bytes on disk for one more task, in 16-bit floats",
    ),
    # Of times those that were measured side by side: what a run took depends on what ran beside it.
    _time(TRAINING, "train_time", "training time"),
    Cost(
        "costs.train.memory.peak_bytes",
        "Peak memory of training",
        "Memory",
        "bytes",
        compared=True,
        main=True,
        figure="memory",
        against="training memory",
        about="the most that the tensors of a training step take at one moment",
    ),
    _time(LATENCY, "latency", "inference latency"),
    Cost(
        "costs.infer.flops",
        "FLOPs of one image",
        "FLOPs",
        "count",
        about="floating-point operations for one image; a multiply-add counts as two",
    ),
    Cost(
        "costs.infer.memory.peak_bytes",
        "Peak memory of inference",
        "Infer memory",
        "bytes",
        about="the most that the tensors of a forward pass take at one moment",
    ),
    Cost(
        "costs.infer_merged.flops",
        "FLOPs of one image, merged",
        "Merged FLOPs",
        "count",
        about="the same with what was inserted folded into the backbone's weights",
    ),
    *(_time(ratio) for ratio in RATIOS if ratio not in (TRAINING, LATENCY)),
)
"""Every cost, in the order of the leaderboard."""


def by_column(column: str) -> Cost:
    """The cost of a column."""
    return next(cost for cost in COSTS if cost.column == column)


def cost_columns() -> list[str]:
    """The columns of all costs."""
    return [cost.column for cost in COSTS]


def compared_costs() -> list[str]:
    """The columns of the costs of the leaderboard."""
    return [cost.column for cost in COSTS if cost.compared]


def component_costs() -> list[Cost]:
    """What a method costs, each apart: first sizes, then times by their reference."""
    apart = [cost for cost in COSTS if not cost.parts]
    return sorted(apart, key=lambda cost: [*RATIOS].index(cost.column) + 1 if cost.reference else 0)


def with_numbers(runs: pd.DataFrame, others: Sequence[str] = ()) -> pd.DataFrame:
    """The runs with every cost, and other columns, as numbers; NaN where a run has it not."""
    names = list(dict.fromkeys([*others, *cost_columns()]))
    # Put together at once: a record has two hundred columns, and each new one would be a block.
    numbers = runs.reindex(columns=names).astype(float)
    for cost in COSTS:
        if cost.parts:
            numbers[cost.column] = numbers[list(cost.parts)].sum(axis=1, skipna=False)
    return pd.concat([runs.drop(columns=names, errors="ignore"), numbers], axis=1).copy()
