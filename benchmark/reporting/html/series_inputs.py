"""Reads the lines of the page from the files beside the records."""

from benchmark.analysis.efficiency import ALL, corruption_curves, curve_names
from benchmark.analysis.leaderboard import GROUP, MIOU, Key
from benchmark.analysis.runs import Runs
from benchmark.reporting.html.curves import Curves, Line


def gather(runs: Runs) -> Curves:
    """The lines of all runs whose folders are known.

    Args:
        runs: the records, with `folder`.
    """
    return Curves(_training(runs), _fractions(runs), _corruptions(runs))


def _training(runs: Runs) -> dict[tuple[Key, str, str], list[tuple[float, float]]]:
    """Losses, averaged over the seeds that reached a step."""
    keys = [*GROUP, "benchmark", "method"]
    steps = runs.training_curves
    means = steps.groupby([*keys, "step"])["loss"].mean().reset_index()
    result = {}
    for names, part in means.groupby(keys):
        backbone, weights, protocol, benchmark, method = map(str, names)
        points = zip(part["step"].tolist(), part["loss"].tolist(), strict=True)
        result[(backbone, weights, protocol), benchmark, method] = list(points)
    return result


def _fractions(runs: Runs) -> list[Line]:
    table = runs.label_efficiency
    curves = curve_names(runs.frame, table)
    lines = []
    for names, part in table.groupby([*GROUP[:2], "family", "benchmark", "method"]):
        backbone, weights, family, benchmark, method = map(str, names)
        part = part.sort_values("fraction")
        half = part["ci95"].fillna(0)
        lines.append(
            Line(
                panel=f"{benchmark}: {curves[backbone, weights, family]}",
                method=method,
                x=part["fraction"].tolist(),
                y=part[MIOU].tolist(),
                low=(part[MIOU] - half).tolist(),
                high=(part[MIOU] + half).tolist(),
            )
        )
    return lines


def _corruptions(runs: Runs) -> list[Line]:
    table = corruption_curves(runs.corruption_scores)
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
