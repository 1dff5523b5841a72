"""What differs between two runs, or between the runs of two results folders, and whether it counts.

The statistics resample images: both runs of a pair saw the same ones, so the difference of their
mIoU is far better known than either mIoU. Training variation is not included; compare several
seeds for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.analysis.uncertainty.bootstrap import bootstrap
from benchmark.analysis.uncertainty.family import ALPHA, holm
from benchmark.core.errors import UserError
from benchmark.core.object_store import is_url
from benchmark.core.record import Record
from benchmark.results import remote, store
from benchmark.results.load import RECORD, flat, run_folders
from benchmark.results.metrics import CLASS_COUNTS, mean_iou
from benchmark.results.validate import told

DRAWS = 2000
SPEC = (
    *("suite", "benchmark", "benchmark_version", "backbone", "weights", "method"),
    *("method_params", "method_traits", "seed", "protocol", "protocol_hash"),
)

Counts = Mapping[str, np.ndarray]
Change = tuple[str, Any, Any]
"""Dotted name, value in A, value in B; None where a side has none."""


@dataclass(frozen=True)
class Difference:
    """MIoU of B minus that of A on the same images, all in [-1, 1].

    Attributes:
        miou: the difference.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p: two-sided; how likely a difference as clear as this is where there is none.
        images: number of images that both were evaluated on.
        p_holm: `p` after Holm's correction over all pairs of a comparison.
    """

    miou: float
    low: float
    high: float
    p: float
    images: int
    p_holm: float

    def is_loss(self, tolerance: float = 0.0) -> bool:
        """Whether B is significantly worse than A, by `tolerance` points of mIoU at least."""
        return self.miou < 0 and self.p_holm < ALPHA and -100 * self.miou >= tolerance


@dataclass(frozen=True)
class Pair:
    """A run of A and a run of B.

    Attributes:
        a: record of the first.
        b: record of the second.
        difference: None where they cannot be compared.
        problem: why not.
    """

    a: Record
    b: Record
    difference: Difference | None
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two results folders; cells are matched by `name`.

    Attributes:
        pairs: cells that are done in both.
        only_a: cells that are done in A only.
        only_b: cells that are done in B only.
    """

    pairs: list[Pair]
    only_a: list[Record]
    only_b: list[Record]


def find(text: str, results: Path) -> Path:
    """The run's folder or the results folder that a user means.

    Args:
        text: id of a run or how it starts, or path or URL of a folder.
        results: where ids are looked for.

    Raises:
        UserError: there is none, or there are several.
    """
    if is_url(text):
        return remote.located(text)
    if text and Path(text).is_dir():
        return Path(text)
    found = store.find_runs(results, text) if text else []
    if not found:
        raise UserError(
            f"{told(text)!r} is neither a folder nor a run in {told(results)}; "
            "`plan` lists planned runs"
        )
    if len(found) > 1:
        ids = ", ".join(folder.name for folder in found[:6])
        raise UserError(f"run id {text!r} matches {len(found)} runs ({ids}); type more of it")
    return found[0]


def compare_runs(a: Path, b: Path) -> Pair:
    """Two runs by their folders.

    Raises:
        UserError: a record cannot be read.
    """
    return _pairs([(a, _record(a), b, _record(b))])[0]


def compare_folders(a: Path, b: Path) -> Comparison:
    """The runs of two results folders, cell by cell.

    Of several finished runs of one cell in a folder the latest counts.

    Raises:
        UserError: a folder has no finished run, or the two have no cell in common.
    """
    ours, theirs = _cells(a), _cells(b)
    both = [key for key in ours if key in theirs]
    if not both:
        raise UserError(
            f"{told(a)} and {told(b)} have no finished run in common "
            "(suite, benchmark, backbone, weights, method, seed and settings must be equal)"
        )
    return Comparison(
        pairs=_pairs([(*ours[key], *theirs[key]) for key in both]),
        only_a=[record for key, (_, record) in ours.items() if key not in theirs],
        only_b=[record for key, (_, record) in theirs.items() if key not in ours],
    )


def name(record: Record) -> str:
    """One cell in words."""
    parts = (record.suite, record.benchmark, record.backbone, record.method)
    return told(f"{' / '.join(parts)} / seed {record.seed}")


def spec_changes(a: Record, b: Record) -> list[Change]:
    """What was asked for differently."""
    fields = flat(a), flat(b)
    ours, theirs = ({key: value[key] for key in SPEC if key in value} for value in fields)
    return _changes(ours, theirs)


def environment_changes(a: Record, b: Record) -> list[Change]:
    """What the runs were made with: commit, packages, hardware, weights, data."""
    ours, theirs = (flat(record)["provenance"] for record in (a, b))
    return [change for change in _changes(ours, theirs) if change[0] != "started"]


def class_changes(a: Record, b: Record) -> list[Change]:
    """IoU of classes that both have, in [0, 1], the largest changes first."""
    if a.metrics is None or b.metrics is None:
        return []
    ours, theirs = a.metrics.class_iou, b.metrics.class_iou
    found = [
        (label, x, y)
        for label, x in ours.items()
        if x is not None and (y := theirs.get(label)) is not None and x != y
    ]
    return sorted(found, key=lambda change: -abs(change[2] - change[1]))


def metric_changes(a: Record, b: Record) -> list[Change]:
    """Metrics over all classes that differ."""
    ours, theirs = (flat(record).get("metrics", {}) for record in (a, b))
    return [change for change in _changes(ours, theirs) if not change[0].startswith("class_iou.")]


def cost_changes(a: Record, b: Record) -> list[Change]:
    """Costs that differ, in the units of the record."""
    ours, theirs = (flat(record).get("costs", {}) for record in (a, b))
    return _changes(ours, theirs)


def difference(a: Counts, b: Counts, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Paired bootstrap over images of the difference of two mIoUs.

    Images are drawn with replacement, the same ones for both; counts are summed and the mIoU is
    taken of the sums, over the classes that the drawn labels contain. The interval is that of the
    2.5 and 97.5 percentiles; p is twice the smaller share of draws on either side of zero (zero
    counts on both), with one draw added to each (Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, chapter 4), so that it is never below 2 / (draws + 1). Percentiles are a
    little too narrow on few images: of simulated pairs without a difference, 6.5 % had p < 0.05 on
    60 images, 6.9 % on 20.

    Args:
        a: `ids` (N,) and `intersection`, `prediction`, `label`, each (N, K) pixels.
        b: the same; images are matched by id.
        draws: B.
        seed: of the draws.

    Raises:
        ValueError: no image in common, or other classes or labels.
    """
    ours, theirs = _matched(a, b)
    images, classes = ours[0].shape
    # Columns: intersection and prediction of a, of b, and the label that they share.
    table = np.concatenate([*ours[:2], *theirs[:2], ours[2]], axis=1)
    observed = _difference(table.sum(0)[None], classes)[0]
    drawn = bootstrap(table, lambda sums: _difference(sums, classes), draws, seed)
    low, high = np.percentile(drawn, (2.5, 97.5))
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * float(tail + 1) / (draws + 1))
    return Difference(float(observed), float(low), float(high), p, images, p)


def _difference(sums: np.ndarray, classes: int) -> np.ndarray:
    """MIoU of b minus that of a; (B, 5K) sums of counts -> (B,)."""
    parts = sums.reshape(len(sums), 5, classes)
    label = parts[:, 4]
    return mean_iou(parts[:, 2], parts[:, 3], label) - mean_iou(parts[:, 0], parts[:, 1], label)


def _matched(a: Counts, b: Counts) -> tuple[list[np.ndarray], list[np.ndarray]]:
    _, first, second = np.intersect1d(a["ids"], b["ids"], return_indices=True)
    if not len(first):
        raise ValueError("no image in common")
    if a["label"].shape[1] != b["label"].shape[1]:
        raise ValueError("the classes differ")
    if not np.array_equal(a["label"][first], b["label"][second]):
        raise ValueError("the labels differ, so the data are not the same")
    # Images without labels carry no information, and a draw of only such images has no mIoU.
    labelled = a["label"][first].sum(1) > 0
    if not labelled.any():
        raise ValueError("no labelled image")
    first, second = first[labelled], second[labelled]
    return [a[kind][first] for kind in CLASS_COUNTS], [b[kind][second] for kind in CLASS_COUNTS]


def _pairs(chosen: Sequence[tuple[Path, Record, Path, Record]]) -> list[Pair]:
    # The smallest p that draws can give must stay significant after Holm's correction.
    draws = max(DRAWS, round(4 / ALPHA * len(chosen)))
    pairs = []
    for a, a_record, b, b_record in chosen:
        try:
            pairs.append(Pair(a_record, b_record, difference(_counts(a), _counts(b), draws)))
        except ValueError as error:
            pairs.append(Pair(a_record, b_record, None, str(error)))
    tested = [pair.difference.p for pair in pairs if pair.difference]
    corrected = iter(holm(tested))
    return [
        pair
        if pair.difference is None
        else Pair(pair.a, pair.b, _with_holm(pair.difference, next(corrected)))
        for pair in pairs
    ]


def _with_holm(d: Difference, p_holm: float) -> Difference:
    return Difference(d.miou, d.low, d.high, d.p, d.images, p_holm)


def _counts(folder: Path) -> Counts:
    try:
        remote.fetch(folder, [folder])
        counts = store.read_counts(folder)
        shape = counts["label"].shape
        fits = len(shape) == 2 and counts["ids"].shape == shape[:1]
        if fits and all(counts[kind].shape == shape for kind in CLASS_COUNTS):
            return counts
        problem = "shapes do not fit"
    # A torn archive makes its reader raise almost anything.
    except Exception as error:
        problem = told(error)
    raise ValueError(f"images.npz of {told(folder)} cannot be used: {problem}")


def _record(folder: Path) -> Record:
    record = store.read_record(folder)
    if record is None:
        raise UserError(f"{told(folder / RECORD)} cannot be read; `doctor` says why")
    return record


def _cells(root: Path) -> dict[tuple[Any, ...], tuple[Path, Record]]:
    runs = [
        (folder, record) for folder in run_folders(root) if (record := store.read_record(folder))
    ]
    done = [(folder, record) for folder, record in runs if record.status == "done"]
    if not done:
        raise UserError(f"no finished run in {told(root)}; name a results folder or a run id")
    done.sort(key=lambda run: (name(run[1]), run[1].provenance.started))
    return {
        (r.suite, r.benchmark, r.backbone, r.weights, r.method, r.seed, r.protocol_hash): (
            folder,
            r,
        )
        for folder, r in done
    }


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    ours, theirs = _dotted(a), _dotted(b)
    names = dict.fromkeys((*ours, *theirs))
    found = [(key, ours.get(key), theirs.get(key)) for key in names]
    return [change for change in found if change[1] != change[2]]


def _dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            rows |= _dotted(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = value
    return rows
