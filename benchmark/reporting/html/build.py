"""From runs, assessment, pictures and curves to the payload of the page."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.analysis.costs import BACKBONE, COSTS
from benchmark.analysis.leaderboard import GROUP, MIOU, shared_benchmarks
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.reporting.html import curves as lines
from benchmark.reporting.html.evidence import (
    Index,
    critical_difference,
    front_frame,
    leading,
    pair_frame,
    rank_frame,
)
from benchmark.reporting.html.images import Item, fitting, shot
from benchmark.reporting.html.payload import (
    SCHEMA_VERSION,
    Frame,
    Group,
    Method,
    Payload,
    columns,
    number,
    numbers,
)
from benchmark.reporting.html.points import AXES, FIELDS, with_fields
from benchmark.reporting.seed_notes import about_seeds
from benchmark.reporting.terms import TERMS
from benchmark.reporting.timing_notes import conditions, explained

SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
    "P": "cross", "X": "x", "*": "star", "<": "triangle-left", ">": "triangle-right",
    "p": "pentagon",
}  # fmt: skip
"""Matplotlib's markers in plotly's words."""
_DARK = {"#000000": "#f2f2f2", "#0072B2": "#3d9be0"}
_RUN = (
    *("seed", "status", "reason", "run_id", "command", "provenance.started"),
    *("provenance.device", "provenance.threads"),
)
_COUNTED = {cost.published: cost.column for cost in COSTS if cost.published}
"""What published numbers count: the cost that counts the same."""


def build(
    runs: Runs,
    points: pd.DataFrame,
    found: Assessment,
    gallery: Sequence[Item],
    curves: lines.Curves,
    reference: pd.DataFrame | None,
) -> Payload:
    """Gathers what the script draws.

    Args:
        runs: the records.
        points: as `score_points` returns them.
        found: pairs, ranks and fronts.
        gallery: pictures; those on which methods disagree least are left out if all are too large.
        curves: lines that need more than the records.
        reference: published numbers, in the columns of `benchmark.reporting.reference`.

    Returns:
        The payload, of JSON values alone.
    """
    frame = with_fields(runs.frame)
    index = Index(frame, list(runs.names))
    drawn = lines.series(frame, curves, index)
    present = {line["kind"] for line in drawn}
    known = {key: place for place, key in enumerate(index.keys)}
    axes = [axis for axis in AXES if points[axis["column"]].notna().any()]
    return Payload(
        schema=SCHEMA_VERSION,
        groups=_groups(runs, found, index),
        methods=_methods(index),
        benchmarks=index.benchmarks,
        costs=axes,
        terms=TERMS,
        fields=[field for field in FIELDS if frame[field["column"]].notna().any()],
        points=_points(points, index),
        runs=_runs(frame, index),
        classes=_classes(runs, points, index),
        pairs=pair_frame(found, points, index),
        ranks=rank_frame(found, index),
        fronts=front_frame(found, points, [axis["column"] for axis in axes], index),
        reference=_reference(reference),
        kinds=[kind for kind in lines.KINDS if kind["name"] in present],
        series=drawn,
        shots=[
            shot(item, known, {name: place for place, name in enumerate(index.names)})
            for item in fitting(gallery)
        ],
    )


def _groups(runs: Runs, found: Assessment, index: Index) -> list[Group]:
    groups = []
    for key, own in runs.groups.items():
        benchmarks = pd.Series(sorted(own.frame["benchmark"].unique()))
        shared = pd.Series(shared_benchmarks(own.cells), dtype=object)
        groups.append(
            Group(
                backbone=key[0],
                weights=key[1],
                protocol=key[2],
                label=runs.names[key].label,
                benchmarks=index.scopes(benchmarks),
                shared=index.scopes(shared),
                critical_difference=critical_difference(found, key),
                parameters=number(own.current[BACKBONE].max()),
                seeds=about_seeds(own.cells),
                timing=explained(own),
                conditions=conditions(own.frame),
            )
        )
    return groups


def _methods(index: Index) -> list[Method]:
    # Matplotlib is slow to load.
    from benchmark.reporting.style import method_styles

    styles = method_styles(index.names)
    return [
        Method(
            name=name,
            colour=styles[name].colour,
            dark=_DARK.get(styles[name].colour, styles[name].colour),
            symbol=SYMBOLS[styles[name].marker],
        )
        for name in index.names
    ]


def _points(points: pd.DataFrame, index: Index) -> Frame:
    table = points.assign(
        group=index.groups(points),
        scope=index.scopes(points["scope"]),
        method=index.methods(points["method"]),
        miou=points[MIOU],
    )
    costs = [axis["column"] for axis in AXES if points[axis["column"]].notna().any()]
    names = ["group", "scope", "method", "rank", "rank_to", "miou", "low", "high", "complete"]
    return columns(table, [*names, "status", "seeds", "covers", "iqm", *costs])


def _runs(runs: pd.DataFrame, index: Index) -> Frame:
    table = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *_RUN])))
    table = table.assign(
        group=index.groups(table),
        benchmark=index.scopes(table["benchmark"].astype(str)),
        method=index.methods(table["method"]),
    ).sort_values(["group", "benchmark", "method", "seed"], kind="stable")
    fields = [field["column"] for field in FIELDS if runs[field["column"]].notna().any()]
    return columns(table, ["group", "benchmark", "method", *_RUN, *fields])


def _classes(runs: Runs, points: pd.DataFrame, index: Index) -> list[dict[str, Any]]:
    """IoU of each class, of the leading methods of a group."""
    known = leading(points)
    result = []
    for place, benchmark in enumerate(index.benchmarks):
        table = runs.per_class(benchmark).merge(known, on=[*GROUP, "method"])
        for key, part in table.groupby(GROUP):
            scores = part.drop(columns=[*GROUP, "method"]).dropna(axis=1, how="all")
            result.append(
                {
                    "group": index.group(tuple(map(str, key))),
                    "benchmark": place,
                    "names": [str(name) for name in scores.columns],
                    "methods": index.methods(part["method"]),
                    "iou": [numbers(row) for row in scores.to_numpy(dtype=float).tolist()],
                }
            )
    return result


def _reference(reference: pd.DataFrame | None) -> Frame:
    names = ["method", "backbone", "decoder", "miou", "params", "cost", "source"]
    if reference is None or reference.empty:
        return {name: [] for name in names}
    table = reference.dropna(subset=["miou", "params"])
    return columns(table.assign(cost=table["counts"].map(_COUNTED)), names)
