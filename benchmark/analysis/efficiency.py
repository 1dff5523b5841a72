"""MIoU when data are few or corrupted: tables over the training fraction and over corruptions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.analysis.curves import folders_of
from benchmark.analysis.groups import (
    apart,
    protocol_settings,
    random_weights,
    short_backbones,
)
from benchmark.analysis.leaderboard import GROUP, MIOU, cells, current, leaderboard
from benchmark.core.spec import short_hash
from benchmark.results.robustness import read

AVERAGE = "average"
"""In the column `benchmark`: the mean over benchmarks."""

ALL = "all"
"""In the column `group`: all corruptions together."""

COMPARED = ["backbone", "weights", "protocol_hash", "corruptions_version"]
"""Scores that differ in one of these columns are never compared."""

CURVES = ["backbone", "weights", "family"]
"""The points of a curve over the fraction agree in these columns."""

_POINT = ["family", "fraction"]


def label_efficiency(runs: pd.DataFrame) -> pd.DataFrame:
    """MIoU against the share of the training images, for protocols that differ in it alone.

    Args:
        runs: one row a record; runs of different fractions differ in `protocol_hash`.

    Returns:
        GROUP, `family` (equal for protocols that agree in all but the fraction), `fraction`,
        `benchmark`, `method`, `metrics.miou`, `ci95` (half width over seeds) and `seeds`. The rows
        of benchmark "average" are over the benchmarks that the whole family has, for methods that
        finished them. What has one fraction alone is left out: it makes no curve.
    """
    known = _families(runs)
    known = known[known.groupby("family")["fraction"].transform("nunique") > 1]
    columns = [*GROUP, *_POINT, "benchmark", "method", MIOU, "ci95", "seeds"]
    parts = []
    for _, protocols in known.groupby("family", sort=True):
        for _, own in runs.merge(protocols, on="protocol_hash").groupby(GROUP[:2], sort=True):
            if own["fraction"].nunique() > 1:
                parts.append(_family_table(own)[columns])
    if not parts:
        return pd.DataFrame(columns=columns)
    curve = [*GROUP[:2], "family", "benchmark", "method"]
    table = pd.concat(parts)
    table = table[table.groupby(curve)["fraction"].transform("nunique") > 1]
    return table.sort_values([*curve, "fraction"]).reset_index(drop=True)


def curve_names(runs: pd.DataFrame, table: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """What each curve of `label_efficiency` is called: its backbone, and what else differs.

    Args:
        runs: one row a record.
        table: what `label_efficiency` made of them.

    Returns:
        By the values of `CURVES`, in words.
    """
    known = _families(runs).set_index("protocol_hash")["family"]
    used, settings = set(table["family"]), protocol_settings(runs)
    own = {family: _without_fraction(settings[str(key)]) for key, family in known.items()}
    words = apart({family: fields for family, fields in own.items() if family in used})
    keys = list(table[CURVES].astype(str).drop_duplicates().itertuples(index=False, name=None))
    backbones = short_backbones({key[0] for key in keys})
    names = [[backbones[key[0]], *random_weights(key[1]), *words[key[2]]] for key in keys]
    return {
        key: ", ".join(own if names.count(own) == 1 else [*own, f"protocols {key[2][:8]}"])
        for key, own in zip(keys, names, strict=True)
    }


def corruption_scores(current: pd.DataFrame, root: Path) -> pd.DataFrame:
    """What corruptions do to each run, on what all methods were measured on.

    Runs are compared within `COMPARED`. Kept are the benchmarks on which every method there was
    measured, and of them the pairs of corruption and severity that every run has.

    Args:
        current: what `leaderboard.current` returned, with `folder`.
        root: what the runs were loaded from.

    Returns:
        `COMPARED`, `benchmark`, `method`, `seed`, `group`, `corruption`, `severity` and `miou`; the
        clean mIoU of a run is at severity 0 with group and corruption "clean".
    """
    columns = [
        *COMPARED,
        "benchmark",
        "method",
        "seed",
        "group",
        "corruption",
        "severity",
        "miou",
    ]
    rows: list[dict[str, Any]] = []
    for key, folder in folders_of(current[current["status"] == "done"], root):
        found = read(folder)
        if found is None or not found.scores:
            continue
        run = key | {"corruptions_version": found.corruptions_version}
        clean = {"group": "clean", "corruption": "clean", "severity": 0, "miou": found.clean_miou}
        rows.append(run | clean)
        rows += [
            run | score.model_dump(include={"group", "corruption", "severity", "miou"})
            for score in found.scores
        ]
    frame = pd.DataFrame(rows, columns=columns)
    kept = [_shared(part) for _, part in frame.groupby(COMPARED, sort=True)]
    return pd.concat(kept).reset_index(drop=True) if kept else frame


def corruption_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Clean and corrupted mIoU of each method, averaged over the benchmarks.

    Args:
        scores: as `corruption_scores` returns them.

    Returns:
        `COMPARED`, `method`, `benchmarks` (how many), `pairs` (corruption and severity), `clean`
        and `mean` mIoU, and `relative_drop`, the share of the clean mIoU that is lost,
        1 - mean / clean; the smallest drop comes first.
    """
    keys = [*COMPARED, "method"]
    clean = scores["severity"] == 0
    steps = {"clean": scores[clean], "mean": scores[~clean]}
    means = {name: _over_benchmarks(part, keys) for name, part in steps.items()}
    table = pd.DataFrame(means)
    noisy = scores[~clean].assign(pair=scores["corruption"] + "/" + scores["severity"].astype(str))
    table.insert(0, "benchmarks", noisy.groupby(keys)["benchmark"].nunique())
    table.insert(1, "pairs", noisy.groupby(keys)["pair"].nunique())
    table["relative_drop"] = 1 - table["mean"] / table["clean"]
    order = [*COMPARED, "relative_drop", "method"]
    return table.reset_index().sort_values(order).reset_index(drop=True)


def corruption_curves(scores: pd.DataFrame) -> pd.DataFrame:
    """MIoU against severity for each group of corruptions and for all of them.

    A corruption counts if it was measured at every severity of its group, so that all points of a
    line are over the same corruptions.

    Args:
        scores: as `corruption_scores` returns them.

    Returns:
        `COMPARED`, `group` ("all" for all), `method`, `severity` (0 is clean) and `miou`, averaged
        over the benchmarks.
    """
    noisy = scores[scores["severity"] > 0]
    keys = [*COMPARED, "group", "method", "severity"]
    parts = []
    for group, own in [(ALL, noisy), *noisy.groupby("group", sort=True)]:
        for _, part in own.groupby(COMPARED, sort=True):
            counts = part.groupby("corruption")["severity"].transform("nunique")
            whole = part[counts == part["severity"].nunique()]
            if whole.empty:
                continue
            runs = whole[[*COMPARED, "benchmark", "method", "seed"]].drop_duplicates()
            clean = scores[scores["severity"] == 0].merge(runs)
            both = pd.concat([clean, whole]).assign(group=group)
            parts.append(_over_benchmarks(both, keys).rename("miou").reset_index())
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*keys, "miou"])


def _families(runs: pd.DataFrame) -> pd.DataFrame:
    """`protocol_hash`, `family` and `fraction` of each protocol of the runs."""
    rows = [
        {
            "protocol_hash": key,
            "family": short_hash(_without_fraction(settings)),
            "fraction": float(settings["fraction"]),
        }
        for key, settings in protocol_settings(runs).items()
    ]
    return pd.DataFrame(rows, columns=["protocol_hash", *_POINT])


def _without_fraction(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the protocols of one family have in common."""
    return {name: value for name, value in settings.items() if name != "fraction"}


def _family_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Cells and averages of the runs of one family, backbone and kind of weights."""
    points = runs[["protocol_hash", *_POINT]].drop_duplicates()
    latest = current(runs)
    table = cells(latest)
    everywhere = table.groupby("benchmark")["protocol_hash"].nunique() == len(points)
    shared = everywhere.index[everywhere]
    common = [rows[rows["benchmark"].isin(shared)] for rows in (latest, table)]
    both = [table, leaderboard(*common).assign(benchmark=AVERAGE)] if len(shared) > 1 else [table]
    return pd.concat(both).dropna(subset=[MIOU]).merge(points, on="protocol_hash")


def _shared(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores on benchmarks that all methods have, and on pairs that all of their runs have."""
    methods = scores.groupby("benchmark")["method"].nunique()
    common = methods.index[methods == scores["method"].nunique()]
    scores = scores[scores["benchmark"].isin(common)]
    run = ["benchmark", "method", "seed"]
    runs = scores[run].drop_duplicates().shape[0]
    # The clean score is a pair of its own that every run has.
    pairs = scores.groupby(["corruption", "severity"])["miou"].transform("size")
    kept = scores[pairs == runs]
    return kept if (kept["severity"] > 0).any() else kept.iloc[:0]


def _over_benchmarks(scores: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Mean over corruptions and seeds within a benchmark, then over benchmarks."""
    within = scores.groupby([*keys, "benchmark"])["miou"].mean()
    return within.groupby(level=list(range(len(keys)))).mean().rename_axis(keys)
