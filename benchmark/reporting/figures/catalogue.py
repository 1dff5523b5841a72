"""Every figure of a report: what is drawn, under which title, in which file and section."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.analysis.ablation import ablation, families
from benchmark.analysis.cost_tables import storage
from benchmark.analysis.curves import training_curves
from benchmark.analysis.efficiency import COMPARED, corruption_scores, label_efficiency
from benchmark.analysis.leaderboard import cells
from benchmark.reporting.inputs import Key, Material, of_group
from benchmark.reporting.table_catalogue import file_name
from benchmark.reporting.timing_notes import timed
from benchmark.results.timing_columns import LATENCY, RATIOS, TRAINING, references

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.reporting.style import Style

WEIGHTS = {"pretrained": "pretrained weights", "none": "random weights"}

PARETO = {
    "parameters": (
        "costs.params.total_trainable",
        "Trainable parameters, decoder included",
        "mIoU against trainable parameters",
    ),
    "backbone": (
        "costs.params.trainable_backbone",
        "Trained backbone parameters (inserted and tuned)",
        "mIoU against trained backbone parameters",
    ),
    "stored": ("costs.stored.bytes", "Stored for one more task", "mIoU against stored bytes"),
    "train_time": (
        TRAINING,
        f"Time of a training step / {references()[0]}",
        "mIoU against training time",
    ),
    "memory": (
        "costs.train.memory.peak_bytes",
        "Peak memory of training",
        "mIoU against training memory",
    ),
    "latency": (
        LATENCY,
        f"Latency of one image / {references()[0]}",
        "mIoU against inference latency",
    ),
}
"""Name of the file: cost column, label of its axis, title."""

COSTS, RANKS, CLASSES, TRAINING = "Costs against mIoU", "Average ranks", "Classes", "Training"
STORAGE, SETTINGS = "Storage for many tasks", "Settings of a method"
FRACTIONS, CORRUPTIONS = "Fewer training images", "Corrupted images"
TASKS = range(1, 101)


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        section: heading under which it is shown.
        title: what it shows, for those who cannot see it.
        stem: name of its files.
        draw: makes it.
    """

    section: str
    title: str
    stem: str
    draw: "Callable[[], Figure]"


def pictures(material: Material, key: Key) -> Iterator[Picture]:
    """The figures of a group that have something to show.

    Args:
        material: of the report.
        key: of one of its groups.
    """
    # Matplotlib is slow to load, and a table in the terminal needs none of it.
    from benchmark.reporting.figures.critical_difference import ranks_figure
    from benchmark.reporting.figures.pareto import pareto_figure
    from benchmark.reporting.figures.per_class import class_figure
    from benchmark.reporting.figures.storage import storage_figure
    from benchmark.reporting.figures.training_curves import curves_figure

    several = len(material.groups) > 1
    suffix = f"_{file_name('_'.join(key))}" if several else ""
    of = f": {key[0]}, {WEIGHTS[key[1]]}" + (f", protocol {key[2]}" if several else "")
    runs, found, styles = material.runs_of(key), material.assessment, dict(material.styles())
    fronts, intervals = of_group(found.fronts, key), of_group(material.intervals, key)
    known, times = cells(runs), timed(runs)
    for name, (column, label, words) in PARETO.items():
        missing = column in known and known[column].isna().all()
        if missing or (column in RATIOS and column not in times):
            continue
        own = fronts if column in set(fronts["cost"]) else None
        more = {"intervals": intervals, "fronts": own, "reference": material.reference}
        draw = partial(pareto_figure, runs, column, label, words + of, styles, **more)
        yield Picture(COSTS, words, f"pareto_{name}{suffix}", draw)
    ranks = of_group(found.ranks, key)
    if len(ranks) > 1:
        cliques = of_group(found.cliques, key).groupby("clique")["method"].agg(list).tolist()
        difference = float(ranks["critical_difference"].iloc[0])
        draw = partial(ranks_figure, ranks, difference, cliques, f"Average ranks{of}", styles)
        yield Picture(RANKS, "Average ranks over benchmarks", f"ranks{suffix}", draw)
    for name in sorted(runs.loc[runs["status"] == "done", "benchmark"].unique()):
        words = f"IoU per class of {name}"
        draw = partial(class_figure, runs, name, words + of)
        yield Picture(CLASSES, words, f"classes_{file_name(name)}{suffix}", draw)
    curves = of_group(training_curves(material.runs, material.root), key)
    if len(curves):
        draw = partial(curves_figure, curves, f"Training loss{of}", styles)
        yield Picture(TRAINING, "Training loss against step", f"training{suffix}", draw)
    table = storage(runs, TASKS)
    if len(table):
        draw = partial(storage_figure, table, f"Storage for many tasks{of}", styles)
        yield Picture(
            STORAGE, "Bytes on disk against the number of tasks", f"storage{suffix}", draw
        )
    yield from _settings(runs, intervals, of, suffix)
    yield from _corruptions(material, key, of, suffix, styles)


def fractions(material: Material) -> Iterator[Picture]:
    """Figures of label efficiency, each over the protocols that differ in the fraction alone."""
    from benchmark.reporting.figures.label_efficiency import fraction_figure

    table = label_efficiency(material.runs)
    for names, part in table.groupby(["backbone", "weights", "family"], sort=True):
        backbone, weights, family = map(str, names)
        title = f"Label efficiency: {backbone}, {WEIGHTS[weights]}, protocols {family}"
        draw = partial(fraction_figure, part, title, dict(material.styles()), material.intervals)
        stem = f"fractions_{file_name('_'.join((backbone, weights, family)))}"
        yield Picture(
            FRACTIONS, f"mIoU against the share of training images, {backbone}", stem, draw
        )


def _settings(
    runs: pd.DataFrame, intervals: pd.DataFrame, of: str, suffix: str
) -> Iterator[Picture]:
    from benchmark.reporting.figures.ablation import ablation_figure, numeric_fields

    for name in families(runs):
        for field in numeric_fields(ablation(runs, name)):
            words = f"mIoU of {name} against its {field}"
            draw = partial(ablation_figure, runs, name, field, words + of, intervals)
            stem = f"settings_{file_name(name)}_{file_name(field)}{suffix}"
            yield Picture(SETTINGS, words, stem, draw)


def _corruptions(
    material: Material, key: Key, of: str, suffix: str, styles: "dict[str, Style]"
) -> Iterator[Picture]:
    from benchmark.reporting.figures.corruptions import corruption_figure

    scores = of_group(corruption_scores(material.runs, material.root), key)
    for _, part in scores.groupby(COMPARED, sort=True):
        version = part["corruptions_version"].iloc[0]
        draw = partial(corruption_figure, part, f"Corrupted images{of}", styles)
        stem = f"corruptions_v{version}{suffix}"
        yield Picture(CORRUPTIONS, "mIoU against severity", stem, draw)
