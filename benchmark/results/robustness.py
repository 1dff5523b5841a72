"""What corrupted images do to a run's mIoU: the schema of `robustness.json`, beside a record.

Numpy only: counts are in `robustness.npz`, so that every figure here can be derived again: `pairs`
(P,) of `<corruption>/<severity>`, and the kinds of counts of `images.npz`, each (P, N, K).
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.results.metrics import CLASS_COUNTS, mean_iou
from benchmark.results.npz import DAMAGE, write_npz
from benchmark.results.provenance import git_state

SCHEMA_VERSION = 1
Pair = tuple[str, int]
"""A corruption and a severity."""
Counts = Mapping[str, np.ndarray]


class Score(BaseModel):
    """mIoU under one corruption at one severity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    corruption: str
    group: str
    severity: int
    miou: float  # [0, 1]


class Robustness(BaseModel):
    """One run on corrupted images of the split that its record was evaluated on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    run_id: str
    split: str
    clean_miou: float  # as in the record
    scores: tuple[Score, ...]
    corruptions_version: int  # of the corruptions; scores of several versions never mix
    git_commit: str | None  # of the code that measured last
    git_dirty: bool | None

    def only(self, pairs: Collection[Pair]) -> "Robustness":
        """The scores of these pairs alone, so that runs are compared on the same ones."""
        chosen = tuple(s for s in self.scores if (s.corruption, s.severity) in pairs)
        return self.model_copy(update={"scores": chosen})

    def mean(self, group: str | None = None, severity: int | None = None) -> float | None:
        """Mean mIoU over corruptions and severities; None where nothing was measured."""
        chosen = [
            score.miou
            for score in self.scores
            if group in (None, score.group) and severity in (None, score.severity)
        ]
        return sum(chosen) / len(chosen) if chosen else None

    @property
    def relative_drop(self) -> float | None:
        """Share of the clean mIoU that is lost on average; None where nothing was measured."""
        mean = self.mean()
        return None if mean is None or not self.clean_miou else 1 - mean / self.clean_miou


def miou(counts: Counts) -> float:
    """MIoU of a split, over the classes present in its labels."""
    return float(mean_iou(*(counts[kind].sum(0) for kind in CLASS_COUNTS)))


def make(
    run_id: str,
    split: str,
    clean_miou: float,
    groups: Mapping[str, str],
    counts: Counts,
    version: int,
) -> Robustness:
    """Sums up counts that are named `<corruption>/<severity>/<kind>`.

    Args:
        run_id: of the run.
        split: that was corrupted.
        clean_miou: of the same images as they are.
        groups: group of each corruption.
        counts: of all corruptions and severities.
        version: of the corruptions.
    """
    commit, dirty = git_state()
    pairs = dict.fromkeys(tuple(key.split("/")[:2]) for key in counts)
    scores = tuple(
        Score(
            corruption=name,
            group=groups[name],
            severity=int(severity),
            miou=miou({kind: counts[f"{name}/{severity}/{kind}"] for kind in CLASS_COUNTS}),
        )
        for name, severity in pairs
    )
    return Robustness(
        run_id=run_id,
        split=split,
        clean_miou=clean_miou,
        scores=scores,
        corruptions_version=version,
        git_commit=commit,
        git_dirty=dirty,
    )


def read(folder: Path) -> Robustness | None:
    """The scores in a run's folder; None where there are none that can be read."""
    try:
        return Robustness.model_validate_json((folder / "robustness.json").read_bytes())
    except (OSError, ValidationError):
        return None


def read_counts(folder: Path, version: int) -> dict[str, np.ndarray]:
    """The counts in a run's folder; empty where there are none of this version."""
    result = read(folder)
    if result is None or result.corruptions_version != version:
        return {}
    known = {(score.corruption, str(score.severity)) for score in result.scores}
    try:
        with np.load(folder / "robustness.npz", allow_pickle=False) as archive:
            counts = _unstacked(archive) if "pairs" in archive else dict(archive)
    except DAMAGE:
        return {}
    return {key: array for key, array in counts.items() if tuple(key.split("/")[:2]) in known}


def read_names(path: Path) -> set[str]:
    """Names of the counts in a `robustness.npz`, which are not decoded."""
    with np.load(path, allow_pickle=False) as archive:
        if "pairs" not in archive:  # of a version that stored each array alone
            return set(archive.files)
        kinds = set(archive.files) - {"pairs"}
        return {f"{pair}/{kind}" for pair in archive["pairs"] for kind in kinds}


def write(folder: Path, result: Robustness, counts: Counts) -> None:
    """Writes counts, then the scores, each renamed into place."""
    partial = folder / f".robustness.{os.getpid()}"
    try:
        with partial.open("wb") as file:
            write_npz(file, _stacked(counts))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / "robustness.npz")
        partial.write_text(result.model_dump_json(indent=1) + "\n")
        os.replace(partial, folder / "robustness.json")
    finally:
        partial.unlink(missing_ok=True)


def _stacked(counts: Counts) -> dict[str, np.ndarray]:
    """One array a kind: labels, the same in every pair, then take almost no space."""
    pairs = list(dict.fromkeys(key.rpartition("/")[0] for key in counts))
    arrays = {kind: np.array([counts[f"{pair}/{kind}"] for pair in pairs]) for kind in CLASS_COUNTS}
    return {"pairs": np.array(pairs, dtype=str), **arrays}


def _unstacked(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    kinds = {kind: arrays[kind] for kind in CLASS_COUNTS}
    return {
        f"{pair}/{kind}": array[place]
        for place, pair in enumerate(arrays["pairs"])
        for kind, array in kinds.items()
    }
