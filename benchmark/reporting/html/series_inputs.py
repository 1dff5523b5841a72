"""Reads the lines of the page from the files beside the records."""

from pathlib import Path

import pandas as pd

from benchmark.analysis.curves import training_curves
from benchmark.analysis.efficiency import (
    ALL,
    corruption_curves,
    corruption_scores,
    label_efficiency,
)
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.reporting.html.curves import Curves, Line
from benchmark.reporting.html.payload import Key


def gather(runs: pd.DataFrame, root: Path) -> Curves:
    """The lines of all runs whose folders are known.

    Args:
        runs: one row a record, with `folder`.
        root: what the runs were loaded from.
    """
    return Curves(_training(runs, root), _fractions(runs), _corruptions(runs, root))


def _training(
    runs: pd.DataFrame, root: Path
) -> dict[tuple[Key, str, str], list[tuple[float, float]]]:
    """Losses, averaged over the seeds that reached a step."""
    keys = [*GROUP, "benchmark", "method"]
    steps = training_curves(runs, root)
    means = steps.groupby([*keys, "step"])["loss"].mean().reset_index()
    result = {}
    for names, part in means.groupby(keys):
        backbone, weights, protocol, benchmark, method = map(str, names)
        points = zip(part["step"].tolist(), part["loss"].tolist(), strict=True)
        result[(backbone, weights, protocol), benchmark, method] = list(points)
    return result


def _fractions(runs: pd.DataFrame) -> list[Line]:
    table = label_efficiency(runs)
    several = table["family"].nunique() > 1
    lines = []
    for names, part in table.groupby([*GROUP[:2], "family", "benchmark", "method"]):
        backbone, weights, family, benchmark, method = map(str, names)
        words = [backbone]
        if table["weights"].nunique() > 1:
            words.append(f"weights {weights}")
        if several:
            words.append(f"protocols {family}")
        part = part.sort_values("fraction")
        half = part["ci95"].fillna(0)
        lines.append(
            Line(
                panel=f"{benchmark}: {', '.join(words)}",
                method=method,
                x=part["fraction"].tolist(),
                y=part[MIOU].tolist(),
                low=(part[MIOU] - half).tolist(),
                high=(part[MIOU] + half).tolist(),
            )
        )
    return lines


def _corruptions(runs: pd.DataFrame, root: Path) -> list[Line]:
    table = corruption_curves(corruption_scores(runs, root))
    several = table["corruptions_version"].nunique() > 1
    lines = []
    for names, part in table.groupby([*GROUP, "corruptions_version", "group", "method"]):
        backbone, weights, protocol, version, group, method = map(str, names)
        part = part.sort_values("severity")
        panel = "all corruptions" if group == ALL else group
        lines.append(
            Line(
                panel=f"{panel}, version {version}" if several else panel,
                method=method,
                x=part["severity"].tolist(),
                y=part["miou"].tolist(),
                group=(backbone, weights, protocol),
            )
        )
    return lines
