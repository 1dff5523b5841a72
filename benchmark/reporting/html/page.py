"""Renders the page: one HTML file with its styles, scripts and data inside."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.core.format import counted
from benchmark.reporting.answers import answers, not_run
from benchmark.reporting.commands import again
from benchmark.reporting.html.build import build
from benchmark.reporting.html.curves import Curves
from benchmark.reporting.html.images import Item
from benchmark.reporting.html.payload import Payload, packed, to_json
from benchmark.reporting.html.points import score_points
from benchmark.reporting.provenance import data_notes, protocols, provenance
from benchmark.reporting.terms import TERMS, used

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent
SCRIPTS = (
    "core", "table", "labels", "pareto", "board", "panel", "classes", "pairs", "curves", "gallery",
    "storage", "main",
)  # fmt: skip
"""In the order in which they must run."""


def render(
    title: str,
    runs: Runs,
    assessment: Assessment,
    gallery: Sequence[Item] = (),
    curves: Curves | None = None,
    reference: pd.DataFrame | None = None,
) -> str:
    """The page as one text, which needs no network and no other file.

    Args:
        title: heading, usually the suite.
        runs: the records, at least one.
        assessment: their intervals, tests and ranks.
        gallery: test images with predictions, made by `gallery.make_item`.
        curves: training curves, label efficiency, corruptions.
        reference: published numbers, as `benchmark.reporting.reference` reads them.

    Returns:
        HTML; encode it as UTF-8.
    """
    # Slow to load, and a table in the terminal does not need it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    points = score_points(runs, assessment)
    found = answers(runs, assessment, points)
    payload = build(runs, points, assessment, gallery, curves or Curves(), reference)
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("index.html.j2")
    content = dict(
        title=title,
        summary=_summary(runs),
        answers=list(found.values()),
        terms=TERMS,
        failures=_failures(runs),
        not_run=not_run(runs),
        protocols=protocols(runs.frame),
        provenance=provenance(runs.frame),
        notes=[*data_notes(runs.frame), *assessment.notes],
        agreement=_agreement(assessment),
        shown=_sections(payload),
        left_out=len(gallery) - len(payload["shots"]),
    )
    text = template.render(
        **content,
        used=_used(template, content, payload),
        css=_read("page.css"),
        plotly=_plotly(),
        scripts="\n".join(_read(f"{name}.js") for name in SCRIPTS),
        payload=packed(to_json(payload)),
    )
    # A name may hold half of a surrogate pair, which no file can.
    return str(text).encode("utf-8", "replace").decode("utf-8")


def _used(template: "Template", content: dict[str, Any], payload: Payload) -> dict[str, str]:
    """The terms that are on the page, in its text or in what the script writes into it."""
    nothing = dict.fromkeys(("css", "plotly", "scripts", "payload"), "")
    written = _MARKUP.sub(" ", template.render(**content, **nothing, used={}))
    headings = [axis["short"] for axis in payload["costs"]]
    fields = [field["label"] for field in payload["fields"]]
    said = [group["seeds"] + group["timing"] for group in payload["groups"]]
    drawn = {
        "IQM": any(value is not None for value in payload["points"]["iqm"]),
        "average rank": len(payload["benchmarks"]) > 1 and bool(payload["ranks"]["method"]),
        "critical difference": any(group["critical_difference"] for group in payload["groups"]),
    }
    more = [term for term, there in drawn.items() if there]
    return used("\n".join([written, *_HEADINGS, *headings, *fields, *more, *said]))


_MARKUP = re.compile(r"<[^>]*>")
_HEADINGS = ("rank", "95 % interval", "Done", "Seeds")
"""Of the leaderboard, which the script writes."""


@cache
def _plotly() -> str:
    """The library that draws, packed: a quarter of a second."""
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs())


def _summary(runs: Runs) -> list[tuple[int, str]]:
    names = ("method", "backbone", "benchmark", "seed")
    counts = [(int(runs.frame[name].nunique()), name) for name in names]
    finished, wanted = runs.progress
    ending = "finished run" if finished == 1 else "finished runs"
    if finished < wanted:
        ending = f"of {wanted:,} runs finished"
    return [
        *((count, name if count == 1 else f"{name}s") for count, name in counts),
        (finished, ending),
    ]


def _failures(runs: Runs) -> list[dict[str, str]]:
    rows = runs.failures.fillna("").to_dict("records")
    found = [{str(name): str(value) for name, value in row.items()} for row in rows]
    for row in found:
        words = again(runs, row["command"], row["backbone"], row["weights"])
        row["command"], row["missing"] = words
    return found


def _agreement(assessment: Assessment) -> list[str]:
    """Whether backbones, decoders, benchmarks and papers rank the methods alike."""
    known = assessment.agreement.dropna(subset=["tau"])
    between = known["kind"] == "benchmark"
    texts = [
        f"{row.a} and {row.b}: Kendall’s tau {row.tau:.2f}, p = {row.p:.2g}, {row.methods} methods."
        for row in known[~between].itertuples()
    ]
    for (backbone, _, _), rows in known[between].groupby(GROUP, sort=False):
        tau = rows["tau"]
        texts.append(
            f"Two benchmarks, on {backbone}: Kendall’s tau {tau.median():.2f} (median; "
            f"{tau.min():.2f} to {tau.max():.2f}), {counted(len(rows), 'pair')} of benchmarks."
        )
    return texts


def _sections(payload: Any) -> dict[str, bool]:
    """Which sections have something to show."""
    return {
        "classes": bool(payload["classes"]),
        "pairs": bool(payload["pairs"]["a"]) or bool(payload["ranks"]["method"]),
        "curves": bool(payload["series"]),
        "gallery": bool(payload["shots"]),
        "reference": bool(payload["reference"]["method"]),
    }


def _read(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")
